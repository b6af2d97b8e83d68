// SPDX-License-Identifier: Apache-2.0

package callout_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"callout.test/callout"
	"callout.test/callout/callouttest"
)

type config struct {
	Limit uint64 `json:"limit"`
}

// everything has all hooks.
type everything struct {
	limit  uint64
	seen   callout.Metric
	data   *callout.SharedData
	host   *callout.Host
	ticker *callout.Timer
	ticks  int
	ended  []callout.StreamEnd
	left   chan error
}

func newEverything(setup *callout.Setup, config config) (*everything, error) {
	if config.Limit == 13 {
		panic(fmt.Sprint("not ", config.Limit))
	}
	if config.Limit == 1 {
		setup.Skip(callout.RequestBody)
	}
	setup.WantWholeBodies(1 << 20)
	setup.RunBlocking(callout.ResponseBody)
	setup.WantRequestHeaders()
	if err := setup.FollowFile("relative"); err == nil {
		return nil, errors.New("a relative path was taken")
	}
	plugin := &everything{limit: config.Limit, host: setup.Host(), left: make(chan error, 1)}
	var err error
	if plugin.seen, err = setup.Counter("seen_total", "Messages"); err != nil {
		return nil, err
	}
	if plugin.data, err = setup.Host().SharedData(""); err != nil {
		return nil, err
	}
	plugin.ticker, err = setup.Host().Every(time.Minute, func() {
		if plugin.ticks++; plugin.ticks == 3 {
			panic("tick")
		}
	})
	return plugin, err
}

func (plugin *everything) OnStreamOpen(call *callout.OpenCall) error {
	if token, _ := call.GRPCMetadata("x-token"); token == "wrong" {
		return callout.Errorf(callout.PermissionDenied, "wrong token")
	}
	return nil
}

func (plugin *everything) OnStreamEnd(end callout.StreamEnd) {
	plugin.ended = append(plugin.ended, end)
}

func (plugin *everything) OnRequestHeaders(call *callout.HeadersCall) error {
	plugin.seen.Increment()
	calls, _ := call.Stream().(int)
	call.SetStream(calls + 1)
	headers := call.Headers()
	switch headers.Get(":path") {
	case "/panic":
		panic("a text")
	case "/nil":
		var missing *everything
		return errors.New(fmt.Sprint(missing.limit))
	case "/error":
		return callout.Errorf(callout.Unavailable, "not now")
	case "/plain":
		return errors.New("plain")
	case "/deny":
		return call.Deny(403, "no")
	case "/status":
		return call.Deny(99, "no")
	case "/reply":
		call.SetHeader("dropped", "1")
		call.Reply(302).Header("location", "/").Body("moved").Details("moved_by_plugin").GRPCStatus(7)
	case "/metadata":
		if err := call.SetMetadata("my.plugin", 3); err == nil {
			return errors.New("a number was taken")
		}
		return call.SetMetadata("my.plugin", map[string]any{"user": "ada", "level": 3, "tags": []any{"a", nil}})
	case "/known":
		known := fmt.Sprint(call.Attribute("source.port"), call.Attribute("none"), call.Metadata("my.filter", "score"),
			call.Listener(), call.PeerIdentity(), call.IsFirst(), call.EndOfStream())
		call.SetHeader("x-known", known)
		call.SetHeaderIfAbsent(":path", "/new")
		call.SetHeaderIfPresent("x-new", "1")
		call.SetHeaderIfAbsent("x-new", "2")
	case "/defer", "/defer-panic", "/defer-error", "/defer-leave":
		return call.Defer(func(ctx context.Context) error { return plugin.later(ctx, call) })
	default:
		call.SetHeader("x-seen", fmt.Sprint(headers.Len()))
		call.AppendHeader("x-step", "one")
		call.SetHeader("x-internal", "set, and then removed")
		call.RemoveHeader("X-Internal")
		call.ClearRouteCache()
	}
	return nil
}

