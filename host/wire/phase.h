// SPDX-License-Identifier: Apache-2.0

// The phases of an exchange, and the response field that belongs to each.
#ifndef CALLOUT_HOST_WIRE_PHASE_H_
#define CALLOUT_HOST_WIRE_PHASE_H_

#include <callout/plugin.h>

#include <array>
#include <cstddef>
#include <string_view>

namespace callout::host {

// Phases of ext_proc are field numbers 2 to 7; bit and index 0 stand for on_process.
inline constexpr size_t kPhaseCount = 8;

// All phases, those of other services included.
inline constexpr std::array<callout_phase_t, 11> kPhases = {
    CALLOUT_REQUEST_HEADERS, CALLOUT_RESPONSE_HEADERS, CALLOUT_REQUEST_BODY,
    CALLOUT_RESPONSE_BODY,   CALLOUT_REQUEST_TRAILERS, CALLOUT_RESPONSE_TRAILERS,
    CALLOUT_CHECK,           CALLOUT_READ_DATA,        CALLOUT_WRITE_DATA,
    CALLOUT_CONNECTION,      CALLOUT_RATE_LIMIT};

// Where a phase (or 0) stands in an array of them.
inline constexpr size_t kPhaseSlots = kPhaseCount + 1 + (CALLOUT_RATE_LIMIT - CALLOUT_CHECK);
inline constexpr size_t PhaseSlot(callout_phase_t phase) {
  return phase < kPhaseCount ? phase : kPhaseCount + (phase - CALLOUT_CHECK);
}
inline constexpr bool IsOtherService(callout_phase_t phase) { return phase >= CALLOUT_CHECK; }
// One of kPhases, or 0 or 1.
inline constexpr bool IsKnownPhase(callout_phase_t phase) {
  return phase < kPhaseCount || (phase >= CALLOUT_CHECK && phase <= CALLOUT_RATE_LIMIT);
}

// "request_headers" for CALLOUT_REQUEST_HEADERS, "check" for CALLOUT_CHECK, …; "process" for 0.
std::string_view PhaseName(callout_phase_t phase);

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
inline callout_field_t ResponseField(callout_phase_t phase) { return phase - 1; }

// True for the fields of ProcessingResponse that are members of its oneof.
bool IsResponseField(callout_field_t field);

}  // namespace callout::host

#endif  // CALLOUT_HOST_WIRE_PHASE_H_
