// SPDX-License-Identifier: Apache-2.0

package callout_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"callout.test/callout"
	"callout.test/callout/callouttest"
)

type lookup struct {
	users *callout.Upstream
}

func newLookup(setup *callout.Setup, _ struct{}) (*lookup, error) {
	users, err := setup.Host().Upstream("users")
	return &lookup{users}, err
}

func (plugin *lookup) OnRequestHeaders(call *callout.HeadersCall) error {
	user := call.Headers().Get("x-user")
	return call.Defer(func(ctx context.Context) error {
		if user == "slow" {
			_, err := plugin.users.Do(ctx, callout.Request{Path: "/slow", Timeout: time.Millisecond})
			if errors.Is(err, context.DeadlineExceeded) {
				return call.Deny(503, err.Error())
			}
			return err
		}
		response, err := plugin.users.Do(ctx, callout.Request{
			Method: "POST", Path: "/users/" + user, Body: []byte("who?"), Header: []callout.Header{{Name: "x-a", Value: "b"}},
			Timeout: 5 * time.Second,
		})
		if err != nil {
			return err
		}
		call.SetHeader("x-team", response.Get("team"))
		call.SetHeader("x-body", string(response.Body))
		return nil
	})
}

func (plugin *lookup) OnResponseHeaders(call *callout.HeadersCall) error {
	return call.Defer(func(ctx context.Context) error {
		_, err := plugin.users.DoGRPC(ctx, "/a.Service/Method", []byte("message"))
		call.SetHeader("x-failure", err.Error())
		return err
	})
}

func TestCallsOtherServices(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	users := func(request callout.Request) (callout.Response, error) {
		switch request.Path {
		case "/a.Service/Method":
			return callout.Response{}, &callout.CallError{Status: callout.PermissionDenied, FromService: true, Text: "not for you"}
		case "/users/down":
			return callout.Response{}, errors.New("no connection")
		case "/slow":
			<-release
		}
		if request.Method == "POST" {
			want(t, string(request.Body), "who?")
			want(t, request.Header, []callout.Header{{Name: "x-a", Value: "b"}})
			want(t, request.Timeout, 5*time.Second)
		}
		return callout.Response{
			HTTPStatus: 200, Header: []callout.Header{{Name: "team", Value: "one"}}, Body: []byte(request.Path),
		}, nil
	}
	plugin := callouttest.NewWith(t, newLookup, "", map[string]callouttest.Service{"users": users})
	answer := plugin.Stream().RequestHeaders("x-user", "ada")
	want(t, answer.Err(), nil)
	want(t, answer.Header("x-team"), "one")
	want(t, answer.Header("x-body"), "/users/ada")

	internal := func(text string) error { return &callout.Error{Status: callout.Internal, Text: text} }
	want(t, plugin.Stream().RequestHeaders("x-user", "down").Err(), internal("UNAVAILABLE: no connection"))
	answer = plugin.Stream().RequestHeaders("x-user", "slow")
	want(t, answer.HTTPStatus(), 503)
	text, _ := answer.Body()
	want(t, text, "DEADLINE_EXCEEDED: no response in 1ms")
	// What a service says is no decision of the plugin.
	want(t, plugin.Stream().ResponseHeaders(":status", "200").Err(), internal("PERMISSION_DENIED: not for you"))
}

func TestAWrongUpstreamRefusesTheConfiguration(t *testing.T) {
	if text := callouttest.Refusal(t, newLookup, ""); !strings.Contains(text, `there is no upstream "users"`) {
		t.Error(text)
	}
}

type patient struct {
	users *callout.Upstream
}

func newPatient(setup *callout.Setup, _ struct{}) (*patient, error) {
	users, err := setup.Host().Upstream("users")
	return &patient{users}, err
}

func (plugin *patient) OnRequestHeaders(call *callout.HeadersCall) error {
	if call.Headers().Has("x-longer") {
		if err := call.ExtendTimeout(time.Hour); err != nil {
			return err
		}
	}
	return call.Defer(func(ctx context.Context) error {
		if call.Headers().Has("x-own") {
			own, cancel := context.WithTimeout(call.Context(), time.Hour)
			defer cancel()
			ctx = own
		}
		_, err := plugin.users.Do(ctx, callout.Request{Path: "/", Timeout: time.Hour})
		return err
	})
}

func TestACallEndsBeforeTheHookThatWaitsForIt(t *testing.T) {
	var timeout time.Duration
	users := func(request callout.Request) (callout.Response, error) {
		timeout = request.Timeout
		return callout.Response{}, nil
	}
	plugin := callouttest.NewWith(t, newPatient, "", map[string]callouttest.Service{"users": users})
	for _, deadline := range []time.Duration{10 * time.Second, 100 * time.Second} {
		want(t, plugin.Stream().SetDeadline(deadline).RequestHeaders().Err(), nil)
		if timeout <= 0 || timeout > deadline-50*time.Millisecond {
			t.Errorf("of %v: %v", deadline, timeout)
		}
	}
}

func TestOnlyAContextOfItsOwnUsesTheTimeThatIsAdded(t *testing.T) {
	var timeout time.Duration
	users := func(request callout.Request) (callout.Response, error) {
		timeout = request.Timeout
		return callout.Response{}, nil
	}
	plugin := callouttest.NewWith(t, newPatient, "", map[string]callouttest.Service{"users": users})
	ask := func(pairs ...string) time.Duration {
		want(t, plugin.Stream().SetDeadline(10*time.Second).RequestHeaders(pairs...).Err(), nil)
		return timeout
	}
	if given := ask("x-longer", "1"); given > 10*time.Second {
		t.Errorf("by the deferred function's context: %v", given)
	}
	if given := ask("x-longer", "1", "x-own", "1"); given <= 10*time.Second {
		t.Errorf("by one of its own: %v", given)
	}
}
