// The guard: every answer that leaves the host is legal in the state Envoy is
// in, whatever the hook did.
//
// Which answers are legal where was seen on Envoy 1.40: one answer for each
// message, of the phase's own type; in FULL_DUPLEX_STREAMED body answers are
// streamed_response, elsewhere they never are; anything else ends the HTTP
// request with 500. A header mutation with an illegal character or more than
// 100 entries does too.
#ifndef CALLOUT_HOST_GUARD_H_
#define CALLOUT_HOST_GUARD_H_

#include <callout/plugin.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "host/answer.h"
#include "host/call.h"

namespace callout::host {

// Envoy refuses header mutations with more entries than this in either list.
inline constexpr size_t kHeaderMutationEntriesMax = 100;

// What can be wrong with how a call was settled. The names are those of the
// `kind` label at /metrics.
enum class Violation : uint8_t {
  kNone,
  kWrongType,      // wrong_type: an answer of another phase or direction
  kSecondAnswer,   // second_answer: send() where one answer is all
  kMalformed,      // malformed: bytes that are not the message they should be
  kTooLarge,       // too_large: over --max_message_bytes
  kIllegalHeader,  // illegal_header: a name, value or count Envoy answers 500 to
  kIllegalBody,    // illegal_body: a body mutation the body mode does not allow
  kBadStatus,      // bad_status: a positive status the hook may not return
  kErrorStatus,    // error_status: a negative status
  kDeadline,       // deadline: no answer in time
  kBodyTooLarge,   // body_too_large: over the instance's whole_body_bytes_max
  kDeferLimit,     // defer_limit: over --max_deferred
  kBodyLost,       // body_lost: a whole body could not be given back to Envoy
};
inline constexpr size_t kViolationCount = 13;

std::string_view ViolationName(Violation violation);

// True for a request phase; the others are response phases.
inline bool IsRequestPhase(callout_phase_t phase) { return phase % 2 == 0; }
inline bool IsHeadersPhase(callout_phase_t phase) {
  return phase == CALLOUT_REQUEST_HEADERS || phase == CALLOUT_RESPONSE_HEADERS;
}
inline bool IsBodyPhase(callout_phase_t phase) {
  return phase == CALLOUT_REQUEST_BODY || phase == CALLOUT_RESPONSE_BODY;
}
inline bool IsTrailersPhase(callout_phase_t phase) {
  return phase == CALLOUT_REQUEST_TRAILERS || phase == CALLOUT_RESPONSE_TRAILERS;
}
inline callout_field_t AnswerField(callout_phase_t phase) { return phase - 1; }

// Where an answer would go.
struct Situation {
  callout_phase_t phase = 0;
  callout_body_mode_t body_mode = CALLOUT_BODY_NONE;  // of the phase's direction
};

// Whether `field` with the content `view` may answer the message of `situation`.
Violation CheckAnswer(const Situation& situation, callout_field_t field, const AnswerView& view);

// Whether Envoy applies this mutation without an error of its own, as far as it
// can be told without the headers.
bool IsLegalMutation(const HeaderMutationView& mutation);

}  // namespace callout::host

#endif  // CALLOUT_HOST_GUARD_H_
