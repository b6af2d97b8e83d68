package main

/*
#include <callout/message.h>

static inline void set_header(callout_answer_t *answer, const char *key, const char *value) {
  callout_answer_set_header(answer, callout_text(key), callout_text(value),
                            CALLOUT_OVERWRITE_IF_EXISTS_OR_ADD);
}
static inline void set_error(callout_call_t *call, const char *text) {
  call->host->set_error(call, callout_text(text));
}
static inline void remove_header(callout_answer_t *answer, const char *key) {
  callout_answer_remove_header(answer, callout_text(key));
}
*/
import "C"

import (
	"fmt"
	"strings"
	"unsafe"
)

// Header is a header field. Its value is bytes, not necessarily UTF-8.
type Header struct{ Key, Value string }

// Headers are the headers of a message, in order.
type Headers []Header

// Get returns the first value of a header.
func (headers Headers) Get(key string) (string, bool) {
	for _, header := range headers {
		if strings.EqualFold(header.Key, key) {
			return header.Value, true
		}
	}
	return "", false
}

// Answer is how to change the headers.
type Answer struct {
	Set    Headers
	Remove []string
}

//export callout_on_request_headers
func callout_on_request_headers(call *C.callout_call_t) (status C.callout_status_t) {
	// A panic must not reach the host. Its text goes to the host's log.
	defer func() {
		if cause := recover(); cause != nil {
			withText(fmt.Sprint("panic: ", cause), func(text *C.char) { C.set_error(call, text) })
			status = C.CALLOUT_INTERNAL
		}
	}()
	return respond(call, OnRequestHeaders(readHeaders(call)))
}

func readHeaders(call *C.callout_call_t) Headers {
	var headers Headers
	var header C.callout_header_t
	it := C.callout_read_headers(call.message)
	for C.callout_headers_next(&it, &header) != 0 {
		headers = append(headers, Header{toString(header.key), toString(header.value)})
	}
	return headers
}

func respond(call *C.callout_call_t, answer Answer) C.callout_status_t {
	var built C.callout_answer_t
	C.callout_answer_init(&built, call, nil, 0)
	for _, key := range answer.Remove {
		withText(key, func(key *C.char) { C.remove_header(&built, key) })
	}
	for _, header := range answer.Set {
		withText(header.Key, func(key *C.char) {
			withText(header.Value, func(value *C.char) { C.set_header(&built, key, value) })
		})
	}
	return C.callout_answer_respond(&built, call)
}

func toString(bytes C.callout_bytes_t) string {
	return C.GoStringN(bytes.data, C.int(bytes.size))
}

// withText passes text to C, which copies it.
func withText(text string, use func(*C.char)) {
	lent := C.CString(text)
	defer C.free(unsafe.Pointer(lent))
	use(lent)
}

func main() {}
