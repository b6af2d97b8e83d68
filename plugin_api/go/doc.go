// SPDX-License-Identifier: Apache-2.0

// Package callout makes plugins for callout-host (Envoy's ext_proc, ext_authz and rate limits) of plain Go:
// a plugin needs neither cgo nor protobuf.
//
//	package main
//
//	import "callout.test/callout"
//
//	type guard struct{}
//
//	func (guard) OnRequestHeaders(call *callout.HeadersCall) error {
//		if call.Headers().Get("x-role") == "guest" {
//			return call.Deny(403, "guests stay outside")
//		}
//		call.SetHeader("x-greeting", "hello")
//		return nil
//	}
//
//	func init() {
//		callout.Register(func(*callout.Setup, struct{}) (guard, error) { return guard{}, nil })
//	}
//
//	func main() {}
//
// Build it by
//
//	go run callout.test/callout/cmd/callout-build -o guard.so .
//
// which exports the hooks that the program has, and no other. (go build -buildmode=c-shared makes a plugin as
// well; it exports all of them, and the host does not call those that the plugin lacks.)
//
// A process can run one Go plugin, in one instance, and keeps it until it ends.
//
// The guide is docs/writing-plugins-in-go.md of the project; package callouttest is a fake host.
package callout
