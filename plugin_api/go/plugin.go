// SPDX-License-Identifier: Apache-2.0

package callout

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"time"

	"callout.test/callout/internal/abi"
	"callout.test/callout/internal/bridge"
)

// The hooks: a plugin has one or more of these methods. Hooks of different streams run at once on
// different threads; those of one stream never do. A hook holds up one of the host's threads, which
// serves many streams: work that waits is deferred (Call.Defer), or the hook runs on the host's blocking
// pool (Setup.RunBlocking). An error and a panic are faults, with their text: see Error.
type (
	// RequestHeadersHook gets the client's request.
	RequestHeadersHook interface {
		OnRequestHeaders(*HeadersCall) error
	}
	// ResponseHeadersHook gets the backend's response.
	ResponseHeadersHook interface {
		OnResponseHeaders(*HeadersCall) error
	}
	// RequestBodyHook gets the request's body or pieces of it.
	RequestBodyHook interface{ OnRequestBody(*BodyCall) error }
	// ResponseBodyHook gets the response's body or pieces of it.
	ResponseBodyHook interface{ OnResponseBody(*BodyCall) error }
	// RequestTrailersHook gets the request's trailers.
	RequestTrailersHook interface {
		OnRequestTrailers(*TrailersCall) error
	}
	// ResponseTrailersHook gets the response's trailers.
	ResponseTrailersHook interface {
		OnResponseTrailers(*TrailersCall) error
	}
	// CheckHook is asked by ext_authz whether a request may go on. Nothing set refuses it.
	CheckHook interface{ OnCheck(*CheckCall) error }
	// RateLimitHook is asked whether a request is within its limits.
	RateLimitHook interface{ OnRateLimit(*RateLimitCall) error }
	// ConnectionHook is called before the first bytes of a TCP connection.
	ConnectionHook interface{ OnConnection(*ConnectionCall) error }
	// ReadDataHook gets bytes from the client of a TCP connection.
	ReadDataHook interface{ OnReadData(*DataCall) error }
	// WriteDataHook gets bytes to the client of a TCP connection.
	WriteDataHook interface{ OnWriteData(*DataCall) error }

	// StreamOpenHook is called before the first message of a stream.
	StreamOpenHook interface{ OnStreamOpen(*OpenCall) error }
	// StreamEndHook is called after the last. The host then ends no stream early.
	StreamEndHook interface{ OnStreamEnd(StreamEnd) }
)

// Closer is a plugin that has something to end when its instance is destroyed.
type Closer interface{ Close() error }

// Phase names a hook with a message.
type Phase uint32

// The hooks with a message.
const (
	RequestHeaders   Phase = abi.RequestHeaders
	ResponseHeaders  Phase = abi.ResponseHeaders
	RequestBody      Phase = abi.RequestBody
	ResponseBody     Phase = abi.ResponseBody
	RequestTrailers  Phase = abi.RequestTrailers
	ResponseTrailers Phase = abi.ResponseTrailers
	Check            Phase = abi.Check
	RateLimit        Phase = abi.RateLimit
	Connection       Phase = abi.Connection
	ReadData         Phase = abi.ReadData
	WriteData        Phase = abi.WriteData
)

var phaseNames = map[Phase]string{
	RequestHeaders: "OnRequestHeaders", ResponseHeaders: "OnResponseHeaders", RequestBody: "OnRequestBody",
	ResponseBody: "OnResponseBody", RequestTrailers: "OnRequestTrailers",
	ResponseTrailers: "OnResponseTrailers", Check: "OnCheck", RateLimit: "OnRateLimit",
	Connection: "OnConnection", ReadData: "OnReadData", WriteData: "OnWriteData",
}

// Setup is what an instance may ask for while it is made.
type Setup struct {
	host      *Host
	name      string
	unwanted  uint64
	blocking  uint64
	wholeBody uint64
	wants     uint64
}

// Host is the host: log and extensions. Keep it for goroutines.
func (setup *Setup) Host() *Host { return setup.host }

// Name is the instance's name.
func (setup *Setup) Name() string { return setup.name }

// Skip has the host not call a hook: the configuration does not need it.
func (setup *Setup) Skip(phase Phase) { setup.unwanted |= 1 << phase }

// RunBlocking has the host run a hook on its blocking pool, where it may wait and holds up no other stream.
func (setup *Setup) RunBlocking(phase Phase) { setup.blocking |= 1 << phase }

