// SPDX-License-Identifier: Apache-2.0

package callouttest

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"callout.test/callout/internal/abi"
	"callout.test/callout/internal/bridge"
)

// SpanEvent is an event that a plugin has added to the span of a call.
type SpanEvent struct {
	Name       string
	Attributes map[string]any
}

// SpanAttributes are what the plugin has added to the span of the call: strings, int64, float64, and bools.
func (answer *Answer) SpanAttributes() map[string]any { return answer.span.attributes }

// SpanEvents are the events that it has added.
func (answer *Answer) SpanEvents() []SpanEvent { return answer.span.events }

// span is what was added to the span of a call, within the host's default limits.
type span struct {
	attributes map[string]any
	events     []SpanEvent
}

const (
	spanCountMax     = 128
	spanTextBytesMax = 1024
	spansBytesMax    = 65536
	spanEntryBytes   = 96 // what an attribute and an event take beside their texts, as the host counts
)

func isSpanName(name string) bool {
	return len(name) > 0 && len(name) <= abi.TraceKeyBytesMax && utf8.ValidString(name)
}

// spanValue gives the value that the host keeps and how many bytes it takes. False: the host refuses it.
func spanValue(attribute bridge.SpanAttribute) (value any, size int, isLegal bool) {
	key := attribute.Key
	if !isSpanName(key) || key == "http.response.status_code" || strings.HasPrefix(key, "callout.") {
		return nil, 0, false
	}
	size = spanEntryBytes + len(key)
	switch attribute.Type {
	case abi.TraceText:
		text := attribute.Text
		if !utf8.ValidString(text) {
			return nil, 0, false
		}
		end := min(len(text), spanTextBytesMax)
		for end < len(text) && !utf8.RuneStart(text[end]) {
			end--
		}
		return text[:end], size + end, true
	case abi.TraceInteger:
		return attribute.Integer, size, true
	case abi.TraceReal:
		return attribute.Real, size, true
	}
	return attribute.Integer != 0, size, true
}

// take says whether so many bytes more fit into the exchange. With the plugin's mutex held.
func (stream *Stream) take(size int) bool {
	if stream.spanBytes+size > spansBytesMax {
		return false
	}
	stream.spanBytes += size
	return true
}

func (call *fakeCall) IsRecording() bool { return !call.stream.unrecorded }

func (call *fakeCall) SetSpanAttribute(attribute bridge.SpanAttribute) int32 {
	value, size, isLegal := spanValue(attribute)
	if !isLegal {
		return abi.InvalidArgument
	}
	call.stream.plugin.mutex.Lock()
	defer call.stream.plugin.mutex.Unlock()
	added := &call.answer.span
	_, isKnown := added.attributes[attribute.Key]
	if !isKnown && len(added.attributes) >= spanCountMax || !call.stream.take(size) {
		return abi.ResourceExhausted
	}
	if added.attributes == nil {
		added.attributes = map[string]any{}
	}
	added.attributes[attribute.Key] = value
	return abi.Ok
}

func (call *fakeCall) AddSpanEvent(name string, attributes []bridge.SpanAttribute) int32 {
	if !isSpanName(name) {
		return abi.InvalidArgument
	}
	event := SpanEvent{name, map[string]any{}}
	total := spanEntryBytes + len(name)
	for i, attribute := range attributes {
		value, size, isLegal := spanValue(attribute)
		if !isLegal {
			return abi.InvalidArgument
		}
		if i < spanCountMax {
			event.Attributes[attribute.Key] = value
			total += size
		}
	}
	call.stream.plugin.mutex.Lock()
	defer call.stream.plugin.mutex.Unlock()
	if len(call.answer.span.events) >= spanCountMax || !call.stream.take(total) {
		return abi.ResourceExhausted
	}
	call.answer.span.events = append(call.answer.span.events, event)
	return abi.Ok
}

// The trace is that of the gRPC metadata, if the test has set one; the span has the number of the call.
func (call *fakeCall) TraceContext() (string, string, bool) {
	parent, has := call.GRPCMetadata("traceparent", 0)
	has = has && len(parent) == abi.TraceparentBytes
	if !has && !call.IsRecording() {
		return "", "", false
	}
	state := ""
	if has {
		state, _ = call.GRPCMetadata("tracestate", 0)
	} else {
		parent = "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01"
	}
	if call.IsRecording() {
		parent = fmt.Sprintf("%s%016x-01", parent[:36], call.number)
	}
	return parent, state, true
}
