// SPDX-License-Identifier: Apache-2.0

package callout

import (
	"context"
	"encoding/json"
	"iter"
	"sync/atomic"
	"time"

	"callout.test/callout/internal/abi"
	"callout.test/callout/internal/bridge"
)

// Call is what the calls of all hooks have. A call belongs to the hook that was given it and, after Defer,
// to the deferred function. What it returns are copies, and stay valid.
//
// When that function has returned the call is over. A goroutine that still uses it changes nothing: steps are
// ignored, Context is cancelled, Stream is nil; the log has the first such use, and in a test it is a failure.
//
// Nothing set: the message passes unchanged; but a Check is refused.
//
// A refusal stands: after Deny, Reply, Refuse, Close or Reset every other step does nothing, and the host's log says
// which one it was, so that a missing return lets nothing pass. If the hook then ends with an error or panics, that
// is a fault which no policy lets pass.
type Call struct {
	services bridge.Call
	gate     // of the services: the host's memory is gone once the call is over
	toldLate atomic.Bool
	facts    bridge.Facts
	instance *instance
	answer   answer
	deferred func(context.Context) error
}

var errCallOver = Errorf(FailedPrecondition, "the call is over")

// with runs use with the host's services. False: the call is over, and nothing was run.
func (call *Call) with(step string, use func(bridge.Call)) bool {
	if !call.enter() {
		call.tellLate(step)
		return false
	}
	defer call.leave()
	use(call.services)
	return true
}

// tellLate tells of the first use after the end of the call.
func (call *Call) tellLate(step string) {
	if call.toldLate.Swap(true) {
		return
	}
	text := step + "() of a call that is over does nothing: use a call only until its hook, or the function that it gave to Defer, has returned"
	call.instance.host.Errorf("%s", text)
	call.services.UsedLate(text)
}

// mayGoOn says whether a step may still be made. If not it has to do nothing.
func (call *Call) mayGoOn(step string) bool {
	if call.isOver() {
		call.tellLate(step)
		return false
	}
	return call.answer.mayGoOn(step)
}

// result is what a step returns.
func (call *Call) result() error {
	if call.isOver() {
		return errCallOver
	}
	return call.answer.failure
}

// wrong makes the call a fault, also where the plugin ignores the error.
func (call *Call) wrong(text string) error {
	call.answer.fail(text)
	return call.answer.failure
}

// stream is what an instance keeps for a stream.
type stream struct {
	context context.Context
	cancel  context.CancelFunc
	own     any
}

func newStream() *stream {
	made := &stream{}
	made.context, made.cancel = context.WithCancel(context.Background())
	return made
}

// stream gives one that is cancelled, and that nobody keeps, once the call is over.
func (call *Call) stream(step string) (known *stream) {
	isOpen := call.with(step, func(services bridge.Call) {
		known, _ = services.Stream().(*stream)
		if known != nil {
			return
		}
		known = newStream()
		services.SetStream(known)
		// A cancel that came before there was anything to cancel.
		if services.IsCancelled() {
			known.cancel()
		}
	})
	if !isOpen {
		known = newStream()
		known.cancel()
	}
	return known
}

func (call *Call) has(flag uint32) bool { return call.facts.Flags&flag != 0 }

// Host is the host: log and extensions.
func (call *Call) Host() *Host { return call.instance.host }

// Stream is what SetStream has kept in an earlier call of the same stream (one HTTP request, one TCP
// connection); nil at first. Calls of a stream never overlap.
func (call *Call) Stream() any { return call.stream("Stream").own }

// SetStream keeps a value for the later calls of the stream.
func (call *Call) SetStream(own any) { call.stream("SetStream").own = own }

// Context is cancelled when the stream ends, and when the client leaves while a call is deferred or runs
// on the host's blocking pool. What Defer passes to its function has the call's deadline as well.
func (call *Call) Context() context.Context { return call.stream("Context").context }

