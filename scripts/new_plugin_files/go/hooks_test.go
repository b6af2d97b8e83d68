package main

import (
	"reflect"
	"testing"
)

func TestStampsEveryRequest(t *testing.T) {
	want := Answer{Set: Headers{{"x-seen-by", "@name@"}}}
	if got := OnRequestHeaders(Headers{{":path", "/"}}); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestTakesTheInternalHeaderAway(t *testing.T) {
	got := OnRequestHeaders(Headers{{"X-Internal", "1"}}).Remove
	if want := []string{"x-internal"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
