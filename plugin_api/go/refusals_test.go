// SPDX-License-Identifier: Apache-2.0

package callout_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"callout.test/callout"
	"callout.test/callout/callouttest"
)

// forgetful has a missing return in every hook: a refusal stands.
type forgetful struct{}

func newForgetful(*callout.Setup, struct{}) (forgetful, error) { return forgetful{}, nil }

func (forgetful) OnRequestHeaders(call *callout.HeadersCall) error {
	call.SetHeader("before", "1")
	if call.Headers().Get("x-do") == "an error alone" {
		return errors.New("later")
	}
	_ = call.Deny(403, "no")
	switch call.Headers().Get("x-do") {
	case "SetHeader":
		call.SetHeader("x-internal-token", "s3cret")
	case "AppendHeader":
		call.AppendHeader("x-internal-token", "s3cret")
	case "RemoveHeader":
		call.RemoveHeader("x-role")
	case "SetHeaderIfAbsent":
		call.SetHeaderIfAbsent("x-internal-token", "s3cret")
	case "SetHeaderIfPresent":
		call.SetHeaderIfPresent("x-do", "s3cret")
	case "ClearRouteCache":
		call.ClearRouteCache()
	case "ReplaceBody":
		call.ReplaceBody([]byte("s3cret"))
	case "Hold":
		call.Hold()
	case "Reply":
		call.Reply(200).Header("x-internal-token", "s3cret").Body("s3cret").Details("s3cret").GRPCStatus(0)
	case "Deny":
		return call.Deny(200, "s3cret")
	case "error":
		return errors.New("later")
	case "denied":
		return callout.Errorf(callout.PermissionDenied, "later")
	case "panic":
		panic("later")
	}
	return nil
}

func (forgetful) OnResponseHeaders(call *callout.HeadersCall) error {
	_ = call.Deny(503, "no")
	return call.Defer(func(context.Context) error {
		switch call.Headers().Get("x-do") {
		case "SetHeader":
			call.SetHeader("x-internal-token", "s3cret")
		case "error":
			return errors.New("later")
		case "panic":
			panic("later")
		}
		return nil
	})
}

func (forgetful) OnRequestBody(call *callout.BodyCall) error {
	if string(call.Body()) == "hold before" {
		call.Hold()
	}
	_ = call.Deny(403, "no")
	switch string(call.Body()) {
	case "SetBody":
		call.SetBody([]byte("s3cret"))
	case "ClearBody":
		call.ClearBody()
	case "Send":
		return call.Send([]byte("s3cret"))
	case "Hold":
		call.Hold()
	}
	return nil
}

func (forgetful) OnCheck(call *callout.CheckCall) error {
	var before callout.Allow
	deed := call.Headers().Get("x-do")
	if deed == "Header" {
		before = call.Allow().Header("before", "1")
	}
	_ = call.Deny(401, "no")
	switch deed {
	case "Header":
		before.Header("x-internal-token", "s3cret").ResponseHeader("x-internal-token", "s3cret").RemoveHeader("x-role")
	case "Allow":
		call.Allow().Header("x-internal-token", "s3cret")
	case "Refuse":
		call.Refuse(200).Header("x-internal-token", "s3cret")
	case "error":
		return errors.New("later")
	case "panic":
		panic("later")
	}
	return nil
}

func (forgetful) OnRateLimit(call *callout.RateLimitCall) error {
	call.OverLimit()
	call.AddRequestHeader("x-tier", "gold")
	switch call.Domain() {
	case "error":
		return errors.New("later")
	case "panic":
		panic("later")
	}
	return nil
}

func (forgetful) OnConnection(call *callout.ConnectionCall) error {
	call.Close()
	call.Reset()
	return nil
}

func (forgetful) OnReadData(call *callout.DataCall) error {
	call.SetData([]byte("before"))
	call.Close()
	switch string(call.Data()) {
	case "SetData":
		call.SetData([]byte("s3cret"))
	case "panic":
		panic("later")
	}
	return nil
}

// late is the step that the log names; "" if there is none.
func late(t *testing.T, plugin *callouttest.Plugin) string {
	t.Helper()
	logs := plugin.Logs()
	if len(logs) == 0 {
		return ""
	}
	step, rest, found := strings.Cut(logs[len(logs)-1], "() after ")
	if !found || !strings.Contains(rest, " does nothing: return from the hook after ") {
		t.Errorf("the log has %q", logs)
	}
	return step
}

