// SPDX-License-Identifier: Apache-2.0

package callout_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"callout.test/callout"
	"callout.test/callout/callouttest"
)

// careless is a plugin whose hooks the test gives.
type careless struct {
	open  func(*callout.OpenCall) error
	do    func(*callout.HeadersCall) error
	body  func(*callout.BodyCall) error
	check func(*callout.CheckCall) error
	end   func(*callout.TrailersCall) error
}

func (plugin *careless) OnStreamOpen(call *callout.OpenCall) error {
	if plugin.open == nil {
		return nil
	}
	return plugin.open(call)
}
func (plugin *careless) OnRequestHeaders(call *callout.HeadersCall) error    { return plugin.do(call) }
func (plugin *careless) OnRequestBody(call *callout.BodyCall) error          { return plugin.body(call) }
func (plugin *careless) OnCheck(call *callout.CheckCall) error               { return plugin.check(call) }
func (plugin *careless) OnRequestTrailers(call *callout.TrailersCall) error  { return plugin.end(call) }
func (plugin *careless) OnResponseTrailers(call *callout.TrailersCall) error { return plugin.end(call) }

func newInstance(t testing.TB, plugin *careless) *callouttest.Plugin {
	t.Helper()
	return callouttest.New(t, func(*callout.Setup, struct{}) (*careless, error) { return plugin, nil }, "")
}

// does passes a request to a hook.
func does(t testing.TB, hook func(*callout.HeadersCall) error) *callouttest.Answer {
	t.Helper()
	return newInstance(t, &careless{do: hook}).Stream().RequestHeaders(":path", "/")
}

func wantFault(t *testing.T, answer *callouttest.Answer, status callout.Status, text string) {
	t.Helper()
	var failure *callout.Error
	if !errors.As(answer.Err(), &failure) || failure.Status != status || !strings.Contains(failure.Text, text) {
		t.Errorf("got %v, want %v: %s", answer.Err(), status, text)
	}
}

func TestADeferredFunctionMayDeferInItsTurn(t *testing.T) {
	chain := func(last error) *callouttest.Answer {
		return does(t, func(call *callout.HeadersCall) error {
			return call.Defer(func(context.Context) error {
				call.SetHeader("x-first", "1")
				return call.Defer(func(ctx context.Context) error {
					return call.Defer(func(ctx context.Context) error {
						if ctx.Err() != nil {
							return ctx.Err()
						}
						call.SetHeader("x-third", "3")
						return last
					})
				})
			})
		})
	}
	answer := chain(nil)
	want(t, answer.Err(), nil)
	want(t, answer.Header("x-first")+answer.Header("x-third"), "13")
	wantFault(t, chain(errors.New("at last")), callout.Internal, "at last")
	denied := does(t, func(call *callout.HeadersCall) error {
		return call.Defer(func(context.Context) error {
			return call.Defer(func(context.Context) error { return call.Deny(403, "") })
		})
	})
	want(t, denied.HTTPStatus(), 403)
}

func TestWorkThatIsDeferredIsNeverDropped(t *testing.T) {
	nothing := func(context.Context) error { return nil }
	ran := false
	twice := does(t, func(call *callout.HeadersCall) error {
		_ = call.Defer(func(context.Context) error { ran = true; return nil })
		_ = call.Defer(nothing)
		return nil
	})
	wantFault(t, twice, callout.InvalidArgument, "Defer() was called twice in one function")
	want(t, ran, false)
	later := does(t, func(call *callout.HeadersCall) error {
		return call.Defer(func(context.Context) error {
			_ = call.Defer(nothing)
			return call.Defer(nothing)
		})
	})
	wantFault(t, later, callout.InvalidArgument, "Defer() was called twice in one function")
	wantFault(t, does(t, func(call *callout.HeadersCall) error { return call.Defer(nil) }), callout.InvalidArgument, "Defer() was given no function")

	stream := newInstance(t, &careless{
		open: func(call *callout.OpenCall) error { _ = call.Defer(nothing); return nil },
		do:   func(*callout.HeadersCall) error { return nil },
	}).Stream()
	wantFault(t, stream.RequestHeaders(), callout.InvalidArgument, "Defer() has no place in OnStreamOpen")
}

// broken is an error with methods that panic.
type broken struct{ text *string }

