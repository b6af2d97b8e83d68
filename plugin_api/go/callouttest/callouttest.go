// SPDX-License-Identifier: Apache-2.0

// Package callouttest is a fake host for unit tests of plugins: pass messages in, look at what the plugin does.
//
//	func TestRefusesGuests(t *testing.T) {
//		plugin := callouttest.New(t, newGuard, "")
//		answer := plugin.Stream().RequestHeaders(":path", "/", "x-role", "guest")
//		if answer.HTTPStatus() != 403 {
//			t.Errorf("got %v", answer)
//		}
//	}
//
// Deferred calls are awaited. A call that is used after its end fails the test. Time for timers and shared data is
// the test's: Plugin.Advance. By itself it passes only while a deferred call is awaited, as fast as it does outside.
// What the real host would refuse, such as an invalid header, this one does not find: callout-test runs the real one.
package callouttest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"callout.test/callout"
	"callout.test/callout/internal/abi"
	"callout.test/callout/internal/bridge"
)

// waitMax is how long a test waits for a deferred call.
const waitMax = 10 * time.Second

// Plugin is an instance of a plugin on a fake host.
type Plugin struct {
	t        testing.TB
	instance *bridge.Instance

	mutex    sync.Mutex // guards what follows
	logs     []string
	metrics  []metric
	created  bool
	now      uint64
	timers   []*timer
	lastID   uint64
	values   map[[2]string]value
	followed []string
	outgoing map[uint64]outgoing
	services map[string]Service
	isOver   bool // the test has no place for problems any more
}

type outgoing struct {
	done  func(*bridge.Incoming)
	ended func()
}

// Service is what a fake upstream says to a request: a response, or an error, of which a *callout.CallError is
// given as it is. It may wait: a call ends with DeadlineExceeded when its Timeout is over.
type Service func(callout.Request) (callout.Response, error)

type metric struct {
	name  string
	kind  uint32
	value float64
}

type timer struct {
	id, due, period uint64
	run             func()
	running         bool
}

type value struct {
	bytes            string
	version, expires uint64
}

// New makes an instance by the function that the plugin gives callout.Register. config is JSON or nothing. The
// test fails if it is refused; it ends with the test.
func New[C, P any](t testing.TB, create func(*callout.Setup, C) (P, error), config string) *Plugin {
	t.Helper()
	return NewWith(t, create, config, nil)
}

// NewWith is New on a host with upstreams, by name.
func NewWith[C, P any](t testing.TB, create func(*callout.Setup, C) (P, error), config string, upstreams map[string]Service) *Plugin {
	t.Helper()
	plugin, err := newPlugin(t, create, config, upstreams)
	if err != nil {
		t.Fatalf("the plugin refuses its configuration: %v", err)
	}
	t.Cleanup(plugin.destroy)
	return plugin
}

// destroy ends what the instance waits for, as the host does, and then the instance.
func (plugin *Plugin) destroy() {
	plugin.mutex.Lock()
	plugin.timers = nil
	calls := plugin.outgoing
	plugin.outgoing, plugin.isOver = nil, true
	plugin.mutex.Unlock()
	for _, call := range calls {
		call.ended()
	}
	plugin.instance.Destroy()
}

// Refusal is the text by which the plugin refuses a configuration, "" if it takes it.
func Refusal[C, P any](t testing.TB, create func(*callout.Setup, C) (P, error), config string) string {
	plugin, err := newPlugin(t, create, config, nil)
	if err != nil {
		return err.Error()
	}
	plugin.destroy()
	return ""
}

// problem fails the test, if it is not over.
func (plugin *Plugin) problem(text string) {
	plugin.mutex.Lock()
	defer plugin.mutex.Unlock()
	if !plugin.isOver {
		plugin.t.Errorf("%s", text)
	}
}

func newPlugin[C, P any](t testing.TB, create func(*callout.Setup, C) (P, error), config string, upstreams map[string]Service) (*Plugin, error) {
	plugin := &Plugin{
		t: t, now: 1, values: map[[2]string]value{}, outgoing: map[uint64]outgoing{}, services: upstreams,
	}
	definition := callout.Define(create)
	instance, status := bridge.Create(&definition, (*fakeHost)(plugin), "test", config, 1<<64-1)
	if status != abi.Ok {
		return nil, errors.New(plugin.logs[len(plugin.logs)-1])
	}
	plugin.instance, plugin.created = instance, true
	return plugin, nil
}

