// SPDX-License-Identifier: Apache-2.0

package callout

// The border between the host, which speaks C, and Go: the only file with cgo. No Go pointer is kept in
// C, and of the host's memory nothing is kept in Go: what a call brings is copied once.

/*
#cgo CFLAGS: -O2
#include "abi.h"
*/
import "C"

import (
	"runtime/cgo"
	"time"
	"unsafe"

	"callout.test/callout/internal/abi"
	"callout.test/callout/internal/bridge"
)

//export calloutGoCreate
func calloutGoCreate(args *C.callout_create_args_t, instance *C.callout_go_instance_t) C.callout_status_t {
	host := &realHost{table: args.host}
	made, status := bridge.Create(nil, host, C.GoString(args.instance), copied(args.config), uint64(args.phases))
	if status != abi.Ok {
		return C.callout_status_t(status)
	}
	args.phases = C.uint64_t(made.Phases)
	args.blocking_phases = C.uint64_t(made.Blocking)
	args.whole_body_bytes_max = C.uint64_t(made.WholeBodyBytes)
	args.wants = C.uint64_t(made.Wants)
	if made.Opens {
		instance.opens = 1
	}
	if made.Ends {
		instance.ends = 1
	}
	instance.handle = C.uintptr_t(cgo.NewHandle(made))
	return abi.Ok
}

//export calloutGoDestroy
func calloutGoDestroy(handle C.uintptr_t) {
	known := cgo.Handle(handle)
	known.Value().(*bridge.Instance).Destroy()
	known.Delete()
}

func instanceOf(call *C.callout_call_t) *bridge.Instance {
	return cgo.Handle((*C.callout_go_instance_t)(call.plugin).handle).Value().(*bridge.Instance)
}

//export calloutGoMessage
func calloutGoMessage(call *C.callout_call_t) C.callout_status_t {
	return C.callout_status_t(instanceOf(call).Message(realCall{call}, factsOf(call)))
}

//export calloutGoOpen
func calloutGoOpen(call *C.callout_call_t) C.callout_status_t {
	return C.callout_status_t(instanceOf(call).Open(realCall{call}, factsOf(call)))
}

//export calloutGoClose
func calloutGoClose(call *C.callout_call_t) {
	var end *bridge.End
	if raw := call.end; raw != nil {
		end = &bridge.End{
			Outcome: uint32(raw.outcome), HTTPStatus: uint32(raw.http_status),
			RequestBytes: uint64(raw.request_body_bytes), ResponseBytes: uint64(raw.response_body_bytes),
			StreamNs: uint64(raw.stream_ns), OwnNs: uint64(raw.instance_ns),
		}
	}
	instanceOf(call).Close(realCall{call}.Stream(), end)
	calloutGoForget(C.callout_go_stream_handle(call))
}

//export calloutGoCancel
func calloutGoCancel(call *C.callout_call_t) {
	instanceOf(call).Cancel(realCall{call}.Stream())
}

//export calloutGoForget
func calloutGoForget(handle C.uintptr_t) {
	if handle == 0 {
		return
	}
	known := cgo.Handle(handle)
	if call, is := known.Value().(outgoingCall); is {
		call.ended()
	}
	known.Delete()
}

// outgoingCall is behind the data of a call to an upstream.
type outgoingCall struct {
	done  func(*bridge.Incoming)
	ended func()
}

//export calloutGoRunTimer
func calloutGoRunTimer(handle C.uintptr_t) { cgo.Handle(handle).Value().(func())() }

//export calloutGoCallDone
func calloutGoCallDone(handle C.uintptr_t, raw *C.callout_incoming_t) {
	cgo.Handle(handle).Value().(outgoingCall).done(&bridge.Incoming{
		Status: int32(raw.status), FromService: raw.from_service != 0, HTTPStatus: uint32(raw.http_status),
		Headers: copiedFields(raw.headers, raw.header_count), Trailers: copiedFields(raw.trailers, raw.trailer_count),
		Body: copied(raw.body), Message: copied(raw.message),
	})
}