func (err broken) Error() string { return *err.text }

func TestAnErrorThatIsNilOrPanicsIsAFault(t *testing.T) {
	var missing *callout.Error
	for _, deferred := range []bool{false, true} {
		fails := func(err error) *callouttest.Answer {
			return does(t, func(call *callout.HeadersCall) error {
				if deferred {
					return call.Defer(func(context.Context) error { return err })
				}
				return err
			})
		}
		wantFault(t, fails(missing), callout.Internal, "the error is a nil *callout.Error")
		wantFault(t, fails(broken{}), callout.Internal, "panic in a method of an error of the type callout_test.broken: ")
		wantFault(t, fails(fmt.Errorf("more: %w", missing)), callout.Internal, "the error is a nil *callout.Error")
	}
	for _, err := range []error{missing, broken{}} {
		plugin := newInstance(t, &careless{open: func(*callout.OpenCall) error { return err }})
		wantFault(t, plugin.Stream().RequestHeaders(), callout.Internal, "")
		refused := callouttest.Refusal(t, func(*callout.Setup, struct{}) (*careless, error) { return nil, err }, "")
		if refused == "" {
			t.Error("the configuration was taken")
		}
	}
	denied := does(t, func(call *callout.HeadersCall) error {
		_ = call.Deny(403, "no")
		return missing
	})
	want(t, denied.Refuses(), true)
	wantFault(t, denied, callout.Internal, "nil *callout.Error")
}

// hopeless panics with itself, again and again.
type hopeless struct{}

func (err hopeless) Error() string { panic(err) }

func TestAPanicWithWhatCannotBePrintedIsAFault(t *testing.T) {
	const text = "a value of the type callout_test.hopeless, whose text panics"
	wantFault(t, does(t, func(*callout.HeadersCall) error { panic(hopeless{}) }), callout.Internal, text)
	wantFault(t, does(t, func(*callout.HeadersCall) error { return hopeless{} }), callout.Internal, text)
}

func TestAnErrorThatIsWrappedKeepsItsStatus(t *testing.T) {
	inner := callout.Errorf(callout.Unavailable, "not now")
	answer := does(t, func(*callout.HeadersCall) error { return fmt.Errorf("users: %w", inner) })
	want(t, answer.Err(), error(&callout.Error{Status: callout.Unavailable, Text: "users: not now"}))
	stream := newInstance(t, &careless{open: func(*callout.OpenCall) error {
		return fmt.Errorf("token: %w", callout.Errorf(callout.Unauthenticated, "none"))
	}}).Stream()
	want(t, stream.RequestHeaders().Err(), error(&callout.Error{Status: callout.Unauthenticated, Text: "token: none"}))
	// What a service says is no decision of the plugin.
	said := &callout.CallError{Status: callout.PermissionDenied, FromService: true, Text: "no"}
	answer = does(t, func(*callout.HeadersCall) error { return fmt.Errorf("users: %w", said) })
	wantFault(t, answer, callout.Internal, "users: PERMISSION_DENIED: no")
	// A refusal is told before a decision, which adds nothing to it, wrapped or not.
	denied := does(t, func(call *callout.HeadersCall) error {
		_ = call.Deny(403, "no")
		return fmt.Errorf("more: %w", callout.Errorf(callout.PermissionDenied, "later"))
	})
	wantDenied(t, denied, 403)
}

// problems takes the place of a test that is to fail.
type problems struct {
	testing.TB
	texts []string
}

func (found *problems) Errorf(format string, arguments ...any) {
	found.texts = append(found.texts, fmt.Sprintf(format, arguments...))
}