// Logs are the lines of the log so far.
func (plugin *Plugin) Logs() []string {
	plugin.mutex.Lock()
	defer plugin.mutex.Unlock()
	return append([]string(nil), plugin.logs...)
}

// Metric is a metric's value: of a counter the sum, of a gauge and a histogram the latest.
func (plugin *Plugin) Metric(name string) float64 {
	plugin.mutex.Lock()
	defer plugin.mutex.Unlock()
	for _, known := range plugin.metrics {
		if known.name == name {
			return known.value
		}
	}
	plugin.t.Errorf("the plugin has no metric %q", name)
	return 0
}

// RunsBlocking says whether the host would run the hook on its blocking pool.
func (plugin *Plugin) RunsBlocking(phase callout.Phase) bool {
	return plugin.instance.Blocking>>phase&1 == 1
}

// Wants says whether the host would call the hook at all.
func (plugin *Plugin) Wants(phase callout.Phase) bool { return plugin.instance.Phases>>phase&1 == 1 }

// SharedValue is a value of shared data; space is empty for the instance's own.
func (plugin *Plugin) SharedValue(space, key string) (string, bool) {
	plugin.mutex.Lock()
	defer plugin.mutex.Unlock()
	known, found := plugin.find(space, key)
	return known.bytes, found
}

// Advance moves the time of timers and shared data on, and runs the timers that are then due.
func (plugin *Plugin) Advance(by time.Duration) {
	plugin.mutex.Lock()
	to := plugin.now + uint64(by)
	plugin.mutex.Unlock()
	for plugin.runTimer(to) {
	}
	plugin.mutex.Lock()
	plugin.now = max(plugin.now, to)
	plugin.mutex.Unlock()
}

func (plugin *Plugin) runTimer(to uint64) bool {
	plugin.mutex.Lock()
	defer plugin.mutex.Unlock()
	var first *timer
	for _, known := range plugin.timers {
		if known.running || known.due > to {
			continue
		}
		if first == nil || known.due < first.due || known.due == first.due && known.id < first.id {
			first = known
		}
	}
	if first == nil {
		return false
	}
	first.running = true
	plugin.now = max(plugin.now, first.due)
	plugin.mutex.Unlock()
	first.run()
	plugin.mutex.Lock()
	first.running = false
	first.due = plugin.now + first.period
	if first.period == 0 {
		plugin.dropTimer(first.id)
	}
	return true
}

func (plugin *Plugin) dropTimer(id uint64) {
	for i, known := range plugin.timers {
		if known.id == id {
			plugin.timers = append(plugin.timers[:i], plugin.timers[i+1:]...)
			return
		}
	}
}

// --- Streams ---

// Stream is one HTTP request, Check, question about rate limits or TCP connection.
type Stream struct {
	plugin         *Plugin
	state          any
	open           bool
	closed         bool
	attributes     []byte
	metadata       []byte
	grpcMetadata   []callout.Header
	unrecorded     bool
	spanBytes      int // of what the plugin adds to the exchange's spans; guarded by the plugin's mutex
	calls          int
	requestHeaders string
	mode           callout.BodyMode
	seen           map[uint32]bool
	offsets        [2]uint64
	httpStatus     uint32
	deadline       time.Duration
}

// Stream begins a stream, which ends with the test if Close does not end it before.
func (plugin *Plugin) Stream() *Stream {
	stream := &Stream{
		plugin: plugin, mode: callout.BodyBuffered, seen: map[uint32]bool{}, deadline: waitMax,
	}
	plugin.t.Cleanup(stream.Close)
	return stream
}

// SetAttributes sets what Envoy sends.
func (stream *Stream) SetAttributes(attributes map[string]any) *Stream {
	entry := appendBytes(appendBytes(nil, 1, "envoy.filters.http.ext_proc"), 2, string(appendStruct(nil, attributes)))
	stream.attributes = appendBytes(nil, 9, string(entry))
	return stream
}