func copiedFields(fields *C.callout_header_field_t, count C.size_t) (pairs [][2]string) {
	for _, field := range unsafe.Slice(fields, count) {
		pairs = append(pairs, [2]string{copied(field.name), copied(field.value)})
	}
	return pairs
}

// copied is a text of the host's, for good.
func copied(bytes C.callout_bytes_t) string {
	if bytes.size == 0 {
		return ""
	}
	return string(unsafe.Slice((*byte)(unsafe.Pointer(bytes.data)), bytes.size))
}

// lent lends bytes to C, which copies them.
func lent(bytes []byte) (*C.char, C.size_t) {
	return (*C.char)(unsafe.Pointer(unsafe.SliceData(bytes))), C.size_t(len(bytes))
}

func lentText(text string) (*C.char, C.size_t) {
	return (*C.char)(unsafe.Pointer(unsafe.StringData(text))), C.size_t(len(text))
}

func factsOf(call *C.callout_call_t) bridge.Facts {
	return bridge.Facts{
		Phase: uint32(call.phase), Flags: uint32(call.flags), BodyMode: uint32(call.body_mode),
		Message: copied(call.message), Attributes: copied(call.attributes),
		Metadata: copied(call.metadata_context), RequestHeaders: copied(call.request_headers),
		BodyOffset: uint64(call.body_offset), HasDeadline: call.deadline_ns != 0,
		DeadlineNs: uint64(call.deadline_ns),
	}
}

// --- A call ---

type realCall struct{ call *C.callout_call_t }

func (real realCall) Respond(field uint32, head, body, tail []byte) int32 {
	headData, headSize := lent(head)
	bodyData, bodySize := lent(body)
	tailData, tailSize := lent(tail)
	return int32(C.callout_go_respond(real.call, C.callout_field_t(field), headData, headSize, bodyData, bodySize,
		tailData, tailSize))
}

func (real realCall) Send(field uint32, head, body []byte) int32 {
	headData, headSize := lent(head)
	bodyData, bodySize := lent(body)
	return int32(C.callout_go_send(real.call, C.callout_field_t(field), headData, headSize, bodyData, bodySize))
}

func (real realCall) Annotate(field uint32, message []byte) int32 {
	data, size := lent(message)
	return int32(C.callout_go_annotate(real.call, C.callout_field_t(field), data, size))
}

func (real realCall) SetError(text string) {
	data, size := lentText(text)
	C.callout_go_set_error(real.call, data, size)
}

func (real realCall) Finish(status int32) { C.callout_go_finish(real.call, C.callout_status_t(status)) }
func (real realCall) IsCancelled() bool   { return C.callout_go_is_cancelled(real.call) != 0 }
func (real realCall) SendRoom() uint64    { return uint64(C.callout_go_send_room(real.call)) }

func (real realCall) Until(deadlineNs uint64) time.Duration {
	return time.Duration(C.callout_go_ns_until(C.uint64_t(deadlineNs)))
}

func (real realCall) GRPCMetadata(key string, index uint32) (string, bool) {
	var value C.callout_bytes_t
	data, size := lentText(key)
	found := C.callout_go_get_metadata(real.call, data, size, C.uint32_t(index), &value) == abi.Ok
	if !found {
		return "", false
	}
	return copied(value), true
}

func (real realCall) GRPCMetadataAt(index uint32) (string, string, bool) {
	var key, value C.callout_bytes_t
	if C.callout_go_metadata_at(real.call, C.uint32_t(index), &key, &value) != abi.Ok {
		return "", "", false
	}
	return copied(key), copied(value), true
}

func (real realCall) IsRecording() bool { return C.callout_go_is_recording(real.call) == 1 }

func (real realCall) SetSpanAttribute(attribute bridge.SpanAttribute) int32 {
	key, keySize := lentText(attribute.Key)
	text, textSize := lentText(attribute.Text)
	return int32(C.callout_go_set_attribute(real.call, key, keySize, C.uint32_t(attribute.Type), text, textSize,
		C.int64_t(attribute.Integer), C.double(attribute.Real)))
}