// Defer lets the hook return while the work goes on: return what it returns. work runs in a goroutine of
// its own, may wait, and answers the call by the same methods; the call ends with its error. A panic in
// it is a fault. The context has the call's Deadline, after which the host answers in the plugin's place,
// and is cancelled when the client leaves.
//
// work may defer once in its turn, and so on: the call ends with the last function. A second Defer in one function,
// and one in OnStreamOpen, is a fault.
func (call *Call) Defer(work func(context.Context) error) error {
	switch {
	case call.isOver():
		call.tellLate("Defer")
		return errCallOver
	case call.facts.Phase == 0:
		return call.wrong("Defer() has no place in OnStreamOpen: defer in the hook of the first message")
	case work == nil:
		return call.wrong("Defer() was given no function")
	case call.deferred != nil:
		return call.wrong("Defer() was called twice in one function: give it one function that does all of the work")
	}
	call.deferred = work
	return nil
}

// IsFirst says that it is the first call of its kind in the stream.
func (call *Call) IsFirst() bool { return call.has(abi.CallFirst) }

// EndOfStream says that nothing more follows in this direction. Trailers that follow a body cannot be
// known in advance.
func (call *Call) EndOfStream() bool { return call.has(abi.CallLast) }

// IsCancelled says that the client or Envoy has left.
func (call *Call) IsCancelled() bool {
	isCancelled := true
	call.with("IsCancelled", func(services bridge.Call) { isCancelled = services.IsCancelled() })
	return isCancelled
}

// Deadline is when the host answers in the plugin's place. What ExtendTimeout adds is not in it.
func (call *Call) Deadline() (time.Time, bool) {
	if !call.facts.HasDeadline {
		return time.Time{}, false
	}
	return time.Now().Add(call.services.Until(call.facts.DeadlineNs)), true
}

// Attribute is what Envoy was told to send: request.path, source.address, … It is a string, float64,
// bool, []any, map[string]any or, if there is none, nil.
func (call *Call) Attribute(name string) (value any) {
	allBytes(call.facts.Attributes, 9, func(entry string) bool {
		if bytes, found := findInMap(lastBytes(entry, 2), 1, name); found {
			value = readValue(bytes, depthMax)
		}
		return true
	})
	return value
}

// Metadata is what another filter has left under a key in a namespace; nil if there is none.
func (call *Call) Metadata(namespace, key string) any {
	fields, _ := findInMap(call.facts.Metadata, 1, namespace)
	value, found := findInMap(fields, 1, key)
	if !found {
		return nil
	}
	return readValue(value, depthMax)
}

// GRPCMetadata is the first value of a key (in lower case) in the metadata of the gRPC request.
func (call *Call) GRPCMetadata(key string) (value string, found bool) {
	call.with("GRPCMetadata", func(services bridge.Call) { value, found = services.GRPCMetadata(key, 0) })
	return value, found
}

// GRPCMetadataEntries is all of the metadata of the gRPC request, in its order; names are in lower case. It is the
// extension callout.rpc_metadata/1: empty on a host that is older.
func (call *Call) GRPCMetadataEntries() (entries []Header) {
	call.with("GRPCMetadataEntries", func(services bridge.Call) {
		for index := uint32(0); ; index++ {
			name, value, found := services.GRPCMetadataAt(index)
			if !found {
				return
			}
			entries = append(entries, Header{name, value})
		}
	})
	return entries
}

func (call *Call) property(step string, which uint32) (value string) {
	call.with(step, func(services bridge.Call) { value, _ = services.Property(which) })
	return value
}

// Peer is Envoy's address: "ipv4:10.0.0.7:41312".
func (call *Call) Peer() string { return call.property("Peer", abi.Peer) }

// Listener is "secure" or "plaintext".
func (call *Call) Listener() string { return call.property("Listener", abi.Listener) }

// PeerIdentity is by Envoy's client certificate: its first URI SAN, else DNS SAN, else common name.
func (call *Call) PeerIdentity() string { return call.property("PeerIdentity", abi.PeerIdentity) }