// SetMetadata sets metadata of other filters: namespaces, each with keys.
func (stream *Stream) SetMetadata(metadata map[string]map[string]any) *Stream {
	stream.metadata = nil
	for namespace, fields := range metadata {
		entry := appendBytes(appendBytes(nil, 1, namespace), 2, string(appendStruct(nil, fields)))
		stream.metadata = appendBytes(stream.metadata, 1, string(entry))
	}
	return stream
}

// AddGRPCMetadata adds a value to the metadata of the gRPC request.
func (stream *Stream) AddGRPCMetadata(key, value string) *Stream {
	stream.grpcMetadata = append(stream.grpcMetadata, callout.Header{Name: key, Value: value})
	return stream
}

// SetRecorded says whether the exchange is sampled, so that what is added to its spans is kept; it is, if this is not
// set.
func (stream *Stream) SetRecorded(recorded bool) *Stream {
	stream.unrecorded = !recorded
	return stream
}

// SetDeadline sets how much time each call has (--hook_deadline_ms); 10 s if it is not set. It is what Call.Deadline
// and the context of deferred functions say.
func (stream *Stream) SetDeadline(time time.Duration) *Stream {
	stream.deadline = time
	return stream
}

// SetBodyMode sets how Envoy sends bodies; BodyBuffered if it is not set.
func (stream *Stream) SetBodyMode(mode callout.BodyMode) *Stream {
	stream.mode = mode
	return stream
}

// RequestHeaders passes a request without body and trailers: names and values in turn.
func (stream *Stream) RequestHeaders(pairs ...string) *Answer {
	stream.requestHeaders = stream.headers(true, pairs)
	return stream.message(abi.RequestHeaders, stream.requestHeaders, true)
}

// RequestHeadersWithBody passes the headers of a request with a body or trailers.
func (stream *Stream) RequestHeadersWithBody(pairs ...string) *Answer {
	stream.requestHeaders = stream.headers(false, pairs)
	return stream.message(abi.RequestHeaders, stream.requestHeaders, false)
}

// ResponseHeaders passes a response's headers, with ":status"; a body may follow.
func (stream *Stream) ResponseHeaders(pairs ...string) *Answer {
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i] == ":status" {
			status, _ := strconv.ParseUint(pairs[i+1], 10, 32)
			stream.httpStatus = uint32(status)
		}
	}
	return stream.message(abi.ResponseHeaders, stream.headers(false, pairs), false)
}

// RequestBody passes a piece of a body, or all of it if it is the first and the last.
func (stream *Stream) RequestBody(body string, endOfStream bool) *Answer {
	return stream.body(abi.RequestBody, body, endOfStream)
}

// ResponseBody does the same for the response.
func (stream *Stream) ResponseBody(body string, endOfStream bool) *Answer {
	return stream.body(abi.ResponseBody, body, endOfStream)
}

// RequestTrailers passes the request's trailers.
func (stream *Stream) RequestTrailers(pairs ...string) *Answer {
	return stream.message(abi.RequestTrailers, stream.headers(false, pairs), true)
}

// ResponseTrailers passes the response's trailers.
func (stream *Stream) ResponseTrailers(pairs ...string) *Answer {
	return stream.message(abi.ResponseTrailers, stream.headers(false, pairs), true)
}

// Check asks as ext_authz does; the headers may have ":method", ":path" and ":authority".
func (stream *Stream) Check(pairs ...string) *Answer {
	var http []byte
	for i := 0; i+1 < len(pairs); i += 2 {
		if field := map[string]uint64{":method": 2, ":path": 4, ":authority": 5}[pairs[i]]; field != 0 {
			http = appendBytes(http, field, pairs[i+1])
		}
		http = appendBytes(http, 3, string(appendBytes(appendBytes(nil, 1, pairs[i]), 2, pairs[i+1])))
	}
	return stream.message(abi.Check, string(appendBytes(nil, 4, string(appendBytes(nil, 2, string(http))))), true)
}

