// SPDX-License-Identifier: Apache-2.0

// Breaks as the request header "fault" says, behind the border of plugins/go_headers.
package main

/*
#include <callout/plugin.h>

static inline void callout_fault(void) { *(volatile int *)0 = 1; }
*/
import "C"

import (
	"errors"

	"go_headers/messages"

	"google.golang.org/protobuf/proto"
)

func onRequestHeaders(message *messages.HttpHeaders) proto.Message {
	var missing *messages.HeadersResponse
	headers := message.GetHeaders().GetHeaders()
	for _, header := range headers {
		if header.Key != "fault" {
			continue
		}
		switch string(header.RawValue) {
		case "panic":
			panic("a text")
		case "error":
			panic(errors.New("an error"))
		case "index":
			return respond(headers[len(headers)].Key)
		case "nil":
			return respond(missing.Response.String())
		case "not UTF-8":
			return respond("\xff")
		case "C":
			C.callout_fault()
		case "goroutine":
			go panic("where no border is")
			select {}
		}
	}
	return &messages.HeadersResponse{}
}

func respond(name string) proto.Message {
	return &messages.HeadersResponse{
		Response: &messages.CommonResponse{
			HeaderMutation: &messages.HeaderMutation{RemoveHeaders: []string{name}},
		},
	}
}

//export callout_on_request_headers
func callout_on_request_headers(call *C.callout_call_t) C.callout_status_t {
	return answer(call, onRequestHeaders)
}

func main() {}
