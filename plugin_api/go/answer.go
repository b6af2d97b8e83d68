// SPDX-License-Identifier: Apache-2.0

package callout

import (
	"strings"

	"callout.test/callout/internal/abi"
)

type appendAction uint64

const (
	appendIfExistsOrAdd appendAction = iota
	addIfAbsent
	overwriteOrAdd
	overwriteIfExists
)

type bodyKind int

const (
	bodyUnchanged bodyKind = iota
	bodyReplaced
	bodyCleared
)

// answer is what a hook has set. Steps work in the order in which they are called, although Envoy
// removes before it sets. As callout/answer.h, check.h, rate_limit.h, data.h.
//
// A refusal stands: what comes after it does nothing, and the log says what that was.
type answer struct {
	lateStep         string // the first one after a refusal
	failure          error  // the first step that failed
	records          []byte // of a HeaderMutation or, for a Check or a rate limit, of the response
	hasMutation      bool
	clearsRouteCache bool
	held             bool
	bodyKind         bodyKind
	body             []byte
	immediate        *immediate
	check            uint32 // CHECK_OK, …
	hasLimit         bool   // there is an answer about a rate limit
	overLimit        bool
	connection       uint64 // ProcessingResponse.connection_status of network ext_proc
}

type immediate struct {
	httpStatus    uint64
	hasGRPCStatus bool
	grpcStatus    uint64
	details       string
}

// names says whether the mutation sets (field 1) or removes (2) a header: set_headers 1
// (HeaderValueOption: header 1), remove_headers 2.
func (a *answer) names(field uint32, name string) (found bool) {
	allBytes(string(a.records), field, func(bytes string) bool {
		if field == 1 {
			bytes = lastBytes(lastBytes(bytes, 1), 1)
		}
		found = strings.EqualFold(bytes, name)
		return !found
	})
	return found
}

// HeaderValueOption: header 1 (HeaderValue: key 1, raw_value 3), append 2 (BoolValue), append_action 3,
// keep_empty_value 4. Envoy 1.40's filter reads append only, whose absence means to overwrite.
func (a *answer) setHeader(name, value string, action appendAction) {
	a.hasMutation = true
	a.records = putMessage(a.records, 1, func(to []byte) []byte {
		to = putMessage(to, 1, func(to []byte) []byte {
			return putBytes(putBytes(to, 1, name), 3, value)
		})
		to = putAction(to, action)
		if value == "" {
			to = putNumber(to, 4, 1)
		}
		return to
	})
}

func putAction(to []byte, action appendAction) []byte {
	if action == appendIfExistsOrAdd {
		return putMessage(to, 2, func(to []byte) []byte { return putNumber(to, 1, 1) })
	}
	return putNumber(to, 3, uint64(action))
}

// removeHeader also takes back what the answer has set.
func (a *answer) removeHeader(name string) {
	a.hasMutation = true
	if a.names(1, name) {
		var kept []byte
		records(string(a.records), func(next record) bool {
			if next.field != 1 || !strings.EqualFold(lastBytes(lastBytes(next.bytes, 1), 1), name) {
				kept = putBytes(kept, next.field, next.bytes)
			}
			return true
		})
		a.records = kept
	}
	a.records = putBytes(a.records, 2, name)
}

// putCheckHeader writes both forms of the value.
func putCheckHeader(to []byte, field uint32, name, value string, action appendAction) []byte {
	return putMessage(to, field, func(to []byte) []byte {
		to = putMessage(to, 1, func(to []byte) []byte {
			return putBytes(putBytes(putBytes(to, 1, name), 2, value), 3, value)
		})
		return putAction(to, action)
	})
}

func putPair(to []byte, field uint32, name, value string) []byte {
	return putMessage(to, field, func(to []byte) []byte { return putBytes(putBytes(to, 1, name), 2, value) })
}

// isDecided says that what the hook has said is final.
func (a *answer) isDecided() bool {
	return a.immediate != nil || a.check == abi.CheckDenied || a.connection != 0
}

// refuses says that the request, or the connection, does not go on.
func (a *answer) refuses() bool { return a.isDecided() || a.overLimit }