// WantWholeBodies has body hooks get whole bodies of up to so many bytes. Larger ones fall under the
// operator's policy.
func (setup *Setup) WantWholeBodies(bytesMax uint64) { setup.wholeBody = bytesMax }

// WantRequestHeaders is for Mutation.RequestHeaders.
func (setup *Setup) WantRequestHeaders() { setup.wants |= abi.WantRequestHeaders }

// WantRealEnd has the host end no stream early.
func (setup *Setup) WantRealEnd() { setup.wants |= abi.WantRealEnd }

// FollowFile names a file whose change makes the host replace the instance; path is absolute. A process
// holds one Go plugin for good, so that the host has to be restarted to take the change up.
func (setup *Setup) FollowFile(path string) error {
	return refusal(setup.host.services.FollowFile(path), "the host does not follow the file %s", path)
}

// Counter defines a metric; by custom its name ends in "_total".
func (setup *Setup) Counter(name, help string) (Metric, error) {
	return setup.metric(abi.MetricCounter, name, help, nil)
}

// Gauge defines a value that is set.
func (setup *Setup) Gauge(name, help string) (Metric, error) {
	return setup.metric(abi.MetricGauge, name, help, nil)
}

// UpDownCounter defines a value that goes up and down by what is added.
func (setup *Setup) UpDownCounter(name, help string) (Metric, error) {
	return setup.metric(abi.MetricUpDown, name, help, nil)
}

// Histogram defines a distribution, in these buckets; none: 10 us to 10 s, in seconds.
func (setup *Setup) Histogram(name, help string, buckets ...float64) (Metric, error) {
	return setup.metric(abi.MetricHistogram, name, help, buckets)
}

func (setup *Setup) metric(kind uint32, name, help string, buckets []float64) (Metric, error) {
	id, status := setup.host.services.DefineMetric(kind, name, help, buckets)
	return Metric{setup.host, id}, refusal(status, "the host refuses the metric %s", name)
}

// Definition is how instances of a plugin are made: for Register and for callouttest.
type Definition struct {
	create func(*Setup, string) (any, error)
}

// Define makes a Definition of a function that makes an instance, as Register wants it.
func Define[Config, Plugin any](create func(*Setup, Config) (Plugin, error)) Definition {
	return Definition{func(setup *Setup, text string) (any, error) {
		var config Config
		if err := readConfig(text, &config); err != nil {
			return nil, err
		}
		return create(setup, config)
	}}
}

var registered *Definition

// Register says what the plugin of this program is: call it once, from init. create makes an instance.
// Its configuration is JSON, read into Config, a struct. Refused are keys that the struct does not have, keys that
// are there twice, and null for what is no pointer. No configuration at all is {}. Plugin has the hooks. An error
// refuses the configuration.
func Register[Config, Plugin any](create func(*Setup, Config) (Plugin, error)) {
	if registered != nil {
		panic("callout.Register was called twice: a shared object is one plugin")
	}
	definition := Define(create)
	registered = &definition
}

// readConfig has no value of the configuration in its errors, which may be a secret.
func readConfig(text string, config any) error {
	if strings.TrimSpace(text) == "" {
		text = "{}"
	}
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(config)
	var wrongType *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrongType):
		return Errorf(InvalidArgument, "configuration: %s: expected %v, found %s", wrongType.Field, wrongType.Type,
			strings.Fields(wrongType.Value)[0])
	case err != nil:
		return Errorf(InvalidArgument, "configuration: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := decoder.Token(); err != io.EOF {
		return Errorf(InvalidArgument, "configuration: something follows the object")
	}
	if problem := checkConfig(json.NewDecoder(strings.NewReader(text)), reflect.TypeOf(config).Elem(), ""); problem != "" {
		return Errorf(InvalidArgument, "configuration: %s", problem)
	}
	return nil
}

// --- Instances ---

type instance struct {
	host   *Host
	plugin any
	hooks  map[uint32]func(*Call) error
	opens  StreamOpenHook
	ends   StreamEndHook
}

func init() { bridge.Create = createInstance }

