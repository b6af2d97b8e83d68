// SPDX-License-Identifier: Apache-2.0

// Package bridge is what lies between package callout and a host: the real one, over cgo, or the
// fake one of callouttest.
package bridge

import "time"

// Facts are what a call brings. The texts are copies, so they stay valid.
type Facts struct {
	Phase, Flags, BodyMode        uint32
	Message, Attributes, Metadata string
	RequestHeaders                string
	BodyOffset                    uint64
	HasDeadline                   bool
	DeadlineNs                    uint64 // CLOCK_MONOTONIC
}

// End is how a stream ended.
type End struct {
	Outcome, HTTPStatus uint32
	RequestBytes        uint64
	ResponseBytes       uint64
	StreamNs, OwnNs     uint64
}

// Outgoing is a request to an upstream, which is copied before StartCall returns.
type Outgoing struct {
	Flags                  uint32
	Upstream, Method, Path string
	Headers                [][2]string
	Body                   []byte
	TimeoutNs              uint64
}

// Incoming is how a call came out.
type Incoming struct {
	Status            int32
	FromService       bool
	HTTPStatus        uint32
	Headers, Trailers [][2]string
	Body, Message     string
}

// SpanAttribute is an attribute of a span: Type, one of TRACE_..., says which member has the value. A flag is in
// Integer.
type SpanAttribute struct {
	Key     string
	Type    uint32
	Text    string
	Integer int64
	Real    float64
}

// Call has the services of the host for one call. All statuses are those of the ABI.
type Call interface {
	// Respond takes the message in parts, of which any may be empty.
	Respond(field uint32, head, body, tail []byte) int32
	Send(field uint32, head, body []byte) int32
	Annotate(field uint32, message []byte) int32
	SetError(text string)
	Finish(status int32)
	IsCancelled() bool
	GRPCMetadata(key string, index uint32) (string, bool)
	// GRPCMetadataAt finds nothing on a host without the extension.
	GRPCMetadataAt(index uint32) (key, value string, found bool)
	// A host without the extension for traces records nothing and has no context.
	IsRecording() bool
	SetSpanAttribute(attribute SpanAttribute) int32
	AddSpanEvent(name string, attributes []SpanAttribute) int32
	TraceContext() (traceparent, tracestate string, found bool)
	Property(property uint32) (string, bool)
	SendRoom() uint64
	// Until is the time from now to a time of CLOCK_MONOTONIC.
	Until(deadlineNs uint64) time.Duration
	// What the plugin keeps for the stream; nil at first.
	Stream() any
	SetStream(state any)
	// UsedLate tells of a use of the call after its end, when none of the others may be called any more. The host's
	// memory of the call is gone.
	UsedLate(text string)
}

// Host has the services of the host for one instance.
type Host interface {
	Log(level uint32, text string)
	LogEnabled(level uint32) bool
	DefineMetric(kind uint32, name, help string, buckets []float64) (uint32, int32)
	RecordMetric(id uint32, value float64)
	FollowFile(path string) int32
	// StartTimer has run called on other threads.
	StartTimer(run func(), delayNs, periodNs uint64) (uint64, int32)
	CancelTimer(id uint64) int32
	HasTimers() bool
	HasSharedData() bool
	GetShared(space, key string) (value string, version uint64, status int32)
	PutShared(space, key, value string, mayEvict bool, ttlNs, expected uint64) (uint64, int32)
	RemoveShared(space, key string, expected uint64) int32
	// FindUpstream is UNIMPLEMENTED on a host without the extension.
	FindUpstream(name string) int32
	// done is called once on another thread, where it must not wait; never, after CancelCall, nor where the host ends
	// the calls of an instance. ended is called once after all of that, if a call was started; it must not wait either.
	StartCall(outgoing *Outgoing, done func(*Incoming), ended func()) (uint64, int32)
	CancelCall(id uint64)
	AddShared(space, key string, amount int64, ttlNs uint64) (int64, int32)
}

// Instance is a plugin that has been created, and what it asked for.
type Instance struct {
	Phases, Blocking, WholeBodyBytes, Wants uint64
	Opens, Ends                             bool
	Open                                    func(Call, Facts) int32
	Message                                 func(Call, Facts) int32
	Close                                   func(state any, end *End)
	Cancel                                  func(state any)
	Destroy                                 func()
}

// Create makes an instance of a callout.Definition: package callout sets it. With a negative status it
// has logged why.
var Create func(definition any, host Host, name, config string, phases uint64) (*Instance, int32)