func (plugin *everything) later(ctx context.Context, call *callout.HeadersCall) error {
	if _, has := ctx.Deadline(); !has {
		return errors.New("there is no deadline")
	}
	switch call.Headers().Get(":path") {
	case "/defer-panic":
		panic("after waiting")
	case "/defer-error":
		return callout.Errorf(callout.Unavailable, "gone")
	case "/defer-leave":
		<-ctx.Done()
		plugin.left <- ctx.Err()
	}
	time.Sleep(time.Millisecond)
	call.SetHeader("x-later", call.Headers().Get(":path"))
	return nil
}

func (plugin *everything) OnResponseHeaders(call *callout.HeadersCall) error {
	call.SetHeader("x-path", call.RequestHeaders().Get(":path"))
	call.ReplaceBody([]byte("instead"))
	return nil
}

func (plugin *everything) OnRequestBody(call *callout.BodyCall) error {
	if call.BodyMode() == callout.BodyFullDuplexStreamed {
		call.Hold()
		return call.Send([]byte("ahead"))
	}
	if call.Offset()+uint64(len(call.Body())) > plugin.limit {
		return call.Deny(413, "")
	}
	call.SetBody([]byte(strings.ToUpper(string(call.Body()))))
	return nil
}

func (plugin *everything) OnResponseBody(call *callout.BodyCall) error {
	if !call.IsWhole() || !call.EndOfStream() {
		return errors.New("not whole")
	}
	call.ClearBody()
	return nil
}

func (plugin *everything) OnRequestTrailers(call *callout.TrailersCall) error {
	call.SetHeader("x-trailer", call.Trailers().Get("x-sum")+"")
	return nil
}

func (plugin *everything) OnResponseTrailers(call *callout.TrailersCall) error {
	call.RemoveHeader("grpc-message")
	return nil
}

func (plugin *everything) OnCheck(call *callout.CheckCall) error {
	if call.Path() == "/secret" {
		call.Refuse(401).Header("www-authenticate", "Basic").Body("who are you?")
	} else if call.Headers().Get("x-user") == "ada" && call.Method() == "GET" && call.HostName() == "a.example" {
		call.Allow().Header("x-ok", "1").RemoveHeader("x-user").ResponseHeader("x-r", "2").Query("a", "b")
	}
	return nil
}

func (plugin *everything) OnRateLimit(call *callout.RateLimitCall) error {
	for _, descriptor := range call.Descriptors() {
		if user, _ := descriptor.Get("user"); user == "greedy" && descriptor.Hits == 1 && call.Domain() == "all" {
			call.OverLimit()
		}
	}
	call.AddResponseHeader("x-limit", "7")
	return nil
}

func (plugin *everything) OnConnection(*callout.ConnectionCall) error { return nil }

func (plugin *everything) OnReadData(call *callout.DataCall) error {
	if string(call.Data()) == "DROP TABLE" {
		call.Close()
		return nil
	}
	count, err := plugin.data.Add("count", int64(len(call.Data())), time.Minute)
	call.SetData(append(call.Data(), fmt.Sprint("!", count)...))
	return err
}

func (plugin *everything) OnWriteData(call *callout.DataCall) error {
	call.Reset()
	return nil
}

func instance(t *testing.T) *callouttest.Plugin {
	t.Helper()
	return callouttest.New(t, newEverything, `{"limit": 5}`)
}

func want[T any](t *testing.T, got, want T) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %#v, want %#v", got, want)
	}
}

func TestChangesHeadersInTheOrderOfTheCalls(t *testing.T) {
	plugin := instance(t)
	answer := plugin.Stream().RequestHeaders(":path", "/", "x-internal", "1")
	want(t, answer.Header("x-seen"), "2")
	want(t, answer.Headers("x-step"), []string{"one"})
	want(t, answer.Removes("x-internal"), true)
	want(t, answer.Headers("x-internal"), nil)
	want(t, answer.ClearsRouteCache(), true)
	want(t, answer.Err(), nil)
	want(t, plugin.Metric("seen_total"), 1)
}

func TestAnswersInThePlaceOfTheBackend(t *testing.T) {
	plugin := instance(t)
	denied := plugin.Stream().RequestHeaders(":path", "/deny")
	body, _ := denied.Body()
	want(t, denied.HTTPStatus(), 403)
	want(t, body, "no")
	moved := plugin.Stream().RequestHeaders(":path", "/reply")
	body, _ = moved.Body()
	want(t, moved.HTTPStatus(), 302)
	want(t, moved.Header("location"), "/")
	want(t, moved.Headers("dropped"), nil)
	want(t, body, "moved")
}

