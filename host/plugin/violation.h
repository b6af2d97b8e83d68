// SPDX-License-Identifier: Apache-2.0

// The kinds of faults: what can be wrong with a plugin's call.
//
// Tested by tests/host/stream/stream_test.cc.
#ifndef CALLOUT_HOST_PLUGIN_VIOLATION_H_
#define CALLOUT_HOST_PLUGIN_VIOLATION_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace callout::host {

// Each name is the value of the label `kind` at /metrics. host/stream/fault_kinds.h has their
// causes.
enum class Violation : uint8_t {
  kNone,
  kWrongType,       // wrong_type: a response of another phase or direction
  kSecondResponse,  // second_answer: send() where Envoy takes one response only
  kMalformed,       // malformed: bytes that are not a message of the expected type
  kTooLarge,        // too_large: over --max_message_bytes
  kIllegalHeader,   // illegal_header: a name, value or count that Envoy refuses
  kIllegalBody,     // illegal_body: a body mutation that the body mode does not allow
  kBadStatus,       // bad_status: a positive status that the hook may not return
  kErrorStatus,     // error_status: a negative status
  kDeadline,        // deadline: no response in time
  kBodyTooLarge,    // body_too_large: over the instance's whole_body_bytes_max
  kDeferLimit,      // defer_limit: over --max_deferred
  kBodyLost,        // body_lost: a whole body could not be given back to Envoy
  kStaleFinish,     // stale_finish: finish() on a call that was finished or never deferred
  kHeadersHeld,     // headers_held: a direction ended while its headers were held
  kLateHeader,      // late_header: a header change after the headers have gone
  kEncodedBody,     // encoded_body: a new body under a content-encoding that has gone out
  kEndlessBody,     // endless_body: a whole body that has no end, or none that the host sees
  kOverload,        // overload: not called, since no thread was free in time
  kNotCarried,      // not_carried: an effect, or hooks, that a Check has no place for
};
inline constexpr size_t kViolationCount = 20;

// A fault: its kind, and what was found, with the limit and the option that changes it
// ("104 headers, limit --max_header_count=100").
struct Finding {
  Violation violation = Violation::kNone;
  std::string what;
  // The HTTP status of the immediate response; 0: that of the kind.
  int http_status = 0;
  // The client's message decides whether the fault happens, or the plugin has refused the exchange.
  // So no policy lets the message pass without the plugin's change.
  bool never_passes = false;
  // What came from the other side, or did not come, is the cause, whatever the plugin's code is: a
  // body that does not end in time, a message that is mostly at a limit already.
  bool by_peer = false;

  bool ok() const { return violation == Violation::kNone; }
};

// Whether the fault may be the doing of the plugin's code, so that it counts against a new version
// (--reload_guard, canary). Else what was sent, or a full host, is the cause with every version: no
// client is to have a version rolled back.
bool MayBeOfCode(Violation violation, bool by_peer);

// Finding::by_peer of what is over `limit`: the message had more than half of it before the plugin
// added anything.
constexpr bool IsMostlyOfMessage(uint64_t in_message, uint64_t limit) {
  return in_message > limit / 2;
}

// True if the fault is in a response that the plugin gave.
bool IsInvalidResponse(Violation violation);

std::string_view ViolationName(Violation violation);

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_VIOLATION_H_
