// SPDX-License-Identifier: Apache-2.0

package main

// The border between the host, which speaks C, and hooks in plain Go: bytes become messages and
// back, errors and panics become a status with a text. No panic crosses it.

/*
#include <callout/plugin.h>

// Go cannot call what a pointer in C points to.
static inline callout_status_t callout_go_respond(callout_call_t *call, callout_field_t field,
                                                  const char *data, size_t size) {
  const callout_bytes_t answer = {data, size};
  return call->host->respond(call, field, &answer, 1);
}
static inline void callout_go_set_error(callout_call_t *call, const char *data, size_t size) {
  const callout_bytes_t text = {data, size};
  call->host->set_error(call, text);
}
static inline void callout_go_log(const callout_host_t *host, callout_log_level_t level,
                                  const char *data, size_t size) {
  const callout_bytes_t text = {data, size};
  host->log(host, level, text);
}
*/
import "C"

import (
	"fmt"
	"unsafe"

	"google.golang.org/protobuf/proto"
)

// answer does a hook's work for one call. The message is hook's own, so nothing of the host is kept.
func answer[M any, Q interface {
	*M
	proto.Message
}](call *C.callout_call_t, hook func(Q) proto.Message) (status C.callout_status_t) {
	defer func() {
		if cause := recover(); cause != nil {
			status = fail(call, C.CALLOUT_INTERNAL, fmt.Sprint("panic: ", cause))
		}
	}()
	message := Q(new(M))
	if err := proto.Unmarshal(view(call.message), message); err != nil {
		return fail(call, C.CALLOUT_INVALID_ARGUMENT, fmt.Sprint("the message cannot be parsed: ", err))
	}
	bytes, err := proto.Marshal(hook(message))
	if err != nil {
		return fail(call, C.CALLOUT_INTERNAL, fmt.Sprint("the answer cannot be written: ", err))
	}
	// The answer to a phase has the number before the phase's own, and is copied.
	return C.callout_go_respond(call, C.callout_field_t(call.phase-1), data(bytes), C.size_t(len(bytes)))
}

func fail(call *C.callout_call_t, status C.callout_status_t, text string) C.callout_status_t {
	C.callout_go_set_error(call, data([]byte(text)), C.size_t(len(text)))
	return status
}

func logLine(host *C.callout_host_t, level C.callout_log_level_t, text string) {
	C.callout_go_log(host, level, data([]byte(text)), C.size_t(len(text)))
}

// view is the host's memory: proto.Unmarshal copies what it keeps of it.
func view(bytes C.callout_bytes_t) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(bytes.data)), bytes.size)
}

func data(bytes []byte) *C.char {
	return (*C.char)(unsafe.Pointer(unsafe.SliceData(bytes)))
}
