// SPDX-License-Identifier: Apache-2.0

#include "host/wire/phase.h"

#include <array>

namespace callout::host {

std::string_view PhaseName(callout_phase_t phase) {
  static constexpr std::array<std::string_view, kPhaseCount> kNames = {
      "process",      "unknown",       "request_headers",  "response_headers",
      "request_body", "response_body", "request_trailers", "response_trailers"};
  static constexpr std::array<std::string_view, kPhaseSlots - kPhaseCount> kOthers = {
      "check", "read_data", "write_data", "connection", "rate_limit"};
  if (IsOtherService(phase) && IsKnownPhase(phase)) return kOthers[phase - CALLOUT_CHECK];
  return phase < kNames.size() ? kNames[phase] : "unknown";
}

bool IsResponseField(callout_field_t field) {
  return (field >= CALLOUT_REQUEST_HEADERS_RESPONSE && field <= CALLOUT_IMMEDIATE_RESPONSE) ||
         field == CALLOUT_STREAMED_IMMEDIATE_RESPONSE;
}

}  // namespace callout::host
