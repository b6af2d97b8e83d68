// SPDX-License-Identifier: Apache-2.0

// Every kind of fault: what causes it, whether a client can, and what happens by
// default. docs/faults.md is this table; a test compares the two.
//
// By default a fault fails the exchange. A gRPC error does that only where Envoy
// fails closed (failure_mode_allow lets the request pass), so a fault that a client
// can cause is refused by an immediate response instead, as long as the response's
// headers have not gone out and no FULL_DUPLEX_STREAMED body runs.
#ifndef CALLOUT_HOST_STREAM_FAULT_KINDS_H_
#define CALLOUT_HOST_STREAM_FAULT_KINDS_H_

#include <array>
#include <string_view>

#include "host/plugin/violation.h"

namespace callout::host {

struct FaultKind {
  Violation violation;
  // Of the immediate response under the policy `fail`; 0: a gRPC error.
  int http_status;
  bool client_can_cause;
  std::string_view cause;
  bool only_counted = false;  // and logged: no exchange fails
};

// In the order of Violation, without kNone.
inline constexpr std::array<FaultKind, kViolationCount - 1> kFaultKinds = {{
    {Violation::kWrongType, 0, false, "The response belongs to another phase or direction"},
    {Violation::kSecondResponse, 0, false, "`send()` where one response is all that Envoy takes"},
    {Violation::kMalformed, 0, false, "The bytes are not a message of the expected type"},
    {Violation::kTooLarge, 500, true, "The response is larger than `--max_message_bytes`"},
    {Violation::kIllegalHeader, 500, true,
     "A header name or value has a byte that Envoy refuses, a list has more than 100 entries, or "
     "the result is over `--max_header_count` or `--max_header_bytes` (431)"},
    {Violation::kIllegalBody, 0, false, "The body mode does not allow this body mutation"},
    {Violation::kBadStatus, 0, false, "A positive status that this hook may not return"},
    {Violation::kErrorStatus, 0, true,
     "A negative status or an exception; the stream ends with that status"},
    {Violation::kDeadline, 0, true,
     "A deferred call or a hook on the blocking pool has no response within `--hook_deadline_ms`, "
     "or a body none within `--body_wait_ms`. A hook that holds a serving thread is no fault; its "
     "response counts, and the watchdog logs it (`--watchdog_ms`)"},
    {Violation::kBodyTooLarge, 413, true,
     "The body is larger than the plugin takes whole, or than `--max_stream_memory_bytes`; the "
     "setting `too_large` decides, by default deny:413"},
    {Violation::kDeferLimit, 503, true, "More calls are deferred than `--max_deferred` allows"},
    {Violation::kBodyLost, 500, true,
     "The end of a body that was gathered in STREAMED could not be seen, so it cannot be given "
     "back"},
    {Violation::kStaleFinish, 0, false,
     "`finish()` on a call that was finished or never deferred; it has no effect, and the exchange "
     "goes on",
     true},
    {Violation::kHeadersHeld, 0, false,
     "A direction ended while its headers were still held (FULL_DUPLEX_STREAMED)"},
    {Violation::kLateHeader, 0, false,
     "A header change in a body response after the headers have gone (STREAMED)"},
    {Violation::kEncodedBody, 500, true,
     "A new body under a content-encoding header that has gone out (STREAMED), or that may have: "
     "nothing has shown whether Envoy obeys a mode override to BUFFERED"},
    {Violation::kEndlessBody, 500, true,
     "A plugin takes bodies whole, and this body has no end, or none that the host can see; the "
     "setting `endless_body` decides"},
    {Violation::kOverload, 503, true,
     "The host did not begin the call of a blocking plugin, since no thread was free in time "
     "(`--blocking_threads`)"},
    {Violation::kNotCarried, 0, false,
     "ext_authz only: an instance without `callout_on_check` has hooks or gives a response that a "
     "Check has no place for, or the responses of a chain cannot be said in one"},
}};

inline const FaultKind& KindOf(Violation violation) {
  return kFaultKinds[static_cast<size_t>(violation) - 1];
}

}  // namespace callout::host

#endif  // CALLOUT_HOST_STREAM_FAULT_KINDS_H_
