// SPDX-License-Identifier: Apache-2.0

// Acts by the path, for tests/sdk: every way in which the SDK meets the real host.
package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"callout.test/callout"
)

type acts struct {
	data  *callout.SharedData
	ticks atomic.Int64

	service *callout.Upstream // nil: there is none
}

func newActs(setup *callout.Setup, _ struct{}) (*acts, error) {
	plugin := &acts{}
	var err error
	if plugin.data, err = setup.Host().SharedData(""); err != nil {
		return nil, err
	}
	plugin.service, _ = setup.Host().Upstream("service")
	_, err = setup.Host().Every(time.Millisecond, func() { plugin.ticks.Add(1) })
	return plugin, err
}

func paths(call *callout.Call) string {
	known, _ := call.Stream().([]string)
	return strings.Join(known, ",")
}

func (plugin *acts) OnRequestHeaders(call *callout.HeadersCall) error {
	path := call.Headers().Get(":path")
	call.SetStream([]string{path})
	switch path {
	case "/panic":
		panic("a text")
	case "/error":
		return errors.New("no luck")
	case "/unavailable":
		return callout.Errorf(callout.Unavailable, "later")
	case "/yield": // the work goes on in a second function
		return call.Defer(func(context.Context) error {
			return call.Defer(func(ctx context.Context) error { return plugin.later(ctx, call, path) })
		})
	case "/sleep", "/sleep-panic", "/sleep-deny", "/wait", "/ticks", "/ask", "/ask-down", "/forgets", "/forgets-panic", "/traced":
		return call.Defer(func(ctx context.Context) error { return plugin.later(ctx, call, path) })
	}
	return plugin.done(call, path)
}

func (plugin *acts) later(ctx context.Context, call *callout.HeadersCall, path string) error {
	time.Sleep(5 * time.Millisecond)
	switch path {
	case "/sleep-panic":
		panic("after waiting")
	case "/sleep-deny":
		return call.Deny(403, "after waiting")
	case "/forgets", "/forgets-panic": // a return is missing
		_ = call.Deny(403, "no")
		call.SetHeader("x-internal-token", "s3cret")
		if path == "/forgets-panic" {
			panic("after a denial")
		}
	case "/traced":
		span := call.Span()
		if !span.IsRecorded() || !span.Set("sdk.attribute", "of the span") ||
			!span.Event("sdk.event", map[string]any{"sdk.number": 7}) {
			return errors.New("nothing is recorded")
		}
		context, _ := call.TraceContext()
		call.SetHeader("x-context", context.Traceparent)
		keys := 0
		for _, entry := range call.GRPCMetadataEntries() {
			if entry.Name == "traceparent" {
				keys++
			}
		}
		call.SetHeader("x-keys", fmt.Sprint(keys))
	case "/wait":
		call.Host().Infof("waiting")
		<-ctx.Done()
		call.Host().Warningf("the client has left")
	case "/ask", "/ask-down":
		if plugin.service == nil {
			return errors.New("there is no upstream")
		}
		response, err := plugin.service.Do(ctx, callout.Request{
			Method: "POST", Path: path, Body: []byte("a question"), Header: []callout.Header{{Name: "x-asks", Value: "sdk"}},
		})
		if err != nil {
			return err
		}
		call.SetHeader("x-answer", fmt.Sprint(response.HTTPStatus, " ", string(response.Body)))
		call.SetHeader("x-service", response.Get("x-service"))
	case "/ticks":
		for plugin.ticks.Load() < 3 {
			time.Sleep(time.Millisecond)
		}
	}
	return plugin.done(call, path)
}

func (plugin *acts) done(call *callout.HeadersCall, path string) error {
	count, err := plugin.data.Add(path, 1, callout.Forever)
	if err != nil {
		return err
	}
	call.SetHeader("x-count", fmt.Sprint(count))
	return call.SetMetadata("sdk", map[string]string{"path": path})
}

func (plugin *acts) OnRequestBody(call *callout.BodyCall) error {
	call.SetBody(append([]byte(paths(call.Call)+": "), call.Body()...))
	return nil
}

func (plugin *acts) OnResponseHeaders(call *callout.HeadersCall) error {
	return call.Defer(func(context.Context) error {
		call.SetHeader("x-paths", paths(call.Call))
		return nil
	})
}

func (plugin *acts) OnResponseTrailers(call *callout.TrailersCall) error {
	call.SetHeader("x-trailers", fmt.Sprint(call.Trailers().Len()))
	return nil
}

func init() { callout.Register(newActs) }

func main() {}