func wantDenied(t *testing.T, answer *callouttest.Answer, status int) {
	t.Helper()
	body, _ := answer.Body()
	want(t, answer.Refuses(), true)
	want(t, answer.HTTPStatus(), status)
	want(t, body, "no")
	want(t, answer.Err(), nil)
	for _, name := range []string{"x-internal-token", "before"} {
		want(t, answer.Headers(name), nil)
	}
	want(t, answer.Removes("x-role") || answer.IsHeld() || len(answer.Sent()) > 0, false)
}

func TestNoStepOfAHeadersHookTakesADenialBack(t *testing.T) {
	for _, step := range []string{"SetHeader", "AppendHeader", "RemoveHeader", "SetHeaderIfAbsent", "SetHeaderIfPresent",
		"ClearRouteCache", "ReplaceBody", "Hold", "Reply", "Deny", ""} {
		plugin := callouttest.New(t, newForgetful, "")
		wantDenied(t, plugin.Stream().RequestHeaders("x-do", step), 403)
		want(t, late(t, plugin), step)
	}
}

func TestADenialIsToldBeforeAFault(t *testing.T) {
	plugin := callouttest.New(t, newForgetful, "")
	for _, deed := range []string{"error", "panic"} {
		answer := plugin.Stream().RequestHeaders("x-do", deed)
		want(t, answer.Refuses(), true)
		want(t, answer.HTTPStatus(), 0) // the policy has a status
		want(t, strings.HasSuffix(answer.Err().Error(), "later"), true)
	}
	want(t, plugin.Stream().RequestHeaders("x-do", "an error alone").Refuses(), false)
	// A decision that an Envoy which fails open does not obey adds nothing to one that it does.
	wantDenied(t, plugin.Stream().RequestHeaders("x-do", "denied"), 403)
}

func TestADenialStandsInADeferredFunction(t *testing.T) {
	plugin := callouttest.New(t, newForgetful, "")
	answer := plugin.Stream().ResponseHeaders(":status", "200", "x-do", "SetHeader")
	want(t, answer.WasDeferred(), true)
	wantDenied(t, answer, 503)
	want(t, late(t, plugin), "SetHeader")
	for _, deed := range []string{"error", "panic"} {
		answer := plugin.Stream().ResponseHeaders(":status", "200", "x-do", deed)
		want(t, answer.Refuses() && answer.WasDeferred(), true)
		want(t, strings.HasSuffix(answer.Err().Error(), "later"), true)
	}
}

func TestNoStepOfABodyHookTakesADenialBack(t *testing.T) {
	for _, step := range []string{"SetBody", "ClearBody", "Send", "Hold"} {
		plugin := callouttest.New(t, newForgetful, "")
		wantDenied(t, plugin.Stream().SetBodyMode(callout.BodyFullDuplexStreamed).RequestBody(step, false), 403)
		want(t, late(t, plugin), step)
	}
	plugin := callouttest.New(t, newForgetful, "")
	wantDenied(t, plugin.Stream().SetBodyMode(callout.BodyFullDuplexStreamed).RequestBody("hold before", false), 403)
}

func TestNoAllowanceTakesARefusalOfACheckBack(t *testing.T) {
	for _, step := range []string{"Allow", "Refuse", "Header"} {
		plugin := callouttest.New(t, newForgetful, "")
		wantDenied(t, plugin.Stream().Check("x-do", step), 401)
		want(t, late(t, plugin), step)
	}
	plugin := callouttest.New(t, newForgetful, "")
	for _, deed := range []string{"error", "panic"} {
		answer := plugin.Stream().Check("x-do", deed)
		want(t, answer.Refuses() && !answer.IsAllowed(), true)
		want(t, strings.HasSuffix(answer.Err().Error(), "later"), true)
	}
}

func TestARequestOverItsLimitsStaysSo(t *testing.T) {
	plugin := callouttest.New(t, newForgetful, "")
	for _, domain := range []string{"all", "error", "panic"} {
		answer := plugin.Stream().RateLimit(domain)
		want(t, answer.Refuses() && answer.IsOverLimit(), true)
		want(t, answer.Err() != nil, domain != "all")
	}
}

func TestTheEndOfAConnectionStands(t *testing.T) {
	for deed, step := range map[string]string{"": "", "SetData": "SetData", "panic": ""} {
		plugin := callouttest.New(t, newForgetful, "")
		answer := plugin.Stream().ReadData(deed, false)
		_, hasData := answer.Data()
		want(t, answer.Refuses() && !hasData, true)
		want(t, answer.Err() != nil, deed == "panic")
		want(t, late(t, plugin), step)
	}
	plugin := callouttest.New(t, newForgetful, "")
	answer := plugin.Stream().Connection()
	want(t, answer.EndsConnection() && !answer.ResetsConnection(), true)
	want(t, late(t, plugin), "Reset")
}