func TestACallThatIsOverIsUsedWithoutEffect(t *testing.T) {
	for _, deferred := range []bool{false, true} {
		var kept *callout.HeadersCall
		var span callout.Span
		found := &problems{TB: t}
		plugin := newInstance(found, &careless{do: func(call *callout.HeadersCall) error {
			kept, span = call, call.Span()
			call.SetStream("kept")
			if deferred {
				return call.Defer(func(context.Context) error { return nil })
			}
			return nil
		}})
		stream := plugin.Stream()
		answer := stream.RequestHeaders(":path", "/")
		want(t, found.texts, nil)

		kept.SetStream("changed")
		want(t, kept.Stream(), nil)
		want(t, kept.Context().Err(), context.Canceled)
		want(t, kept.IsCancelled(), true)
		want(t, kept.Headers().Get(":path"), "/") // a copy
		kept.SetHeader("x-late", "1")
		kept.Hold()
		kept.ReplaceBody(nil)
		_, hasMetadata := kept.GRPCMetadata("x")
		_, hasContext := kept.TraceContext()
		want(t, hasMetadata || hasContext || kept.Peer() != "" || len(kept.GRPCMetadataEntries()) > 0, false)
		want(t, span.Set("late", 1) || span.Event("late", nil), false)
		for _, err := range []error{
			kept.Deny(403, ""), kept.SetMetadata("a", map[string]string{}), kept.ExtendTimeout(time.Second),
			kept.Defer(func(context.Context) error { return nil }),
		} {
			if err == nil || !strings.Contains(err.Error(), "the call is over") {
				t.Errorf("got %v", err)
			}
		}
		want(t, answer.IsEmpty() && len(answer.SpanAttributes()) == 0, true)
		want(t, stream.RequestHeaders().IsEmpty(), true)

		const text = "SetStream() of a call that is over does nothing: use a call only until its hook, or the function that it gave to Defer, has returned"
		want(t, found.texts, []string{text})
		want(t, plugin.Logs(), []string{text})
	}
}

func TestAnOpeningThatIsOverIsUsedWithoutEffect(t *testing.T) {
	var kept *callout.OpenCall
	found := &problems{TB: t}
	plugin := newInstance(found, &careless{
		open: func(call *callout.OpenCall) error { kept = call; call.SetStream("kept"); return nil },
		do: func(call *callout.HeadersCall) error {
			kept.SetStream("changed")
			call.SetHeader("x-stream", fmt.Sprint(call.Stream()))
			return nil
		},
	})
	want(t, plugin.Stream().RequestHeaders().Header("x-stream"), "kept")
	want(t, len(found.texts), 1)
}

func TestACallEndsBesideAGoroutineThatUsesIt(t *testing.T) {
	for range 20 {
		done := make(chan struct{})
		found := &problems{TB: t}
		plugin := newInstance(found, &careless{do: func(call *callout.HeadersCall) error {
			go func() {
				defer close(done)
				for !call.IsCancelled() {
					call.GRPCMetadata("x-token")
				}
			}()
			time.Sleep(100 * time.Microsecond)
			return nil
		}})
		want(t, plugin.Stream().RequestHeaders().IsEmpty(), true)
		<-done
		want(t, len(found.texts), 1)
	}
}

func TestMetadataHasNoPlaceInAnOpening(t *testing.T) {
	plugin := newInstance(t, &careless{
		open: func(call *callout.OpenCall) error {
			_ = call.SetMetadata("my.plugin", map[string]any{"user": "ada"})
			return nil
		},
		do: func(*callout.HeadersCall) error { return nil },
	})
	answer := plugin.Stream().RequestHeaders()
	wantFault(t, answer, callout.InvalidArgument, "SetMetadata() has no place in OnStreamOpen")
	want(t, answer.Metadata("my.plugin", "user"), nil)
}

func TestHoldBesideAnotherStepIsAFault(t *testing.T) {
	for name, step := range map[string]func(*callout.BodyCall){
		"SetBody":      func(call *callout.BodyCall) { call.SetBody([]byte("lost")) },
		"ClearBody":    func(call *callout.BodyCall) { call.ClearBody() },
		"SetHeader":    func(call *callout.BodyCall) { call.SetHeader("a", "b") },
		"RemoveHeader": func(call *callout.BodyCall) { call.RemoveHeader("a") },
	} {
		for _, holdsFirst := range []bool{false, true} {
			plugin := newInstance(t, &careless{body: func(call *callout.BodyCall) error {
				if holdsFirst {
					call.Hold()
				}
				step(call)
				call.Hold()
				return nil
			}})
			answer := plugin.Stream().SetBodyMode(callout.BodyFullDuplexStreamed).RequestBody("a", false)
			wantFault(t, answer, callout.InvalidArgument, "Hold() beside another step")
			if answer.IsHeld() {
				t.Error(name)
			}
		}
	}
	wantFault(t, does(t, func(call *callout.HeadersCall) error {
		call.Hold()
		call.SetHeader("a", "b")
		return nil
	}), callout.InvalidArgument, "Hold() beside another step")
}