// RateLimit asks about one descriptor: keys and values in turn.
func (stream *Stream) RateLimit(domain string, pairs ...string) *Answer {
	var descriptor []byte
	for i := 0; i+1 < len(pairs); i += 2 {
		descriptor = appendBytes(descriptor, 1, string(appendBytes(appendBytes(nil, 1, pairs[i]), 2, pairs[i+1])))
	}
	return stream.message(abi.RateLimit, string(appendBytes(appendBytes(nil, 1, domain), 2, string(descriptor))), true)
}

// Connection begins a TCP connection.
func (stream *Stream) Connection() *Answer { return stream.message(abi.Connection, "", false) }

// ReadData passes bytes from the client of a TCP connection.
func (stream *Stream) ReadData(data string, endOfStream bool) *Answer {
	return stream.body(abi.ReadData, data, endOfStream)
}

// WriteData passes bytes to the client of a TCP connection.
func (stream *Stream) WriteData(data string, endOfStream bool) *Answer {
	return stream.body(abi.WriteData, data, endOfStream)
}

// Close ends the stream.
func (stream *Stream) Close() {
	if !stream.open || stream.closed {
		return
	}
	stream.closed = true
	stream.plugin.instance.Close(stream.state, &bridge.End{Outcome: 1, HTTPStatus: stream.httpStatus, StreamNs: 1, OwnNs: 1})
}

// Leave has the client leave, beside a call that is deferred.
func (stream *Stream) Leave() { stream.plugin.instance.Cancel(stream.state) }

func (stream *Stream) headers(endOfStream bool, pairs []string) string {
	if len(pairs)%2 != 0 {
		stream.plugin.t.Fatalf("names and values come in turn; the last of %q has no value", pairs)
	}
	var fields []byte
	for i := 0; i < len(pairs); i += 2 {
		fields = appendBytes(fields, 1, string(appendBytes(appendBytes(nil, 1, pairs[i]), 3, pairs[i+1])))
	}
	message := appendBytes(nil, 1, string(fields))
	if endOfStream {
		message = append(message, 3<<3, 1)
	}
	return string(message)
}

func (stream *Stream) body(phase uint32, body string, endOfStream bool) *Answer {
	message := appendBytes(nil, 1, body)
	if endOfStream {
		message = append(message, 2<<3, 1)
	}
	answer := stream.message(phase, string(message), endOfStream)
	stream.offsets[phase%2] += uint64(len(body))
	return answer
}

func (stream *Stream) message(phase uint32, message string, isLast bool) *Answer {
	plugin := stream.plugin
	plugin.t.Helper()
	facts := bridge.Facts{
		Phase: phase, Message: message, Attributes: string(stream.attributes), Metadata: string(stream.metadata),
		BodyMode: uint32(stream.mode), BodyOffset: stream.offsets[phase%2], HasDeadline: true,
		DeadlineNs: uint64(stream.deadline),
	}
	if phase%2 == 1 && plugin.instance.Wants&abi.WantRequestHeaders != 0 {
		facts.RequestHeaders = stream.requestHeaders
	}
	isBody := phase == abi.RequestBody || phase == abi.ResponseBody
	if !stream.seen[phase] {
		facts.Flags |= abi.CallFirst
		if isLast && isBody {
			facts.Flags |= abi.CallWholeBody
		}
	}
	if isLast {
		facts.Flags |= abi.CallLast
	}
	stream.seen[phase] = true
	stream.calls++
	call := &fakeCall{
		stream: stream, answer: &Answer{phase: phase}, finished: make(chan int32, 1), number: stream.calls,
	}
	if plugin.instance.Phases>>phase&1 == 0 {
		return call.answer
	}
	if !stream.open {
		opening := facts
		opening.Phase, opening.Flags, opening.Message = 0, 0, ""
		if plugin.instance.Opens {
			open := &fakeCall{stream: stream, answer: &Answer{}, finished: call.finished, number: call.number}
			status := plugin.instance.Open(open, opening)
			call.answer.span, call.answer.text = open.answer.span, open.answer.text
			if status != abi.Ok {
				return call.answered(status)
			}
		}
		stream.open = true
	}
	status := plugin.instance.Message(call, facts)
	if status != abi.Deferred {
		return call.answered(status)
	}
	call.answer.deferred = true
	begin := time.Now()
	for passed := time.Duration(0); ; {
		select {
		case status = <-call.finished:
			return call.answered(status)
		case <-time.After(time.Millisecond):
			before := passed
			if passed = time.Since(begin); passed > waitMax {
				plugin.t.Fatalf("a deferred call was not finished in %v", waitMax)
			}
			plugin.Advance(passed - before) // the call may wait for a timer
		}
	}
}