func createInstance(what any, services bridge.Host, name, config string, phases uint64) (*bridge.Instance, int32) {
	host := &Host{services: services}
	setup := &Setup{host: host, name: name}
	definition, _ := what.(*Definition)
	if definition == nil {
		definition = registered
	}
	made, err := makePlugin(definition, setup, config)
	if err == nil {
		var result *bridge.Instance
		if result, err = newInstance(setup, made, phases); err == nil {
			return result, abi.Ok
		}
	}
	failure := read(err, InvalidArgument)
	host.Errorf("%s", failure.Text)
	host.end()
	return nil, -int32(failure.Status)
}

func makePlugin(definition *Definition, setup *Setup, config string) (made any, err error) {
	if definition == nil {
		return nil, Errorf(FailedPrecondition, "the plugin does not call callout.Register in an init function")
	}
	err = atBorder(func() (err error) {
		made, err = definition.create(setup, config)
		return err
	})
	return made, err
}

func newInstance(setup *Setup, plugin any, phases uint64) (*bridge.Instance, error) {
	made := &instance{host: setup.host, plugin: plugin, hooks: hooksOf(plugin)}
	made.opens, _ = plugin.(StreamOpenHook)
	made.ends, _ = plugin.(StreamEndHook)
	if len(made.hooks) == 0 {
		return nil, Errorf(FailedPrecondition, "%T has no hook: a method such as OnRequestHeaders(*callout.HeadersCall) error", plugin)
	}
	result := &bridge.Instance{
		Blocking: setup.blocking, WholeBodyBytes: setup.wholeBody, Wants: setup.wants,
		Opens: made.opens != nil, Ends: made.ends != nil,
		Open: made.open, Message: made.message, Close: made.close, Cancel: cancelStream, Destroy: made.destroy,
	}
	if made.ends != nil {
		result.Wants |= abi.WantRealEnd
	}
	for phase := range made.hooks {
		// A hook that the file does not export is a filter that would never run.
		if phases>>phase&1 == 0 {
			return nil, Errorf(FailedPrecondition, "%T has %s, which the shared object does not export: build it by callout-build", plugin, phaseNames[Phase(phase)])
		}
		result.Phases |= 1 << phase
	}
	if err := checkExports(plugin, phases, result.Phases); err != nil {
		return nil, err
	}
	if err := checkStreamHooks(made, streamHooks); err != nil {
		return nil, err
	}
	result.Phases &^= setup.unwanted
	return result, nil
}

// streamHooks are those of OnStreamOpen and OnStreamEnd that callout-build has found methods of, with commas between.
var streamHooks string

// checkExports refuses a plugin without a hook that the shared object exports: callout-build has found a method of
// this name, so a hook was meant. A file that go has built by itself exports all of them, and says nothing.
func checkExports(plugin any, exported, has uint64) error {
	all := uint64(0)
	for phase := range phaseNames {
		all |= 1 << phase
	}
	if exported&all == all {
		return nil
	}
	for phase, name := range phaseNames {
		if exported&^has>>phase&1 == 1 {
			return lacks(plugin, name)
		}
	}
	return nil
}

// checkStreamHooks refuses a plugin without a hook of streams that callout-build has found a method of: one that was
// to refuse streams would let every one pass.
func checkStreamHooks(made *instance, found string) error {
	if strings.Contains(found, "OnStreamOpen") && made.opens == nil {
		return lacks(made.plugin, "OnStreamOpen")
	}
	if strings.Contains(found, "OnStreamEnd") && made.ends == nil {
		return lacks(made.plugin, "OnStreamEnd")
	}
	return nil
}

func lacks(plugin any, method string) error {
	return Errorf(FailedPrecondition, "the package has a method %s that %T does not have: give callout.Register a function that returns a pointer, if the method's receiver is one", method, plugin)
}