func (real realCall) AddSpanEvent(name string, attributes []bridge.SpanAttribute) int32 {
	var texts []byte
	var sizes []C.size_t
	var types []C.uint32_t
	var integers []C.int64_t
	var reals []C.double
	for _, attribute := range attributes {
		texts = append(append(texts, attribute.Key...), attribute.Text...)
		sizes = append(sizes, C.size_t(len(attribute.Key)), C.size_t(len(attribute.Text)))
		types = append(types, C.uint32_t(attribute.Type))
		integers = append(integers, C.int64_t(attribute.Integer))
		reals = append(reals, C.double(attribute.Real))
	}
	nameData, nameSize := lentText(name)
	textData, _ := lent(texts)
	return int32(C.callout_go_add_event(real.call, nameData, nameSize, textData, unsafe.SliceData(sizes),
		unsafe.SliceData(types), unsafe.SliceData(integers), unsafe.SliceData(reals), C.size_t(len(attributes))))
}

func (real realCall) TraceContext() (string, string, bool) {
	parent := make([]byte, abi.TraceparentBytes)
	var state C.callout_bytes_t
	to, _ := lent(parent)
	if C.callout_go_get_context(real.call, to, &state) != abi.Ok {
		return "", "", false
	}
	return string(parent), copied(state), true
}

func (real realCall) Property(property uint32) (string, bool) {
	var value C.callout_bytes_t
	if C.callout_go_get_property(real.call, C.callout_property_t(property), &value) != abi.Ok {
		return "", false
	}
	return copied(value), true
}

func (real realCall) Stream() any {
	handle := C.callout_go_stream_handle(real.call)
	if handle == 0 {
		return nil
	}
	return cgo.Handle(handle).Value()
}

func (real realCall) SetStream(state any) {
	C.callout_go_set_stream(real.call, C.uintptr_t(cgo.NewHandle(state)))
}

// UsedLate has nobody to tell: package callout writes it to the log.
func (real realCall) UsedLate(string) {}

// --- An instance's host ---

type realHost struct{ table *C.callout_host_t }

func (host *realHost) Log(level uint32, text string) {
	data, size := lentText(text)
	C.callout_go_log(host.table, C.callout_log_level_t(level), data, size)
}

func (host *realHost) LogEnabled(level uint32) bool {
	return C.callout_go_log_enabled(host.table, C.callout_log_level_t(level)) != 0
}

func (host *realHost) DefineMetric(kind uint32, name, help string, buckets []float64) (uint32, int32) {
	var id C.uint32_t
	nameData, nameSize := lentText(name)
	helpData, helpSize := lentText(help)
	bounds := (*C.double)(unsafe.Pointer(unsafe.SliceData(buckets)))
	status := C.callout_go_define_metric(host.table, C.callout_metric_kind_t(kind), nameData, nameSize, helpData,
		helpSize, bounds, C.size_t(len(buckets)), &id)
	return uint32(id), int32(status)
}

func (host *realHost) RecordMetric(id uint32, value float64) {
	C.callout_go_record(host.table, C.uint32_t(id), C.double(value))
}

func (host *realHost) FollowFile(path string) int32 {
	data, size := lentText(path)
	return int32(C.callout_go_follow_file(host.table, data, size))
}

func (host *realHost) HasTimers() bool { return C.callout_go_timers(host.table) != nil }

func (host *realHost) StartTimer(run func(), delayNs, periodNs uint64) (uint64, int32) {
	var id C.uint64_t
	handle := cgo.NewHandle(run)
	status := C.callout_go_start_timer(host.table, C.callout_go_timers(host.table), C.uintptr_t(handle),
		C.uint64_t(delayNs), C.uint64_t(periodNs), &id)
	if status != abi.Ok {
		handle.Delete()
	}
	return uint64(id), int32(status)
}

func (host *realHost) CancelTimer(id uint64) int32 {
	return int32(C.callout_go_cancel_timer(host.table, C.callout_go_timers(host.table), C.uint64_t(id)))
}

