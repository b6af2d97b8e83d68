// SPDX-License-Identifier: Apache-2.0

// A plugin in Go: sets and removes headers, and tells how many there were. See README.md.
package main

/*
#include <callout/plugin.h>
*/
import "C"

import (
	"runtime"
	"strconv"

	"go_headers/messages"

	"google.golang.org/protobuf/proto"
)

func onRequestHeaders(message *messages.HttpHeaders) proto.Message {
	return respond(&messages.CommonResponse{
		HeaderMutation: &messages.HeaderMutation{
			SetHeaders: []*messages.HeaderValueOption{
				set("header-request", "request"),
				set("x-go", count(message)),
			},
		},
		ClearRouteCache: true,
	})
}

func onResponseHeaders(message *messages.HttpHeaders) proto.Message {
	return respond(&messages.CommonResponse{
		HeaderMutation: &messages.HeaderMutation{
			SetHeaders: []*messages.HeaderValueOption{
				set("header-response", "response"),
				set("x-go", count(message)),
			},
			RemoveHeaders: []string{"foo"},
		},
	})
}

func count(message *messages.HttpHeaders) string {
	return strconv.Itoa(len(message.GetHeaders().GetHeaders()))
}

func set(name, value string) *messages.HeaderValueOption {
	return &messages.HeaderValueOption{
		// Envoy reads no other field for the value.
		Header:       &messages.HeaderValue{Key: name, RawValue: []byte(value)},
		AppendAction: messages.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}

func respond(response *messages.CommonResponse) proto.Message {
	return &messages.HeadersResponse{Response: response}
}

// --- What the plugin exports, beside callout_abi_version in border.c. ---

//export callout_plugin_create
func callout_plugin_create(args *C.callout_create_args_t) C.callout_status_t {
	if args.config.size != 0 {
		logLine(args.host, C.CALLOUT_LOG_ERROR, "it has no configuration, and was given one")
		return C.CALLOUT_INVALID_ARGUMENT
	}
	logLine(args.host, C.CALLOUT_LOG_INFO, "messages are read and written by Go's protobuf, on "+runtime.Version())
	return C.CALLOUT_OK
}

//export callout_on_request_headers
func callout_on_request_headers(call *C.callout_call_t) C.callout_status_t {
	return answer(call, onRequestHeaders)
}

//export callout_on_response_headers
func callout_on_response_headers(call *C.callout_call_t) C.callout_status_t {
	return answer(call, onResponseHeaders)
}

func main() {}
