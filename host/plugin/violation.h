// What can be wrong with how a plugin settled a call.
#ifndef CALLOUT_HOST_PLUGIN_VIOLATION_H_
#define CALLOUT_HOST_PLUGIN_VIOLATION_H_

#include <cstddef>
#include <cstdint>
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
  kOverload,        // overload: not called, for no thread was free for it in time
};
inline constexpr size_t kViolationCount = 14;

std::string_view ViolationName(Violation violation);

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_VIOLATION_H_
