// SPDX-License-Identifier: Apache-2.0

// What can be wrong with how a plugin settled a call.
//
// Tested by tests/host/stream/stream_test.cc.
#ifndef CALLOUT_HOST_PLUGIN_VIOLATION_H_
#define CALLOUT_HOST_PLUGIN_VIOLATION_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace callout::host {

// What can be wrong with how a call was settled. The names are those of the
// `kind` label at /metrics.
enum class Violation : uint8_t {
  kNone,
  kWrongType,       // wrong_type: an answer of another phase or direction
  kSecondResponse,  // second_answer: send() where one answer is all
  kMalformed,       // malformed: bytes that are not the message they should be
  kTooLarge,        // too_large: over --max_message_bytes
  kIllegalHeader,   // illegal_header: a name, value or count Envoy answers 500 to
  kIllegalBody,     // illegal_body: a body mutation the body mode does not allow
  kBadStatus,       // bad_status: a positive status the hook may not return
  kErrorStatus,     // error_status: a negative status
  kDeadline,        // deadline: no answer in time
  kBodyTooLarge,    // body_too_large: over the instance's whole_body_bytes_max
  kDeferLimit,      // defer_limit: over --max_deferred
  kBodyLost,        // body_lost: a whole body could not be given back to Envoy
  kStaleFinish,     // stale_finish: finish() on a call that was over or never deferred
  kHeadersHeld,     // headers_held: a direction ended with its headers still held
  kLateHeader,      // late_header: a header change after the headers have gone
  kEncodedBody,     // encoded_body: a new body under a content-encoding that has gone out
  kEndlessBody,     // endless_body: a body to be whole that has no end, or none to be seen
  kOverload,        // overload: not called, for no thread was free for it in time
  kNotCarried,      // not_carried: an effect, or hooks, that Check has no place for
};
inline constexpr size_t kViolationCount = 20;

// A fault found: its kind, and what was found where, with the limit and the option
// that changes it ("104 headers, limit --max_header_count=100").
struct Finding {
  Violation violation = Violation::kNone;
  std::string what;
  // Of the immediate response that refuses the exchange; 0: the kind's own.
  int http_status = 0;
  // What the client has sent decides whether it happens: the message never passes
  // without the plugin's change, under no policy.
  bool client_decides = false;

  bool ok() const { return violation == Violation::kNone; }
};

// The plugin has given a response, and that is what is wrong.
bool IsInvalidResponse(Violation violation);

std::string_view ViolationName(Violation violation);

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_VIOLATION_H_
