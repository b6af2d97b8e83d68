// SPDX-License-Identifier: Apache-2.0

package callouttest

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"callout.test/callout"
	"callout.test/callout/internal/abi"
)

// Answer is what the plugin did with a message.
type Answer struct {
	phase       uint32 // field numbers mean those of the phase's service
	status      int32
	text        string
	responded   bool
	field       uint32
	message     string
	sent        []string
	annotations []annotation
	span        span
	deferred    bool
}

type annotation struct {
	field   uint32
	message string
}

// IsEmpty says that the plugin changes nothing.
func (answer *Answer) IsEmpty() bool {
	return answer.status == abi.Ok && !answer.responded && len(answer.annotations) == 0
}

// Err is the error that the hook ended with: a *callout.Error.
func (answer *Answer) Err() error {
	if answer.status >= 0 {
		return nil
	}
	return &callout.Error{Status: callout.Status(-answer.status), Text: answer.text}
}

// WasDeferred says that the hook has called Defer.
func (answer *Answer) WasDeferred() bool { return answer.deferred }

// IsHeld says that the plugin holds the message back.
func (answer *Answer) IsHeld() bool { return answer.status == abi.NoResponse }

func (answer *Answer) isImmediate() bool {
	return answer.responded && answer.phase < abi.Check && answer.field == abi.ImmediateResponse
}

func (answer *Answer) isCheck(field uint32) bool {
	return answer.responded && answer.phase == abi.Check && answer.field == field
}

// Refuses says that the request or the connection does not go on: the plugin refuses it, whatever error it then ended
// with.
func (answer *Answer) Refuses() bool {
	return answer.isImmediate() || answer.isCheck(abi.CheckDenied) || answer.IsOverLimit() || answer.EndsConnection()
}

// HTTPStatus is that of an immediate response, or of a Check that the plugin refuses; else 0. It is 0 as well if the
// call is a fault: the operator's policy has another one, which refuses too.
func (answer *Answer) HTTPStatus() int {
	if answer.status < 0 || !answer.isImmediate() && !answer.isCheck(abi.CheckDenied) {
		return 0
	}
	return int(number(last(answer.message, 1), 1))
}

// IsAllowed says that a Check is allowed.
func (answer *Answer) IsAllowed() bool { return answer.status == abi.Ok && answer.isCheck(abi.CheckOk) }

// IsOverLimit says that a request is over its limits.
func (answer *Answer) IsOverLimit() bool {
	return answer.phase == abi.RateLimit && number(answer.message, 1) == 2
}

// HeadersResponse and BodyResponse: response 1 .header_mutation 2; TrailersResponse: 1; immediate response: 2.
func (answer *Answer) mutation() string {
	switch {
	case !answer.responded:
		return ""
	case answer.isImmediate():
		return last(answer.message, 2)
	case answer.phase == abi.RequestTrailers || answer.phase == abi.ResponseTrailers:
		return last(answer.message, 1)
	}
	return last(last(answer.message, 1), 2)
}

// Headers are the values that the plugin sets a header to, of an immediate response and a Check too.
func (answer *Answer) Headers(name string) (values []string) {
	options := all(answer.mutation(), 1)
	if answer.isCheck(abi.CheckOk) || answer.isCheck(abi.CheckDenied) {
		options = all(answer.message, 2)
	}
	for _, option := range options {
		if header := last(option, 1); strings.EqualFold(last(header, 1), name) {
			values = append(values, last(header, 3))
		}
	}
	return values
}

// Header is the last of them; "" if there is none.
func (answer *Answer) Header(name string) string {
	values := answer.Headers(name)
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}

// Removes says whether the plugin removes a header.
func (answer *Answer) Removes(name string) bool {
	removed := all(answer.mutation(), 2)
	if answer.isCheck(abi.CheckOk) {
		removed = all(answer.message, 5)
	}
	for _, one := range removed {
		if strings.EqualFold(one, name) {
			return true
		}
	}
	return false
}