// StreamID is unique in this process.
func (call *Call) StreamID() string { return call.property("StreamID", abi.StreamId) }

// SetMetadata gives dynamic metadata to later filters: namespace gets the fields of value, which has to
// become a JSON object. Envoy drops namespaces that its receiving_namespaces does not list. In OnStreamOpen, where
// there is no response that it could go beside, it is a fault.
func (call *Call) SetMetadata(namespace string, value any) error {
	if call.facts.Phase == 0 {
		return call.wrong("SetMetadata() has no place in OnStreamOpen: set it in the hook of a message")
	}
	text, err := json.Marshal(value)
	if err != nil {
		return Errorf(InvalidArgument, "metadata for %s: %v", namespace, err)
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil || fields == nil {
		return Errorf(InvalidArgument, "metadata for %s: expected an object", namespace)
	}
	message, fits := putStruct(nil, map[string]any{namespace: fields}, depthMax)
	if !fits {
		return Errorf(InvalidArgument, "metadata for %s: its values lie too deep in one another", namespace)
	}
	field := uint32(abi.DynamicMetadata)
	switch call.facts.Phase {
	case abi.Check:
		field = abi.CheckDynamicMetadata
	case abi.RateLimit:
		field = abi.RateLimitDynamicMetadata
	case abi.ReadData, abi.WriteData, abi.Connection:
		field = abi.DataDynamicMetadata
	}
	return call.annotate("SetMetadata", field, message)
}

func (call *Call) annotate(step string, field uint32, message []byte) error {
	status := int32(abi.FailedPrecondition)
	if !call.with(step, func(services bridge.Call) { status = services.Annotate(field, message) }) {
		return errCallOver
	}
	return refusal(status, "the host refused what was to go beside the response")
}

// endConnection ends the connection, if nothing has before.
func (call *Call) endConnection(step string, how uint64) {
	if call.mayGoOn(step) {
		call.answer.connection = how
	}
}

// setBody replaces the body, or removes it.
func (call *Call) setBody(step string, kind bodyKind, body []byte) {
	if call.mayGoOn(step) {
		call.answer.bodyKind, call.answer.body = kind, body
	}
}

// settle gives the host what was set, and returns the status of the hook. The call is over then.
func (call *Call) settle(err error) (status int32) {
	defer call.end()
	defer func() {
		if cause := recover(); cause != nil {
			status = call.fail(Errorf(Internal, "panic: %s", textOf(cause)))
		}
	}()
	if call.answer.lateStep != "" {
		call.instance.host.Errorf("%s", call.answer.lateStepText(call.facts.Phase))
	}
	if err == nil {
		err = call.answer.failure
	}
	if err == nil && call.answer.held && !call.answer.isEmpty() && !call.answer.refuses() {
		err = Errorf(InvalidArgument, "Hold() beside another step of the same call, which would be lost: only hold, or only set")
	}
	switch {
	case err != nil && call.answer.refuses():
		// A refusal is told before the fault, which then passes under no policy.
		told := call.respond()
		if known := read(err, Internal).Status; known == PermissionDenied || known == Unauthenticated {
			return told
		}
		return call.fail(err)
	case err != nil:
		return call.fail(err)
	case call.answer.held && call.answer.isEmpty():
		return abi.NoResponse
	case call.answer.isEmpty():
		return abi.Ok
	}
	return call.respond()
}

func (call *Call) respond() int32 {
	field, head, tail := call.answer.message(call.facts.Phase)
	return call.services.Respond(field, head, call.answer.body, tail)
}

func (call *Call) fail(err error) int32 {
	failure := read(err, Internal)
	call.services.SetError(failure.Text)
	return -int32(failure.Status)
}

// --- ext_proc ---

// A Mutation is a call that changes headers of an HTTP message, or answers in the backend's place.
type Mutation struct{ *Call }

// SetHeader sets a header, in the place of all that have this name.
func (call Mutation) SetHeader(name, value string) {
	call.changeHeader("SetHeader", name, value, overwriteOrAdd)
}

func (call Mutation) changeHeader(step, name, value string, action appendAction) {
	if call.mayGoOn(step) {
		call.answer.setHeader(name, value, action)
	}
}

// AppendHeader adds a header; values that are there stay.
func (call Mutation) AppendHeader(name, value string) {
	call.changeHeader("AppendHeader", name, value, appendIfExistsOrAdd)
}

// RemoveHeader removes all values of a header, also what this call has set.
func (call Mutation) RemoveHeader(name string) {
	if call.mayGoOn("RemoveHeader") {
		call.answer.removeHeader(name)
	}
}

// Deny refuses the request: Envoy answers the client with this status (200 to 599) and body. Return what
// it returns. The first refusal of a call stands.
func (call Mutation) Deny(httpStatus int, body string) error {
	call.reply("Deny", httpStatus).Body(body)
	return call.result()
}

// Reply does the same with headers and more. What the call has set before is dropped; after another refusal it does
// nothing.
func (call Mutation) Reply(httpStatus int) Reply { return call.reply("Reply", httpStatus) }

func (call Mutation) reply(step string, httpStatus int) Reply {
	if !call.mayGoOn(step) {
		return Reply{&answer{immediate: &immediate{}}} // of nobody
	}
	failure := call.answer.failure
	call.answer = answer{failure: failure, immediate: &immediate{httpStatus: uint64(httpStatus)}}
	if httpStatus < 200 || httpStatus > 599 {
		call.answer.fail("an immediate response needs an HTTP status of 200 to 599")
	}
	return Reply{&call.answer}
}

// Reply is what a client gets in the place of the backend's response.
type Reply struct{ answer *answer }

// Header sets a header of the response.
func (reply Reply) Header(name, value string) Reply {
	reply.answer.setHeader(name, value, overwriteOrAdd)
	return reply
}

// Body is its body. Envoy's default content-type is text/plain.
func (reply Reply) Body(body string) Reply {
	reply.answer.bodyKind, reply.answer.body = bodyReplaced, []byte(body)
	return reply
}

// Details go to Envoy's access log (%RESPONSE_CODE_DETAILS%); the client does not see them.
func (reply Reply) Details(text string) Reply {
	reply.answer.immediate.details = text
	return reply
}

// GRPCStatus is for gRPC clients; without it Envoy derives one from the HTTP status.
func (reply Reply) GRPCStatus(status int) Reply {
	reply.answer.immediate.hasGRPCStatus, reply.answer.immediate.grpcStatus = true, uint64(status)
	return reply
}

// ExtendTimeout asks Envoy for more time for this message, which needs max_message_timeout. Before Defer. Deadline, and
// the context of a deferred function, keep to the time without it: for work that is to use it make a context from
// Context, which has no deadline.
func (call Mutation) ExtendTimeout(timeout time.Duration) error {
	message := putNumber(nil, 1, uint64(timeout/time.Second))
	message = putNumber(message, 2, uint64(timeout%time.Second))
	return call.annotate("ExtendTimeout", abi.OverrideMessageTimeout, message)
}

// BodyMode is how Envoy sends a body.
type BodyMode uint32

// The ways to send a body.
const (
	BodyNone               BodyMode = abi.BodyNone
	BodyStreamed           BodyMode = abi.BodyStreamed
	BodyBuffered           BodyMode = abi.BodyBuffered
	BodyBufferedPartial    BodyMode = abi.BodyBufferedPartial
	BodyFullDuplexStreamed BodyMode = abi.BodyFullDuplexStreamed
	BodyGRPC               BodyMode = abi.BodyGrpc
)

// BodyMode is how Envoy sends the body of this direction.
func (call Mutation) BodyMode() BodyMode { return BodyMode(call.facts.BodyMode) }

// OverrideBodyModes changes how the bodies are sent in the rest of the stream. Envoy follows only if it is
// told to (allow_mode_override).
func (call Mutation) OverrideBodyModes(request, response BodyMode) error {
	message := putNumber(nil, 3, uint64(request)) // ProcessingMode: request_body_mode 3
	return call.annotate("OverrideBodyModes", abi.ModeOverride, putNumber(message, 4, uint64(response)))
}

// RequestHeaders are, in response phases and after Setup.WantRequestHeaders, the request's headers as Envoy
// sent them.
func (call Mutation) RequestHeaders() Headers { return Headers{message: call.facts.RequestHeaders} }

// IsObserved says that Envoy does not see the answers (observability mode).
func (call Mutation) IsObserved() bool { return call.has(abi.CallObservability) }

// HeadersCall is for OnRequestHeaders and OnResponseHeaders.
type HeadersCall struct{ Mutation }

// Headers are as the plugins before left them.
func (call *HeadersCall) Headers() Headers { return Headers{message: call.facts.Message} }

func (call Mutation) wouldExist(name string) bool {
	known := Headers{message: call.facts.Message}.Has(name)
	return call.answer.names(1, name) || known && !call.answer.names(2, name)
}

func (call Mutation) setHeaderIfAbsent(name, value string) {
	if !call.wouldExist(name) {
		call.changeHeader("SetHeaderIfAbsent", name, value, addIfAbsent)
	}
}

func (call Mutation) setHeaderIfPresent(name, value string) {
	if call.wouldExist(name) {
		call.changeHeader("SetHeaderIfPresent", name, value, overwriteIfExists)
	}
}

// SetHeaderIfAbsent sets a header that would not be there otherwise.
func (call *HeadersCall) SetHeaderIfAbsent(name, value string) { call.setHeaderIfAbsent(name, value) }

// SetHeaderIfPresent sets a header that is there already.
func (call *HeadersCall) SetHeaderIfPresent(name, value string) { call.setHeaderIfPresent(name, value) }

// ClearRouteCache lets Envoy choose the route again, by the headers as this call leaves them. For requests.
func (call *HeadersCall) ClearRouteCache() { call.clearRouteCache() }

func (call Mutation) clearRouteCache() {
	if call.mayGoOn("ClearRouteCache") {
		call.answer.clearsRouteCache = true
	}
}

// ReplaceBody puts body in the place of the one that would follow.
func (call *HeadersCall) ReplaceBody(body []byte) {
	call.setBody("ReplaceBody", bodyReplaced, body)
}

// Hold holds the headers until a later call of the direction settles them. FULL_DUPLEX_STREAMED only. Beside another
// step, which would be lost, it is a fault; a refusal stands.
func (call *HeadersCall) Hold() { call.hold() }

func (call Mutation) hold() {
	if call.mayGoOn("Hold") {
		call.answer.held = true
	}
}

// BodyCall is for OnRequestBody and OnResponseBody.
type BodyCall struct{ Mutation }

// Body is the body, or the piece of it that has come.
func (call *BodyCall) Body() []byte { return []byte(lastBytes(call.facts.Message, 1)) }

// IsWhole says that the message holds the entire body.
func (call *BodyCall) IsWhole() bool { return call.has(abi.CallWholeBody) }

// Offset counts the bytes of this direction's body in the messages before.
func (call *BodyCall) Offset() uint64 { return call.facts.BodyOffset }

// SetBody replaces the body or this piece of it, in whatever mode Envoy sends it.
func (call *BodyCall) SetBody(body []byte) { call.setBody("SetBody", bodyReplaced, body) }

// ClearBody removes the body or this piece.
func (call *BodyCall) ClearBody() { call.setBody("ClearBody", bodyCleared, nil) }

// ClearRouteCache lets Envoy choose the route again. For requests, in BUFFERED.
func (call *BodyCall) ClearRouteCache() { call.clearRouteCache() }

// Send sends a piece ahead of the answer. FULL_DUPLEX_STREAMED only.
func (call *BodyCall) Send(piece []byte) error {
	if !call.mayGoOn("Send") {
		return call.result()
	}
	// BodyResponse.response 1 .body_mutation 3 .streamed_response 3 .body 1
	streamed := recordSize(1, len(piece))
	mutation := recordSize(3, streamed)
	head := putHead(putHead(nil, 1, recordSize(3, mutation)), 3, mutation)
	head = putHead(putHead(head, 3, streamed), 1, len(piece))
	status := int32(abi.FailedPrecondition)
	call.with("Send", func(services bridge.Call) { status = services.Send(call.facts.Phase-1, head, piece) })
	return refusal(status, "a piece of the body could not be sent")
}

// SendRoom is how many bytes Send takes now.
func (call *BodyCall) SendRoom() (bytes uint64) {
	call.with("SendRoom", func(services bridge.Call) { bytes = services.SendRoom() })
	return bytes
}

// Hold keeps this piece back, or drops it. FULL_DUPLEX_STREAMED only. What is not Send or a refusal beside it is a
// fault, since it would be lost.
func (call *BodyCall) Hold() { call.hold() }

// TrailersCall is for OnRequestTrailers and OnResponseTrailers.
type TrailersCall struct{ Mutation }

// Trailers are as the plugins before left them.
func (call *TrailersCall) Trailers() Headers { return Headers{message: call.facts.Message} }

// SetHeaderIfAbsent sets a trailer that would not be there otherwise.
func (call *TrailersCall) SetHeaderIfAbsent(name, value string) { call.setHeaderIfAbsent(name, value) }

// SetHeaderIfPresent sets a trailer that is there already.
func (call *TrailersCall) SetHeaderIfPresent(name, value string) {
	call.setHeaderIfPresent(name, value)
}

// --- ext_authz ---

// CheckCall is for OnCheck.
type CheckCall struct{ *Call }

// AttributeContext.request 4 .http 2
func (call *CheckCall) http() string { return lastBytes(lastBytes(call.facts.Message, 4), 2) }

// Headers are those of the request.
func (call *CheckCall) Headers() Headers { return Headers{call.http(), true} }

// Method is empty where the network filter asks about a connection.
func (call *CheckCall) Method() string { return lastBytes(call.http(), 2) }

// Path has the query.
func (call *CheckCall) Path() string { return lastBytes(call.http(), 4) }

// HostName is the request's host (authority).
func (call *CheckCall) HostName() string { return lastBytes(call.http(), 5) }

// Body is there where Envoy is told to send it.
func (call *CheckCall) Body() []byte {
	if packed := lastBytes(call.http(), 12); packed != "" {
		return []byte(packed)
	}
	return []byte(lastBytes(call.http(), 11))
}

// Extension is what the route's configuration says under a key (context_extensions).
func (call *CheckCall) Extension(key string) (string, bool) {
	return findInMap(call.facts.Message, 10, key)
}

// Principal is by the peer's certificate: a URI SAN, else a DNS SAN, else the subject; else empty.
func (call *CheckCall) Principal() string { return lastBytes(lastBytes(call.facts.Message, 1), 4) }

// Source is the client's IP address and port.
func (call *CheckCall) Source() (address string, port int) {
	socket := lastBytes(lastBytes(lastBytes(call.facts.Message, 1), 1), 1)
	return lastBytes(socket, 2), int(lastNumber(socket, 3))
}

// begin gives an answer of nobody if a refusal stands.
func (call *CheckCall) begin(step string, field uint32) *answer {
	if !call.mayGoOn(step) {
		return &answer{}
	}
	call.answer = answer{failure: call.answer.failure, check: field}
	return &call.answer
}

// Allow lets the request pass, with what is then set on it. An Allow before it is dropped; after a refusal it does
// nothing.
func (call *CheckCall) Allow() Allow { return Allow{call.begin("Allow", abi.CheckOk)} }

// Deny refuses it with an HTTP status of 200 to 599 and a body of UTF-8. Return what it returns. The first refusal of
// a call stands.
func (call *CheckCall) Deny(httpStatus int, body string) error {
	call.refuse("Deny", httpStatus).Body(body)
	return call.result()
}

// Refuse does the same, with headers.
func (call *CheckCall) Refuse(httpStatus int) Refuse { return call.refuse("Refuse", httpStatus) }

func (call *CheckCall) refuse(step string, httpStatus int) Refuse {
	answer := call.begin(step, abi.CheckDenied)
	if httpStatus < 200 || httpStatus > 599 {
		answer.fail("a denial needs an HTTP status of 200 to 599")
	}
	answer.records = putMessage(nil, 1, func(to []byte) []byte { return putNumber(to, 1, uint64(httpStatus)) })
	return Refuse{answer}
}

// Allow is what happens to a request that may pass.
type Allow struct{ answer *answer }

// put does nothing if the request has been refused since.
func (allow Allow) put(step string, put func(to []byte) []byte) Allow {
	if allow.answer.mayGoOn(step) {
		allow.answer.records = put(allow.answer.records)
	}
	return allow
}

// Header sets a header of the request.
func (allow Allow) Header(name, value string) Allow {
	return allow.put("Header", func(to []byte) []byte { return putCheckHeader(to, 2, name, value, overwriteOrAdd) })
}

// RemoveHeader removes a header of the request.
func (allow Allow) RemoveHeader(name string) Allow {
	return allow.put("RemoveHeader", func(to []byte) []byte { return putBytes(to, 5, name) })
}

// ResponseHeader sets a header of the response that the request will get.
func (allow Allow) ResponseHeader(name, value string) Allow {
	return allow.put("ResponseHeader", func(to []byte) []byte { return putCheckHeader(to, 6, name, value, overwriteOrAdd) })
}

// Query sets a parameter of the query, in plain text: the host encodes it.
func (allow Allow) Query(name, value string) Allow {
	return allow.put("Query", func(to []byte) []byte { return putPair(to, 7, name, value) })
}

// RemoveQuery removes a parameter of the query.
func (allow Allow) RemoveQuery(name string) Allow {
	return allow.put("RemoveQuery", func(to []byte) []byte { return putBytes(to, 8, name) })
}

// Refuse is what a client gets whose request is refused.
type Refuse struct{ answer *answer }

// Header adds a header to the response.
func (refuse Refuse) Header(name, value string) Refuse {
	refuse.answer.records = putCheckHeader(refuse.answer.records, 2, name, value, appendIfExistsOrAdd)
	return refuse
}

// Body is the response's body.
func (refuse Refuse) Body(body string) Refuse {
	refuse.answer.records = putBytes(refuse.answer.records, 3, body)
	return refuse
}

// --- Rate limits ---

// RateLimitCall is for OnRateLimit. Nothing set: the request is within its limits.
type RateLimitCall struct{ *Call }

// Descriptor has entries that together name a counter.
type Descriptor struct {
	message   string
	Hits      uint64 // its own, else the request's; 0 asks without taking any
	GivesBack bool   // the hits are returned, not taken
}

// Entries goes through the keys and values.
func (descriptor Descriptor) Entries() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		allBytes(descriptor.message, 1, func(entry string) bool {
			return yield(lastBytes(entry, 1), lastBytes(entry, 2))
		})
	}
}