func TestSetsTrailersByWhetherTheyAreThere(t *testing.T) {
	stream := newInstance(t, &careless{end: func(call *callout.TrailersCall) error {
		call.SetHeaderIfAbsent("grpc-status", "9")
		call.SetHeaderIfAbsent("x-new", "1")
		call.SetHeaderIfPresent("grpc-status", "2")
		call.SetHeaderIfPresent("x-other", "2")
		return nil
	}}).Stream()
	for _, answer := range []*callouttest.Answer{
		stream.RequestTrailers("grpc-status", "0"), stream.ResponseTrailers("grpc-status", "0"),
	} {
		want(t, answer.Headers("grpc-status"), []string{"2"})
		want(t, answer.Headers("x-new"), []string{"1"})
		want(t, answer.Headers("x-other"), nil)
	}
}

func TestACallToAServiceEndsWithTheInstance(t *testing.T) {
	ended, asked := make(chan error, 1), make(chan struct{})
	release := make(chan struct{})
	defer close(release)
	t.Run("", func(t *testing.T) {
		users := func(callout.Request) (callout.Response, error) {
			close(asked)
			<-release
			return callout.Response{}, nil
		}
		var upstream *callout.Upstream
		create := func(setup *callout.Setup, _ struct{}) (*careless, error) {
			var err error
			upstream, err = setup.Host().Upstream("users")
			return &careless{}, err
		}
		callouttest.NewWith(t, create, "", map[string]callouttest.Service{"users": users})
		go func() {
			_, err := upstream.Do(context.Background(), callout.Request{Path: "/"})
			ended <- err
		}()
		<-asked
	})
	select {
	case err := <-ended:
		var failure *callout.CallError
		want(t, errors.As(err, &failure) && failure.Status == callout.Cancelled && !failure.FromService, true)
	case <-time.After(10 * time.Second):
		t.Error("Do goes on after the instance")
	}
}

type rule struct {
	Path  string            `json:"path"`
	Names map[string]string `json:"names"`
}

type base struct {
	Level int `json:"level"`
}

type rich struct {
	base
	Limit  int             `json:"limit"`
	Rules  []rule          `json:"rules"`
	Choice *int            `json:"choice"`
	Any    any             `json:"any"`
	Raw    json.RawMessage `json:"raw"`
	Only   netip.Addr      `json:"only"`
	Plain  bool
}

func TestAConfigurationHasEachKeyOnceAndNoNull(t *testing.T) {
	create := func(_ *callout.Setup, config rich) (*everything, error) { return &everything{}, nil }
	for text, refused := range map[string]string{
		`{"limit": 1, "rules": [{"path": "/", "names": {"a": "b", "A": "c"}}]}`: "",
		`{"choice": null, "any": null, "raw": null}`:                            "",
		`{"any": {"a": null, "b": [null]}, "level": 3}`:                         "",
		`null`:                           "configuration: expected an object, found null",
		`{"limit": null}`:                "configuration: limit: expected int, found null",
		`{"level": null}`:                "configuration: level: expected int, found null",
		`{"rules": null}`:                "configuration: rules: expected []callout_test.rule, found null",
		`{"only": null}`:                 "configuration: only: expected netip.Addr, found null",
		`{"rules": [{}, {"path":null}]}`: "configuration: rules[1].path: expected string, found null",
		`{"rules": [null]}`:              "configuration: rules[0]: expected callout_test.rule, found null",
		`{"rules": [{"names": {"hunter2": null}}]}`: "configuration: rules[0].names.hunter2: expected string, found null",
		`{"limit": 1, "choice": 2, "limit": 3}`:     "configuration: limit: the key is there twice",
		`{"limit": 1, "Limit": 3}`:                  "configuration: limit: the key is there twice",
		`{"plain": true, "Plain": false}`:           "configuration: Plain: the key is there twice",
		`{"any": {"a": 1, "a": 2}}`:                 "configuration: any.a: the key is there twice",
		`{"rules": [{"path": "a", "path": "b"}]}`:   "configuration: rules[0].path: the key is there twice",
	} {
		if got := callouttest.Refusal(t, create, text); got != refused {
			t.Errorf("%s: got %q, want %q", text, got, refused)
		}
	}
}