func hooksOf(plugin any) map[uint32]func(*Call) error {
	hooks := map[uint32]func(*Call) error{}
	if p, is := plugin.(RequestHeadersHook); is {
		hooks[abi.RequestHeaders] = func(call *Call) error { return p.OnRequestHeaders(&HeadersCall{Mutation{call}}) }
	}
	if p, is := plugin.(ResponseHeadersHook); is {
		hooks[abi.ResponseHeaders] = func(call *Call) error { return p.OnResponseHeaders(&HeadersCall{Mutation{call}}) }
	}
	if p, is := plugin.(RequestBodyHook); is {
		hooks[abi.RequestBody] = func(call *Call) error { return p.OnRequestBody(&BodyCall{Mutation{call}}) }
	}
	if p, is := plugin.(ResponseBodyHook); is {
		hooks[abi.ResponseBody] = func(call *Call) error { return p.OnResponseBody(&BodyCall{Mutation{call}}) }
	}
	if p, is := plugin.(RequestTrailersHook); is {
		hooks[abi.RequestTrailers] = func(call *Call) error { return p.OnRequestTrailers(&TrailersCall{Mutation{call}}) }
	}
	if p, is := plugin.(ResponseTrailersHook); is {
		hooks[abi.ResponseTrailers] = func(call *Call) error { return p.OnResponseTrailers(&TrailersCall{Mutation{call}}) }
	}
	if p, is := plugin.(CheckHook); is {
		hooks[abi.Check] = func(call *Call) error { return p.OnCheck(&CheckCall{call}) }
	}
	if p, is := plugin.(RateLimitHook); is {
		hooks[abi.RateLimit] = func(call *Call) error { return p.OnRateLimit(&RateLimitCall{call}) }
	}
	if p, is := plugin.(ConnectionHook); is {
		hooks[abi.Connection] = func(call *Call) error { return p.OnConnection(&ConnectionCall{call}) }
	}
	if p, is := plugin.(ReadDataHook); is {
		hooks[abi.ReadData] = func(call *Call) error { return p.OnReadData(&DataCall{call}) }
	}
	if p, is := plugin.(WriteDataHook); is {
		hooks[abi.WriteData] = func(call *Call) error { return p.OnWriteData(&DataCall{call}) }
	}
	return hooks
}

// atBorder runs what the plugin has written: a panic becomes its error.
func atBorder(function func() error) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = Errorf(Internal, "panic: %s", textOf(cause))
		}
	}()
	return function()
}

func (made *instance) open(services bridge.Call, facts bridge.Facts) int32 {
	call := &Call{services: services, facts: facts, instance: made}
	err := atBorder(func() error { return made.opens.OnStreamOpen(&OpenCall{call}) })
	status := call.settle(err)
	if status != abi.Ok {
		cancelStream(services.Stream()) // The host calls no close.
	}
	return status
}

func (made *instance) message(services bridge.Call, facts bridge.Facts) int32 {
	call := &Call{services: services, facts: facts, instance: made}
	hook := made.hooks[facts.Phase]
	if hook == nil {
		return abi.Ok
	}
	work, err := call.run(func() error { return hook(call) })
	if work == nil {
		return call.settle(err)
	}
	go call.goOn(work)
	return abi.Deferred
}

// run runs a hook or a deferred function, and gives what it has deferred, if nothing was wrong.
func (call *Call) run(function func() error) (work func(context.Context) error, err error) {
	call.deferred = nil
	err = atBorder(function)
	if err != nil || call.answer.failure != nil {
		return nil, err
	}
	return call.deferred, nil
}

// goOn runs what was deferred, in its own goroutine, and finishes the call.
func (call *Call) goOn(work func(context.Context) error) {
	ctx, cancel := call.Context(), context.CancelFunc(func() {})
	if deadline, has := call.Deadline(); has {
		ctx, cancel = context.WithDeadline(ctx, deadline)
	}
	var err error
	for work != nil {
		now := work
		work, err = call.run(func() error { return now(ctx) })
	}
	cancel()
	call.services.Finish(call.settle(err))
}

func cancelStream(state any) {
	if known, is := state.(*stream); is {
		known.cancel()
	}
}

func (made *instance) close(state any, end *bridge.End) {
	known, _ := state.(*stream)
	if made.ends != nil && end != nil {
		ended := StreamEnd{
			Outcome(end.Outcome), int(end.HTTPStatus), end.RequestBytes, end.ResponseBytes,
			time.Duration(end.StreamNs), time.Duration(end.OwnNs), nil,
		}
		if known != nil {
			ended.Stream = known.own
		}
		if err := atBorder(func() error { made.ends.OnStreamEnd(ended); return nil }); err != nil {
			made.host.Errorf("OnStreamEnd: %v", err)
		}
	}
	cancelStream(state)
}

func (made *instance) destroy() {
	if closer, is := made.plugin.(Closer); is {
		if err := atBorder(closer.Close); err != nil {
			made.host.Errorf("Close: %v", err)
		}
	}
	made.host.end()
}