// Get returns the first value of an entry.
func (descriptor Descriptor) Get(key string) (string, bool) {
	for name, value := range descriptor.Entries() {
		if name == key {
			return value, true
		}
	}
	return "", false
}

// Domain says which set of limits: the domain of the filter's configuration.
func (call *RateLimitCall) Domain() string { return lastBytes(call.facts.Message, 1) }

// Hits is what the request counts for, at least 1.
func (call *RateLimitCall) Hits() uint64 { return max(lastNumber(call.facts.Message, 3), 1) }

// Descriptors are what the request is counted by.
func (call *RateLimitCall) Descriptors() (descriptors []Descriptor) {
	allBytes(call.facts.Message, 2, func(message string) bool {
		one := Descriptor{message, call.Hits(), lastNumber(message, 4) != 0}
		if hasBytes(message, 3) { // hits_addend, a UInt64Value: value 1
			one.Hits = lastNumber(lastBytes(message, 3), 1)
		}
		descriptors = append(descriptors, one)
		return true
	})
	return descriptors
}

// OverLimit says that the request is over its limits: Envoy answers 429. It stays so, whatever comes after it.
func (call *RateLimitCall) OverLimit() {
	if call.mayGoOn("OverLimit") {
		call.answer.hasLimit, call.answer.overLimit = true, true
	}
}

