// SPDX-License-Identifier: Apache-2.0

package callout

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"

	"callout.test/callout/internal/abi"
	"callout.test/callout/internal/bridge"
)

// Span is the span that the host makes of a call, for attributes and events of the plugin: the extension
// callout.trace/1. It takes what is added until the call is over.
//
// An exchange that is not sampled records nothing, and a host that is older than the extension never does: then
// Set and Event do nothing and return true. Ask IsRecorded only where it takes time to find out what to add. What
// is refused never ends a call: traces decide about no request.
//
// A key and a name have 1 to 256 bytes; they and texts are UTF-8. Keys that begin with "callout.", and
// "http.response.status_code", are the host's. OpenTelemetry's variables and --max_trace_bytes limit what is kept;
// docs/tracing.md has them.
type Span struct {
	call *Call // nil: nothing is recorded
}

// TraceContext is for requests that the plugin sends on behalf of a call, by W3C Trace Context: two headers.
type TraceContext struct {
	Traceparent string
	Tracestate  string // "": there is none
}

// Span is the span of this call.
func (call *Call) Span() Span {
	isRecording := false
	call.with("Span", func(services bridge.Call) { isRecording = services.IsRecording() })
	if !isRecording {
		return Span{}
	}
	return Span{call}
}

// TraceContext is what to pass on. If the exchange is recorded, this call's span is the parent; else it is what came
// with the gRPC request. False: there is none.
func (call *Call) TraceContext() (context TraceContext, found bool) {
	call.with("TraceContext", func(services bridge.Call) {
		context.Traceparent, context.Tracestate, found = services.TraceContext()
	})
	return context, found
}

// IsRecorded says whether what is added is kept.
func (span Span) IsRecorded() bool { return span.call != nil }

// Set sets an attribute, in the place of one of this key. An integer, a float and a bool stay what they are;
// everything else becomes a text, by fmt.Sprint. False: the host has refused it, as the log or
// callout_trace_dropped_total says.
func (span Span) Set(key string, value any) bool {
	if span.call == nil {
		return true
	}
	attribute, status := spanAttribute(key, value), int32(abi.FailedPrecondition)
	span.call.with("Span.Set", func(services bridge.Call) { status = services.SetSpanAttribute(attribute) })
	return status == abi.Ok
}

// Event adds an event, which has the time of now, with attributes (or nil). False: the host has refused it.
func (span Span) Event(name string, attributes map[string]any) bool {
	if span.call == nil {
		return true
	}
	var list []bridge.SpanAttribute
	for _, key := range slices.Sorted(maps.Keys(attributes)) {
		list = append(list, spanAttribute(key, attributes[key]))
	}
	status := int32(abi.FailedPrecondition)
	span.call.with("Span.Event", func(services bridge.Call) { status = services.AddSpanEvent(name, list) })
	return status == abi.Ok
}

func spanAttribute(key string, value any) bridge.SpanAttribute {
	made := bridge.SpanAttribute{Key: key}
	switch of := reflect.ValueOf(value); of.Kind() {
	case reflect.Bool:
		made.Type = abi.TraceFlag
		if of.Bool() {
			made.Integer = 1
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		made.Type, made.Integer = abi.TraceInteger, of.Int()
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		made.Type, made.Integer = abi.TraceInteger, int64(min(of.Uint(), math.MaxInt64))
	case reflect.Float32, reflect.Float64:
		made.Type, made.Real = abi.TraceReal, of.Float()
	default:
		made.Type, made.Text = abi.TraceText, fmt.Sprint(value)
	}
	return made
}