// fakeCall is bridge.Call.
type fakeCall struct {
	stream   *Stream
	answer   *Answer
	finished chan int32
	number   int // of the call in its stream
}

func (call *fakeCall) answered(status int32) *Answer {
	call.answer.status = status
	if code := call.answer.HTTPStatus(); code != 0 {
		call.stream.httpStatus = uint32(code)
	}
	return call.answer
}

func (call *fakeCall) Respond(field uint32, head, body, tail []byte) int32 {
	call.answer.field, call.answer.responded = field, true
	call.answer.message = string(head) + string(body) + string(tail)
	return abi.Ok
}
func (call *fakeCall) Send(field uint32, head, body []byte) int32 {
	if call.stream.mode != callout.BodyFullDuplexStreamed {
		return abi.FailedPrecondition
	}
	call.answer.sent = append(call.answer.sent, string(body))
	return abi.Ok
}
func (call *fakeCall) Annotate(field uint32, message []byte) int32 {
	if call.answer.phase == 0 {
		return abi.FailedPrecondition // as the host: an opening has no response
	}
	call.answer.annotations = append(call.answer.annotations, annotation{field, string(message)})
	return abi.Ok
}
func (call *fakeCall) SetError(text string)          { call.answer.text = text }
func (call *fakeCall) Finish(status int32)           { call.finished <- status }
func (call *fakeCall) IsCancelled() bool             { return false }
func (call *fakeCall) SendRoom() uint64              { return 1 << 20 }
func (call *fakeCall) Stream() any                   { return call.stream.state }
func (call *fakeCall) SetStream(state any)           { call.stream.state = state }
func (call *fakeCall) UsedLate(text string)          { call.stream.plugin.problem(text) }
func (call *fakeCall) Until(ns uint64) time.Duration { return time.Duration(ns) }
func (call *fakeCall) GRPCMetadata(key string, index uint32) (string, bool) {
	for _, entry := range call.stream.grpcMetadata {
		if entry.Name != key {
			continue
		}
		if index == 0 {
			return entry.Value, true
		}
		index--
	}
	return "", false
}
func (call *fakeCall) GRPCMetadataAt(index uint32) (string, string, bool) {
	if int(index) >= len(call.stream.grpcMetadata) {
		return "", "", false
	}
	entry := call.stream.grpcMetadata[index]
	return entry.Name, entry.Value, true
}
func (call *fakeCall) Property(property uint32) (string, bool) {
	value, found := map[uint32]string{0: "ipv4:127.0.0.1:1", 1: "plaintext", 3: "1"}[property]
	return value, found
}

// fakeHost is bridge.Host.
type fakeHost Plugin

func (host *fakeHost) Log(level uint32, text string) {
	host.mutex.Lock()
	defer host.mutex.Unlock()
	host.logs = append(host.logs, text)
}
func (host *fakeHost) LogEnabled(uint32) bool { return true }

func (host *fakeHost) DefineMetric(kind uint32, name, help string, buckets []float64) (uint32, int32) {
	host.mutex.Lock()
	defer host.mutex.Unlock()
	if host.created {
		return 0, abi.FailedPrecondition
	}
	for id, known := range host.metrics {
		if known.name == name {
			if known.kind != kind {
				return 0, abi.InvalidArgument
			}
			return uint32(id), abi.Ok
		}
	}
	if name == "" {
		return 0, abi.InvalidArgument
	}
	host.metrics = append(host.metrics, metric{name, kind, 0})
	return uint32(len(host.metrics) - 1), abi.Ok
}
func (host *fakeHost) RecordMetric(id uint32, value float64) {
	host.mutex.Lock()
	defer host.mutex.Unlock()
	known := &host.metrics[id]
	if known.kind == abi.MetricCounter || known.kind == abi.MetricUpDown {
		value += known.value
	}
	known.value = value
}
func (host *fakeHost) FollowFile(path string) int32 {
	if len(path) == 0 || path[0] != '/' {
		return abi.InvalidArgument
	}
	host.followed = append(host.followed, path)
	return abi.Ok
}