func TestMakesFaultsOfErrorsAndPanics(t *testing.T) {
	plugin := instance(t)
	for path, expected := range map[string]callout.Error{
		"/panic":       {Status: callout.Internal, Text: "panic: a text"},
		"/nil":         {Status: callout.Internal, Text: "panic: runtime error: invalid memory address or nil pointer dereference"},
		"/error":       {Status: callout.Unavailable, Text: "not now"},
		"/plain":       {Status: callout.Internal, Text: "plain"},
		"/status":      {Status: callout.InvalidArgument, Text: "an immediate response needs an HTTP status of 200 to 599"},
		"/defer-panic": {Status: callout.Internal, Text: "panic: after waiting"},
		"/defer-error": {Status: callout.Unavailable, Text: "gone"},
	} {
		answer := plugin.Stream().RequestHeaders(":path", path)
		want(t, answer.Err(), error(&expected))
		want(t, answer.WasDeferred(), strings.HasPrefix(path, "/defer"))
	}
	want(t, plugin.Stream().RequestHeaders(":path", "/").IsEmpty(), false)
}

func TestADeferredCallGoesOn(t *testing.T) {
	plugin := instance(t)
	stream := plugin.Stream()
	for range 3 {
		answer := stream.RequestHeaders(":path", "/defer")
		want(t, answer.WasDeferred(), true)
		want(t, answer.Header("x-later"), "/defer")
	}
	stream.Close()
}

func TestTheContextEndsWithTheClient(t *testing.T) {
	plugin := instance(t)
	stream := plugin.Stream()
	stream.RequestHeaders(":path", "/defer") // makes the stream's state
	done := make(chan *callouttest.Answer)
	go func() { done <- stream.RequestHeaders(":path", "/defer-leave") }()
	stream.Leave()
	want(t, (<-done).Err(), nil)
}

func TestReadsAndWritesMetadata(t *testing.T) {
	plugin := instance(t)
	answer := plugin.Stream().RequestHeaders(":path", "/metadata")
	want(t, answer.Metadata("my.plugin", "user"), any("ada"))
	want(t, answer.Metadata("my.plugin", "level"), any(3.0))
	want(t, answer.Metadata("my.plugin", "tags"), any([]any{"a", nil}))
	stream := plugin.Stream().SetAttributes(map[string]any{"source.port": 80})
	stream.SetMetadata(map[string]map[string]any{"my.filter": {"score": 0.5}})
	known := stream.RequestHeaders(":path", "/known")
	want(t, known.Header("x-known"), fmt.Sprint(80, nil, 0.5, "plaintext", "", true, true))
	want(t, known.Headers("x-new"), []string{"2"})
	want(t, known.Headers(":path"), nil)
}

func TestChangesBodiesAndTrailers(t *testing.T) {
	stream := instance(t).Stream()
	stream.RequestHeadersWithBody(":path", "/")
	body, _ := stream.RequestBody("abc", false).Body()
	want(t, body, "ABC")
	want(t, stream.RequestBody("defg", true).HTTPStatus(), 413)
	want(t, stream.RequestTrailers("x-sum", "").Headers("x-trailer"), []string{""})
	answer := stream.ResponseHeaders(":status", "200")
	body, _ = answer.Body()
	want(t, answer.Header("x-path"), "/")
	want(t, body, "instead")
	body, sets := stream.ResponseBody("all of it", true).Body()
	want(t, body, "")
	want(t, sets, true)
	want(t, stream.ResponseTrailers().Removes("grpc-message"), true)
}

func TestSendsPiecesInFullDuplex(t *testing.T) {
	stream := instance(t).Stream().SetBodyMode(callout.BodyFullDuplexStreamed)
	answer := stream.RequestBody("abc", false)
	want(t, answer.Sent(), []string{"ahead"})
	want(t, answer.IsHeld(), true)
}

