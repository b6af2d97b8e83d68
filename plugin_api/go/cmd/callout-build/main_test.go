// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func hooksOfSource(t *testing.T, methods string) (found, ofStreams []string, err error) {
	t.Helper()
	directory := t.TempDir()
	source := "package main\n\nimport \"callout.test/callout\"\n\ntype plugin struct{}\n\n" + methods
	if err := os.WriteFile(filepath.Join(directory, "plugin.go"), []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	return findHooks(directory)
}

const good = "func (plugin) OnCheck(call *callout.CheckCall) error { return nil }\n"

func TestFindsTheHooks(t *testing.T) {
	found, ofStreams, err := hooksOfSource(t, good+`
func (*plugin) OnRequestHeaders(*callout.HeadersCall) error { return nil }
func (plugin) OnStreamOpen(*callout.OpenCall) error { return nil }
func (plugin) OnStreamEnd(callout.StreamEnd) {}
func (plugin) OnTick() {}
func OnRequestBody() {}
`)
	if err != nil || strings.Join(found, " ") != "callout_on_check callout_on_request_headers" {
		t.Errorf("found %v, %v", found, err)
	}
	if strings.Join(ofStreams, " ") != "OnStreamOpen OnStreamEnd" {
		t.Errorf("found %v for streams", ofStreams)
	}
}

func TestTakesAHookByAnAlias(t *testing.T) {
	found, _, err := hooksOfSource(t, `
type headers = callout.HeadersCall
func (plugin) OnRequestHeaders(*headers) error { return nil }
`)
	if err != nil || strings.Join(found, " ") != "callout_on_request_headers" {
		t.Errorf("found %v, %v", found, err)
	}
}

func TestRefusesWhatWouldNeverBeCalled(t *testing.T) {
	for method, expected := range map[string]string{
		"func (plugin) OnRequestHeader(call *callout.HeadersCall) error { return nil }": "OnRequestHeader is no hook, and would never be called; hooks that get a *callout.HeadersCall: OnRequestHeaders, OnResponseHeaders",
		"func (plugin) OnRequestHeaders(call *callout.BodyCall) error { return nil }":   "OnRequestHeaders has another signature than the hook; expected OnRequestHeaders(*callout.HeadersCall) error",
		"func (plugin) OnRequestHeaders(call *callout.HeadersCall) {}":                  "OnRequestHeaders has another signature",
		"func (plugin) OnRateLimit() error { return nil }":                              "expected OnRateLimit(*callout.RateLimitCall) error",
		"func (plugin) OnCheck(call callout.CheckCall) error { return nil }":            "expected OnCheck(*callout.CheckCall) error",
		"func (plugin) OnStreamOpen(call callout.OpenCall) error { return nil }":        "OnStreamOpen has another signature than the hook; expected OnStreamOpen(*callout.OpenCall) error",
		"func (plugin) OnStreamOpen(*callout.OpenCall) bool { return true }":            "expected OnStreamOpen(*callout.OpenCall) error",
		"func (plugin) OnStreamOpen(*callout.OpenCall, int) error { return nil }":       "expected OnStreamOpen(*callout.OpenCall) error",
		"func (plugin) OnStreamEnd(*callout.StreamEnd) {}":                              "OnStreamEnd has another signature than the hook; expected OnStreamEnd(callout.StreamEnd)",
		"func (plugin) OnStreamEnd(callout.StreamEnd) error { return nil }":             "expected OnStreamEnd(callout.StreamEnd)",
		"func (plugin) OnStreamEnded(callout.StreamEnd) {}":                             "OnStreamEnded is no hook, and would never be called; hooks that get a callout.StreamEnd: OnStreamEnd",
	} {
		if _, _, err := hooksOfSource(t, good+method); err == nil || !strings.Contains(err.Error(), expected) {
			t.Errorf("got %v, want %q", err, expected)
		}
	}
	if _, _, err := hooksOfSource(t, "func (plugin) OnTick() {}"); err == nil || !strings.Contains(err.Error(), "has no method that is a hook") {
		t.Errorf("got %v", err)
	}
}
