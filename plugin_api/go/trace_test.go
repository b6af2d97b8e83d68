// SPDX-License-Identifier: Apache-2.0

package callout_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"callout.test/callout"
	"callout.test/callout/callouttest"
)

const parent = "00-11111111111111111111111111111111-2222222222222222-00"

type traced struct{ t *testing.T }

func (plugin traced) OnStreamOpen(call *callout.OpenCall) error {
	want(plugin.t, call.Span().Set("opened", true), true)
	return nil
}

func (plugin traced) OnRequestHeaders(call *callout.HeadersCall) error {
	span := call.Span()
	for key, value := range map[string]any{
		"rule": 942101, "score": 0.5, "large": uint64(math.MaxUint64), "tenant": "blue", "entries": len(call.GRPCMetadataEntries()),
		"list": []int{1, 2},
	} {
		want(plugin.t, span.Set(key, value), true)
	}
	want(plugin.t, span.Event("cache", map[string]any{"hit": false, "key": "a"}), true)
	want(plugin.t, span.Event("nothing beside it", nil), true)
	call.SetHeader("x-recorded", fmt.Sprint(span.IsRecorded()))
	context, found := call.TraceContext()
	call.SetHeader("x-context", fmt.Sprint(context.Traceparent, " ", context.Tracestate, " ", found))
	return nil
}

// What the host refuses is told, and ends no call.
func (plugin traced) OnResponseHeaders(call *callout.HeadersCall) error {
	span := call.Span()
	for _, key := range []string{"", "callout.plugin", "http.response.status_code", "\xff"} {
		want(plugin.t, span.Set(key, 1), !span.IsRecorded())
		want(plugin.t, span.Event("e", map[string]any{key: 1}), !span.IsRecorded())
	}
	want(plugin.t, span.Event(strings.Repeat("n", 257), nil), !span.IsRecorded())
	for i := range 128 {
		if !span.Set(fmt.Sprint("key", i), strings.Repeat("é", 600)) && i < 50 {
			plugin.t.Errorf("attribute %d is refused", i)
		}
	}
	want(plugin.t, span.Set("one more", strings.Repeat("x", 1000)), !span.IsRecorded())
	return nil
}

func tracedInstance(t *testing.T) *callouttest.Plugin {
	return callouttest.New(t, func(*callout.Setup, struct{}) (traced, error) { return traced{t}, nil }, "")
}

func TestASpanHasWhatIsAddedToIt(t *testing.T) {
	stream := tracedInstance(t).Stream().AddGRPCMetadata("x-tenant", "blue").AddGRPCMetadata("x-tenant", "green")
	answer := stream.RequestHeaders(":path", "/")
	want(t, answer.Header("x-recorded"), "true")
	want(t, answer.SpanAttributes(), map[string]any{
		"opened": true, "rule": int64(942101), "score": 0.5, "large": int64(math.MaxInt64), "tenant": "blue",
		"entries": int64(2), "list": "[1 2]",
	})
	want(t, answer.SpanEvents(), []callouttest.SpanEvent{
		{Name: "cache", Attributes: map[string]any{"hit": false, "key": "a"}},
		{Name: "nothing beside it", Attributes: map[string]any{}},
	})
}

func TestWhatIsOverALimitIsLeftOut(t *testing.T) {
	answer := tracedInstance(t).Stream().ResponseHeaders(":status", "200")
	want(t, answer.Err(), nil)
	want(t, len(answer.SpanAttributes()) < 128, true)
	want(t, len(answer.SpanEvents()), 0)
	want(t, len(answer.SpanAttributes()["key0"].(string)), 1024) // cut after a whole character
}

func TestAnExchangeThatIsNotSampledRecordsNothing(t *testing.T) {
	stream := tracedInstance(t).Stream().SetRecorded(false)
	answer := stream.RequestHeaders(":path", "/")
	want(t, answer.Header("x-recorded"), "false")
	want(t, answer.Header("x-context"), "  false")
	want(t, len(answer.SpanAttributes())+len(answer.SpanEvents()), 0)
	want(t, stream.ResponseHeaders(":status", "200").Err(), nil)
}

func TestTheContextIsTheCallsSpanOrWhatCame(t *testing.T) {
	seen := func(recorded bool) string {
		stream := tracedInstance(t).Stream().AddGRPCMetadata("traceparent", parent).AddGRPCMetadata("tracestate", "a=1")
		return stream.SetRecorded(recorded).RequestHeaders(":path", "/").Header("x-context")
	}
	want(t, seen(true), "00-11111111111111111111111111111111-0000000000000001-01 a=1 true")
	want(t, seen(false), parent+" a=1 true")
}