func (host *realHost) HasSharedData() bool { return C.callout_go_shared_data(host.table) != nil }

func (host *realHost) GetShared(space, key string) (string, uint64, int32) {
	var entry C.callout_shared_entry_t
	spaceData, spaceSize := lentText(space)
	keyData, keySize := lentText(key)
	for value := make([]byte, 256); ; {
		to, capacity := lent(value)
		status := C.callout_go_get_shared(host.table, C.callout_go_shared_data(host.table), spaceData, spaceSize,
			keyData, keySize, to, capacity, &entry)
		switch status {
		case abi.OutOfRange:
			value = make([]byte, entry.size)
		case abi.Ok:
			return string(value[:entry.size]), uint64(entry.version), abi.Ok
		default:
			return "", 0, int32(status)
		}
	}
}

func (host *realHost) PutShared(space, key, value string, mayEvict bool, ttlNs, expected uint64) (uint64, int32) {
	var version C.uint64_t
	var evict C.int
	if mayEvict {
		evict = 1
	}
	spaceData, spaceSize := lentText(space)
	keyData, keySize := lentText(key)
	valueData, valueSize := lentText(value)
	status := C.callout_go_put_shared(host.table, C.callout_go_shared_data(host.table), spaceData, spaceSize, keyData,
		keySize, valueData, valueSize, evict, C.uint64_t(ttlNs), C.uint64_t(expected), &version)
	return uint64(version), int32(status)
}

func (host *realHost) RemoveShared(space, key string, expected uint64) int32 {
	spaceData, spaceSize := lentText(space)
	keyData, keySize := lentText(key)
	return int32(C.callout_go_remove_shared(host.table, C.callout_go_shared_data(host.table), spaceData, spaceSize,
		keyData, keySize, C.uint64_t(expected)))
}

func (host *realHost) AddShared(space, key string, amount int64, ttlNs uint64) (int64, int32) {
	var sum C.int64_t
	spaceData, spaceSize := lentText(space)
	keyData, keySize := lentText(key)
	status := C.callout_go_add_shared(host.table, C.callout_go_shared_data(host.table), spaceData, spaceSize, keyData,
		keySize, C.int64_t(amount), C.uint64_t(ttlNs), &sum)
	return int64(sum), int32(status)
}

func (host *realHost) FindUpstream(name string) int32 {
	calls := C.callout_go_calls(host.table)
	if calls == nil {
		return abi.Unimplemented
	}
	data, size := lentText(name)
	return int32(C.callout_go_find_upstream(host.table, calls, data, size))
}

func (host *realHost) StartCall(outgoing *bridge.Outgoing, done func(*bridge.Incoming), ended func()) (uint64, int32) {
	var id C.uint64_t
	var headers []byte
	var sizes []C.size_t
	for _, pair := range outgoing.Headers {
		for _, text := range pair {
			headers = append(headers, text...)
			sizes = append(sizes, C.size_t(len(text)))
		}
	}
	upstream, upstreamSize := lentText(outgoing.Upstream)
	method, methodSize := lentText(outgoing.Method)
	path, pathSize := lentText(outgoing.Path)
	headerData, _ := lent(headers)
	body, bodySize := lent(outgoing.Body)
	handle := cgo.NewHandle(outgoingCall{done, ended})
	status := C.callout_go_start_call(host.table, C.callout_go_calls(host.table), C.uint32_t(outgoing.Flags), upstream,
		upstreamSize, method, methodSize, path, pathSize, headerData, unsafe.SliceData(sizes),
		C.size_t(len(outgoing.Headers)), body, bodySize, C.uint64_t(outgoing.TimeoutNs), C.uintptr_t(handle), &id)
	if status != abi.Ok {
		handle.Delete()
	}
	return uint64(id), int32(status)
}

func (host *realHost) CancelCall(id uint64) {
	C.callout_go_cancel_call(host.table, C.callout_go_calls(host.table), C.uint64_t(id))
}
