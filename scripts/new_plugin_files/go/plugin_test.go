package main

import (
	"strings"
	"testing"

	"callout.test/callout"
	"callout.test/callout/callouttest"
)

func TestStampsEveryRequest(t *testing.T) {
	plugin := callouttest.New(t, NewStamp, "")
	answer := plugin.Stream().RequestHeaders(":path", "/")
	if got := answer.Header("x-seen-by"); got != "@name@" {
		t.Errorf("x-seen-by is %q", got)
	}
	if !answer.Removes("x-internal") || plugin.Wants(callout.ResponseBody) {
		t.Error(answer)
	}
}

func TestDeniesPaths(t *testing.T) {
	plugin := callouttest.New(t, NewStamp, `{"deny": ["/private"]}`)
	if got := plugin.Stream().RequestHeaders(":path", "/private/a").HTTPStatus(); got != 403 {
		t.Errorf("got %d", got)
	}
	if got := plugin.Metric("@name@_denied_total"); got != 1 {
		t.Errorf("counted %v", got)
	}
}

func TestHidesWords(t *testing.T) {
	plugin := callouttest.New(t, NewStamp, `{"hide": ["secret"]}`)
	if body, _ := plugin.Stream().ResponseBody("a secret word", true).Body(); body != "a [hidden] word" {
		t.Errorf("got %q", body)
	}
	if body, changed := plugin.Stream().ResponseBody("nothing", true).Body(); changed {
		t.Errorf("got %q", body)
	}
}

func TestRefusesWhatItDoesNotKnow(t *testing.T) {
	if got := callouttest.Refusal(t, NewStamp, `{"denny": []}`); !strings.Contains(got, `unknown field "denny"`) {
		t.Errorf("got %q", got)
	}
}