func TestAnswersChecks(t *testing.T) {
	plugin := instance(t)
	ask := func(path, user string) *callouttest.Answer {
		return plugin.Stream().Check(":method", "GET", ":path", path, ":authority", "a.example", "x-user", user)
	}
	refused := ask("/secret", "ada")
	body, _ := refused.Body()
	want(t, refused.HTTPStatus(), 401)
	want(t, refused.Header("www-authenticate"), "Basic")
	want(t, body, "who are you?")
	allowed := ask("/", "ada")
	want(t, allowed.IsAllowed() && allowed.Removes("x-user"), true)
	want(t, allowed.Header("x-ok"), "1")
	want(t, ask("/", "eve").IsAllowed(), false)
}

func TestAnswersQuestionsAboutRateLimits(t *testing.T) {
	plugin := instance(t)
	want(t, plugin.Stream().RateLimit("all", "user", "greedy").IsOverLimit(), true)
	want(t, plugin.Stream().RateLimit("all", "user", "ada").IsOverLimit(), false)
}

func TestChangesAndEndsConnectionsAndCountsInSharedData(t *testing.T) {
	plugin := instance(t)
	stream := plugin.Stream()
	want(t, stream.Connection().IsEmpty(), true)
	data, _ := stream.ReadData("abc", false).Data()
	want(t, data, "abc!3")
	data, _ = stream.ReadData("d", false).Data()
	want(t, data, "d!4")
	plugin.Advance(2 * time.Minute)
	data, _ = stream.ReadData("d", false).Data()
	want(t, data, "d!1")
	want(t, stream.ReadData("DROP TABLE", false).EndsConnection(), true)
	want(t, stream.WriteData("", true).ResetsConnection(), true)
}

func TestKeepsAStateForEachStreamAndTellsItsEnd(t *testing.T) {
	var plugin *everything
	fake := callouttest.New(t, func(setup *callout.Setup, config config) (*everything, error) {
		made, err := newEverything(setup, config)
		plugin = made
		return made, err
	}, "")
	stream := fake.Stream()
	stream.RequestHeaders(":path", "/deny")
	stream.RequestHeaders(":path", "/")
	stream.Close()
	want(t, len(plugin.ended), 1)
	want(t, plugin.ended[0].Stream, any(2))
	want(t, plugin.ended[0].Outcome, callout.EndCompleted)
}

func TestRefusesAStreamAsItIsOpened(t *testing.T) {
	answer := instance(t).Stream().AddGRPCMetadata("x-token", "wrong").RequestHeaders(":path", "/")
	want(t, answer.Err(), error(&callout.Error{Status: callout.PermissionDenied, Text: "wrong token"}))
}

func TestAsksTheHostForWhatItNeeds(t *testing.T) {
	plugin := instance(t)
	want(t, plugin.RunsBlocking(callout.ResponseBody), true)
	want(t, plugin.RunsBlocking(callout.RequestBody), false)
	want(t, plugin.Wants(callout.RequestBody), true)
	want(t, callouttest.New(t, newEverything, `{"limit": 1}`).Wants(callout.RequestBody), false)
}

func TestRefusesAConfigurationWithTheKey(t *testing.T) {
	for text, part := range map[string]string{
		`{"limit": "hunter2"}`: "configuration: limit: expected uint64, found string",
		`{"limt": 1}`:          `configuration: unknown field "limt"`,
		`{"limit": 13}`:        "panic: not 13",
		`{} {}`:                "configuration: something follows the object",
		`{`:                    "configuration: unexpected EOF",
	} {
		want(t, callouttest.Refusal(t, newEverything, text), part)
	}
	type none struct{}
	useless := func(*callout.Setup, none) (none, error) { return none{}, nil }
	if text := callouttest.Refusal(t, useless, ""); !strings.Contains(text, "has no hook") {
		t.Error(text)
	}
}

func TestTimersRunWhenTheyAreDueAndSurviveAPanic(t *testing.T) {
	plugin := instance(t)
	plugin.Advance(time.Second)
	plugin.Advance(4 * time.Minute)
	want(t, plugin.Logs(), []string{"timer: panic: tick"})
}