// mayGoOn says whether a step may still be made. If not it has to do nothing.
func (a *answer) mayGoOn(step string) bool {
	if !a.isDecided() {
		return true
	}
	if a.lateStep == "" {
		a.lateStep = step
	}
	return false
}

// lateStepText is what the log says of a step after a refusal.
func (a *answer) lateStepText(phase uint32) string {
	after, remedy := "Deny() or Reply()", "them, or add to the Reply"
	switch phase {
	case abi.Check:
		after, remedy = "a denial", "it"
	case abi.ReadData, abi.WriteData, abi.Connection:
		after, remedy = "Close() or Reset()", "them"
	}
	return a.lateStep + "() after " + after + " does nothing: return from the hook after " + remedy
}

func (a *answer) fail(text string) {
	if a.failure == nil {
		a.failure = &Error{InvalidArgument, text}
	}
}

func (a *answer) isEmpty() bool {
	return !a.hasMutation && !a.clearsRouteCache && a.bodyKind == bodyUnchanged && a.immediate == nil &&
		a.check == 0 && !a.hasLimit && a.connection == 0
}

// message is what the answer becomes: the body stands between head and tail.
func (a *answer) message(phase uint32) (field uint32, head, tail []byte) {
	switch {
	case phase == abi.Check:
		return a.check, a.records, nil
	case phase == abi.RateLimit:
		code := uint64(1)
		if a.overLimit {
			code = 2
		}
		return abi.WholeResponse, putNumber(a.records, 1, code), nil
	case a.connection != 0: // connection_status 4
		a.body = nil
		return abi.WholeResponse, putNumber(nil, 4, a.connection), nil
	case phase == abi.ReadData:
		return abi.ReadDataResponse, putHead(nil, 1, len(a.body)), nil
	case phase == abi.WriteData:
		return abi.WriteDataResponse, putHead(nil, 1, len(a.body)), nil
	case a.immediate != nil:
		head, tail = a.immediateParts()
		return abi.ImmediateResponse, head, tail
	case phase == abi.RequestTrailers || phase == abi.ResponseTrailers:
		return phase - 1, append(putHead(nil, 1, len(a.records)), a.records...), nil
	}
	head, tail = a.commonParts(phase)
	return phase - 1, head, tail
}

// HeadersResponse and BodyResponse: response 1, a CommonResponse of status 1, header_mutation 2,
// body_mutation 3 (body 1, clear_body 2), clear_route_cache 5.
func (a *answer) commonParts(phase uint32) (head, tail []byte) {
	var inner []byte
	if a.bodyKind != bodyUnchanged && (phase == abi.RequestHeaders || phase == abi.ResponseHeaders) {
		inner = putNumber(inner, 1, 1)
	}
	if a.hasMutation || a.clearsRouteCache {
		inner = append(putHead(inner, 2, len(a.records)), a.records...)
	}
	switch a.bodyKind {
	case bodyCleared:
		inner = putMessage(inner, 3, func(to []byte) []byte { return putNumber(to, 2, 1) })
	case bodyReplaced:
		inner = putHead(putHead(inner, 3, recordSize(1, len(a.body))), 1, len(a.body))
	}
	if a.clearsRouteCache {
		tail = putNumber(nil, 5, 1)
	}
	return append(putHead(nil, 1, len(inner)+len(a.body)+len(tail)), inner...), tail
}

// ImmediateResponse: status 1 (HttpStatus: code 1), headers 2, body 3, grpc_status 4 (GrpcStatus: status
// 1), details 5.
func (a *answer) immediateParts() (head, tail []byte) {
	head = putMessage(head, 1, func(to []byte) []byte { return putNumber(to, 1, a.immediate.httpStatus) })
	if a.hasMutation {
		head = append(putHead(head, 2, len(a.records)), a.records...)
	}
	if a.bodyKind == bodyReplaced {
		head = putHead(head, 3, len(a.body))
	}
	if a.immediate.hasGRPCStatus {
		tail = putMessage(tail, 4, func(to []byte) []byte { return putNumber(to, 1, a.immediate.grpcStatus) })
	}
	if a.immediate.details != "" {
		tail = putBytes(tail, 5, a.immediate.details)
	}
	return head, tail
}