func (call *RateLimitCall) put(step string, put func(to []byte) []byte) {
	if call.mayGoOn(step) {
		call.answer.hasLimit = true
		call.answer.records = put(call.answer.records)
	}
}

// AddResponseHeader adds a header to the response, whether the request passes or not.
func (call *RateLimitCall) AddResponseHeader(name, value string) {
	call.put("AddResponseHeader", func(to []byte) []byte { return putPair(to, 3, name, value) })
}

// AddRequestHeader adds a header to a request that passes.
func (call *RateLimitCall) AddRequestHeader(name, value string) {
	call.put("AddRequestHeader", func(to []byte) []byte { return putPair(to, 4, name, value) })
}

// SetBody is the body of the response to a request over the limit.
func (call *RateLimitCall) SetBody(body []byte) {
	call.put("SetBody", func(to []byte) []byte { return putBytes(to, 5, string(body)) })
}

// --- Network ext_proc ---

// ConnectionCall is for OnConnection.
type ConnectionCall struct{ *Call }

// Close closes the connection as one that is over. After Close and Reset nothing else counts.
func (call *ConnectionCall) Close() { call.endConnection("Close", 1) }

// Reset resets it.
func (call *ConnectionCall) Reset() { call.endConnection("Reset", 2) }

// DataCall is for OnReadData and OnWriteData.
type DataCall struct{ *Call }