func (host *fakeHost) HasTimers() bool { return true }
func (host *fakeHost) StartTimer(run func(), delayNs, periodNs uint64) (uint64, int32) {
	host.mutex.Lock()
	defer host.mutex.Unlock()
	host.lastID++
	host.timers = append(host.timers, &timer{id: host.lastID, due: host.now + delayNs, period: periodNs, run: run})
	return host.lastID, abi.Ok
}
func (host *fakeHost) CancelTimer(id uint64) int32 {
	host.mutex.Lock()
	defer host.mutex.Unlock()
	for _, known := range host.timers {
		if known.id != id {
			continue
		}
		if known.running {
			known.period = 0
			return abi.Aborted
		}
		(*Plugin)(host).dropTimer(id)
		return abi.Ok
	}
	return abi.NotFound
}

func (host *fakeHost) HasSharedData() bool { return true }

func (plugin *Plugin) find(space, key string) (value, bool) {
	known, found := plugin.values[[2]string{space, key}]
	if found && known.expires != 0 && known.expires <= plugin.now {
		delete(plugin.values, [2]string{space, key})
		return value{}, false
	}
	return known, found
}
func (plugin *Plugin) put(space, key, bytes string, expires uint64) uint64 {
	plugin.lastID++
	plugin.values[[2]string{space, key}] = value{bytes, plugin.lastID, expires}
	return plugin.lastID
}
func isKey(space, key string) bool { return len(space) <= 128 && len(key) > 0 && len(key) <= 1024 }

func (host *fakeHost) GetShared(space, key string) (string, uint64, int32) {
	host.mutex.Lock()
	defer host.mutex.Unlock()
	if !isKey(space, key) {
		return "", 0, abi.InvalidArgument
	}
	known, found := (*Plugin)(host).find(space, key)
	if !found {
		return "", 0, abi.NotFound
	}
	return known.bytes, known.version, abi.Ok
}
func (host *fakeHost) PutShared(space, key, bytes string, mayEvict bool, ttlNs, expected uint64) (uint64, int32) {
	host.mutex.Lock()
	defer host.mutex.Unlock()
	plugin := (*Plugin)(host)
	if !isKey(space, key) {
		return 0, abi.InvalidArgument
	}
	known, _ := plugin.find(space, key)
	switch {
	case expected != abi.SharedAny && expected != known.version:
		return known.version, abi.Aborted
	case len(bytes) > 1<<20:
		return known.version, abi.ResourceExhausted
	}
	expires := uint64(0)
	if ttlNs != 0 {
		expires = host.now + ttlNs
	}
	return plugin.put(space, key, bytes, expires), abi.Ok
}
func (host *fakeHost) RemoveShared(space, key string, expected uint64) int32 {
	host.mutex.Lock()
	defer host.mutex.Unlock()
	known, found := (*Plugin)(host).find(space, key)
	switch {
	case !found:
		return abi.NotFound
	case expected != abi.SharedAny && expected != known.version:
		return abi.Aborted
	}
	delete(host.values, [2]string{space, key})
	return abi.Ok
}
func (host *fakeHost) AddShared(space, key string, amount int64, ttlNs uint64) (int64, int32) {
	host.mutex.Lock()
	defer host.mutex.Unlock()
	plugin := (*Plugin)(host)
	if !isKey(space, key) {
		return 0, abi.InvalidArgument
	}
	known, found := plugin.find(space, key)
	expires := known.expires
	if !found && ttlNs != 0 {
		expires = host.now + ttlNs
	}
	if found {
		if len(known.bytes) != 8 {
			return 0, abi.InvalidArgument
		}
		amount += int64(binary.NativeEndian.Uint64([]byte(known.bytes)))
	}
	plugin.put(space, key, string(binary.NativeEndian.AppendUint64(nil, uint64(amount))), expires)
	return amount, abi.Ok
}