// minutely has a timer, and defers until a timer, or a service that needs a moment, has it go on.
type minutely struct {
	host  *callout.Host
	ticks atomic.Int32
	again chan struct{}
}

func newMinutely(setup *callout.Setup, _ struct{}) (*minutely, error) {
	data, err := setup.Host().SharedData("")
	if err != nil {
		return nil, err
	}
	if err := data.Put("cached", "1", 5*time.Minute); err != nil {
		return nil, err
	}
	plugin := &minutely{host: setup.Host(), again: make(chan struct{})}
	_, err = setup.Host().Every(time.Minute, func() {
		if plugin.ticks.Add(1) == 10 {
			close(plugin.again)
		}
	})
	return plugin, err
}

func (plugin *minutely) OnRequestHeaders(call *callout.HeadersCall) error {
	return call.Defer(func(context.Context) error {
		if call.Headers().Get(":path") == "/timer" {
			due := make(chan struct{})
			_, err := plugin.host.After(2*time.Millisecond, func() { close(due) })
			<-due
			return err
		}
		select { // the timer runs on and on, or never again
		case <-plugin.again:
		case <-time.After(50 * time.Millisecond):
		}
		return nil
	})
}

func TestADeferredCallMovesTheClockByNoMoreThanItTakes(t *testing.T) {
	var plugin *minutely
	fake := callouttest.New(t, func(setup *callout.Setup, config struct{}) (made *minutely, err error) {
		plugin, err = newMinutely(setup, config)
		return plugin, err
	}, "")
	fake.Stream().RequestHeaders(":path", "/")
	if ticks := plugin.ticks.Load(); ticks > 1 {
		t.Errorf("the timer of a minute has run %d times", ticks)
	}
	_, found := fake.SharedValue("", "cached")
	want(t, found, true)
}

func TestADeferredCallMayWaitForATimer(t *testing.T) {
	fake := callouttest.New(t, newMinutely, "")
	want(t, fake.Stream().RequestHeaders(":path", "/timer").IsEmpty(), true)
}

func TestSharedDataComparesAndRemoves(t *testing.T) {
	type none struct{}
	fake := callouttest.New(t, func(setup *callout.Setup, _ none) (*everything, error) {
		data, err := setup.Host().SharedData("store.space")
		if err != nil {
			return nil, err
		}
		value := strings.Repeat("x", 1000)
		want(t, data.Put("key", value, callout.Forever), nil)
		found, version, _, _ := data.Find("key")
		want(t, found, value)
		_, done, _ := data.PutIf("key", "new", callout.Forever, callout.Absent)
		want(t, done, false)
		_, done, _ = data.PutIf("key", "new", callout.Forever, version)
		want(t, done, true)
		removed, _ := data.Remove("key")
		want(t, removed, true)
		removed, _ = data.Remove("key")
		want(t, removed, false)
		want(t, data.Cache("key", "cached", time.Second), nil)
		_, err = data.Add("key", 1, callout.Forever)
		want(t, err != nil, true)
		long := strings.Repeat("hunter2", 147)
		_, _, whenRead := data.Get(long)
		_, whenCounted := data.Add(long, 1, callout.Forever)
		for _, err := range []error{
			data.Put("hunter2", strings.Repeat("x", 1<<20+1), callout.Forever), data.Put(long, "", callout.Forever), whenRead, whenCounted,
		} {
			if err == nil || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %v", err)
			}
		}
		return newEverything(setup, config{})
	}, "")
	value, _ := fake.SharedValue("store.space", "key")
	want(t, value, "cached")
	fake.Advance(2 * time.Second)
	_, found := fake.SharedValue("store.space", "key")
	want(t, found, false)
}

func TestAGoroutinesPanicIsLogged(t *testing.T) {
	type none struct{}
	done := make(chan struct{})
	fake := callouttest.New(t, func(setup *callout.Setup, _ none) (*everything, error) {
		setup.Host().Go(func() { defer close(done); panic("oops") })
		return newEverything(setup, config{})
	}, "")
	<-done
	for len(fake.Logs()) == 0 {
		time.Sleep(time.Millisecond)
	}
	want(t, fake.Logs(), []string{"goroutine: panic: oops"})
}
