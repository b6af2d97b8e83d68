// SPDX-License-Identifier: Apache-2.0

// Request headers in a hook that returns, response headers in one that is deferred.
package main

import (
	"context"

	"callout.test/callout"
)

type guard struct{}

func check(call *callout.HeadersCall) error {
	if call.Headers().Get("x-role") == "guest" {
		return call.Deny(403, "")
	}
	call.SetHeader("x-seen-by", "guard")
	call.RemoveHeader("x-internal")
	return nil
}

func (guard) OnRequestHeaders(call *callout.HeadersCall) error { return check(call) }

func (guard) OnResponseHeaders(call *callout.HeadersCall) error {
	return call.Defer(func(context.Context) error { return check(call) })
}

func init() {
	callout.Register(func(*callout.Setup, struct{}) (guard, error) { return guard{}, nil })
}

func main() {}