func (host *fakeHost) FindUpstream(name string) int32 {
	if host.services[name] == nil {
		return abi.NotFound
	}
	return abi.Ok
}

func (host *fakeHost) StartCall(raw *bridge.Outgoing, done func(*bridge.Incoming), ended func()) (uint64, int32) {
	host.mutex.Lock()
	defer host.mutex.Unlock()
	service := host.services[raw.Upstream]
	switch {
	case !host.created || host.isOver:
		return 0, abi.FailedPrecondition
	case service == nil:
		return 0, abi.NotFound
	case len(raw.Path) == 0 || raw.Path[0] != '/':
		return 0, abi.InvalidArgument
	}
	host.lastID++
	id := host.lastID
	host.outgoing[id] = outgoing{done, ended}
	request := callout.Request{
		Method: raw.Method, Path: raw.Path, Body: append([]byte(nil), raw.Body...),
		Idempotent: raw.Flags&abi.OutgoingIdempotent != 0, Timeout: time.Duration(raw.TimeoutNs),
	}
	for _, pair := range raw.Headers {
		request.Header = append(request.Header, callout.Header{Name: pair[0], Value: pair[1]})
	}
	end := func(came *bridge.Incoming) {
		if call, found := (*Plugin)(host).takeCall(id); found {
			call.done(came)
			call.ended()
		}
	}
	if request.Timeout > 0 {
		late := &bridge.Incoming{Status: abi.DeadlineExceeded, Message: fmt.Sprintf("no response in %v", request.Timeout)}
		time.AfterFunc(request.Timeout, func() { end(late) })
	}
	go func() { end(incomingOf(service(request))) }()
	return id, abi.Ok
}

func incomingOf(response callout.Response, err error) *bridge.Incoming {
	var failure *callout.CallError
	switch {
	case errors.As(err, &failure):
		return &bridge.Incoming{Status: -int32(failure.Status), FromService: failure.FromService, Message: failure.Text}
	case err != nil:
		return &bridge.Incoming{Status: abi.Unavailable, Message: err.Error()}
	}
	came := &bridge.Incoming{HTTPStatus: uint32(response.HTTPStatus), Body: string(response.Body)}
	for _, header := range response.Header {
		came.Headers = append(came.Headers, [2]string{header.Name, header.Value})
	}
	for _, header := range response.Trailer {
		came.Trailers = append(came.Trailers, [2]string{header.Name, header.Value})
	}
	return came
}

func (host *fakeHost) CancelCall(id uint64) {
	if call, found := (*Plugin)(host).takeCall(id); found {
		call.ended()
	}
}

func (plugin *Plugin) takeCall(id uint64) (call outgoing, found bool) {
	plugin.mutex.Lock()
	defer plugin.mutex.Unlock()
	call, found = plugin.outgoing[id]
	delete(plugin.outgoing, id)
	return call, found
}

// --- Writing messages ---

func appendBytes(to []byte, field uint64, bytes string) []byte {
	to = binary.AppendUvarint(to, field<<3|2)
	return append(binary.AppendUvarint(to, uint64(len(bytes))), bytes...)
}

func appendStruct(to []byte, fields map[string]any) []byte {
	for key, value := range fields {
		entry := appendBytes(appendBytes(nil, 1, key), 2, string(appendValue(value)))
		to = appendBytes(to, 1, string(entry))
	}
	return to
}

func appendValue(value any) []byte {
	switch value := value.(type) {
	case nil:
		return []byte{1 << 3, 0}
	case string:
		return appendBytes(nil, 3, value)
	case bool:
		if value {
			return []byte{4 << 3, 1}
		}
		return []byte{4 << 3, 0}
	case int:
		return appendValue(float64(value))
	case float64:
		return appendDouble([]byte{2<<3 | 1}, value)
	case map[string]any:
		return appendBytes(nil, 5, string(appendStruct(nil, value)))
	case []any:
		var list []byte
		for _, item := range value {
			list = appendBytes(list, 1, string(appendValue(item)))
		}
		return appendBytes(nil, 6, string(list))
	}
	panic(fmt.Sprintf("no attribute or metadata can be a %T", value))
}