// Data are the bytes, as they come. There may be none: an end of a direction comes alone.
func (call *DataCall) Data() []byte { return []byte(lastBytes(call.facts.Message, 1)) }

// Offset counts the bytes of the direction before these.
func (call *DataCall) Offset() uint64 { return call.facts.BodyOffset }

// SetData puts these bytes in the place of those that came; none, if it is empty.
func (call *DataCall) SetData(data []byte) { call.setBody("SetData", bodyReplaced, data) }

// Close closes the connection as one that is over, without the bytes of this call. After Close and Reset nothing else
// counts.
func (call *DataCall) Close() { call.endConnection("Close", 1) }

// Reset resets it.
func (call *DataCall) Reset() { call.endConnection("Reset", 2) }

// --- Streams ---

// OpenCall is for OnStreamOpen. It can refuse a stream by an error, but not answer.
type OpenCall struct{ *Call }

// Outcome is how a stream ended.
type Outcome uint32

// How a stream may end. More may be added.
const (
	EndUnknown   Outcome = abi.EndUnknown
	EndCompleted Outcome = abi.EndCompleted // Envoy ended it and nothing was outstanding
	EndEarly     Outcome = abi.EndEarly     // the host ended it, since no instance wanted more of it
	EndImmediate Outcome = abi.EndImmediate // a plugin or a policy had Envoy answer the client
	EndError     Outcome = abi.EndError     // the host ended it with an error
	EndCancelled Outcome = abi.EndCancelled // Envoy left while a response was outstanding
	EndDrained   Outcome = abi.EndDrained   // the host shut down
)

// StreamEnd is for OnStreamEnd.
type StreamEnd struct {
	Outcome           Outcome
	HTTPStatus        int // the response's :status as it came last; 0: none was seen
	RequestBodyBytes  uint64
	ResponseBodyBytes uint64
	StreamTime        time.Duration // from the first message to the end
	OwnTime           time.Duration // of it, in this instance
	Stream            any           // what SetStream has kept
}