// Body is the body that the plugin sets, of an immediate response or a refusal too; and whether it sets one. It is
// empty if it is cleared.
func (answer *Answer) Body() (string, bool) {
	bodies := all(answer.message, 3)
	if !answer.isImmediate() && !answer.isCheck(abi.CheckDenied) {
		bodies = all(last(answer.message, 1), 3)
		if len(bodies) > 0 {
			return last(bodies[len(bodies)-1], 1), true
		}
	}
	if len(bodies) == 0 {
		return "", false
	}
	return bodies[len(bodies)-1], true
}

// Data are the bytes in the place of those of a TCP connection, and whether the plugin sets any.
func (answer *Answer) Data() (string, bool) {
	return last(answer.message, 1), answer.responded && answer.field != abi.WholeResponse
}

// EndsConnection says that the plugin ends the TCP connection.
func (answer *Answer) EndsConnection() bool {
	return answer.responded && answer.phase > abi.Check && answer.phase != abi.RateLimit && answer.field == abi.WholeResponse && number(answer.message, 4) != 0
}

// ResetsConnection says that it does so by Reset, not by Close.
func (answer *Answer) ResetsConnection() bool {
	return answer.EndsConnection() && number(answer.message, 4) == 2
}

// ClearsRouteCache says that Envoy chooses the route again.
func (answer *Answer) ClearsRouteCache() bool { return number(last(answer.message, 1), 5) == 1 }

// Sent are pieces of a body that were sent ahead of the answer.
func (answer *Answer) Sent() []string { return answer.sent }

// Metadata is what the plugin sets under a key in a namespace of the dynamic metadata; nil if it sets none.
func (answer *Answer) Metadata(namespace, key string) (found any) {
	for _, one := range answer.annotations {
		for _, entry := range all(one.message, 1) {
			if last(entry, 1) != namespace {
				continue
			}
			for _, field := range all(last(last(entry, 2), 5), 1) {
				if last(field, 1) == key {
					found = readValue(last(field, 2))
				}
			}
		}
	}
	return found
}

// String is for messages of tests.
func (answer *Answer) String() string {
	return fmt.Sprintf("status %d %q, field %d, message %q", answer.status, answer.text, answer.field, answer.message)
}

// --- Reading messages, which the plugin's side has written ---

func walk(message string, use func(field uint64, number uint64, bytes string, isBytes bool)) {
	take := func() uint64 {
		value, size := binary.Uvarint([]byte(message))
		if size <= 0 {
			panic(fmt.Sprintf("the plugin's message is malformed: %q", message))
		}
		message = message[size:]
		return value
	}
	for len(message) > 0 {
		tag := take()
		switch tag & 7 {
		case 0:
			use(tag>>3, take(), "", false)
		case 1:
			use(tag>>3, binary.LittleEndian.Uint64([]byte(message)), "", false)
			message = message[8:]
		default:
			size := take()
			use(tag>>3, 0, message[:size], true)
			message = message[size:]
		}
	}
}

func all(message string, wanted uint64) (found []string) {
	walk(message, func(field, _ uint64, bytes string, isBytes bool) {
		if field == wanted && isBytes {
			found = append(found, bytes)
		}
	})
	return found
}

func last(message string, wanted uint64) string {
	found := all(message, wanted)
	if len(found) == 0 {
		return ""
	}
	return found[len(found)-1]
}

func number(message string, wanted uint64) (found uint64) {
	walk(message, func(field, number uint64, _ string, isBytes bool) {
		if field == wanted && !isBytes {
			found = number
		}
	})
	return found
}

func readValue(message string) (value any) {
	walk(message, func(field, number uint64, bytes string, _ bool) {
		switch field {
		case 2:
			value = math.Float64frombits(number)
		case 3:
			value = bytes
		case 4:
			value = number != 0
		case 5:
			fields := map[string]any{}
			for _, entry := range all(bytes, 1) {
				fields[last(entry, 1)] = readValue(last(entry, 2))
			}
			value = fields
		case 6:
			list := []any{}
			for _, item := range all(bytes, 1) {
				list = append(list, readValue(item))
			}
			value = list
		}
	})
	return value
}

func appendDouble(to []byte, value float64) []byte {
	return binary.LittleEndian.AppendUint64(to, math.Float64bits(value))
}
