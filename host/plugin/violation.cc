// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/violation.h"

#include <array>

namespace callout::host {

bool MayBeOfCode(Violation violation, bool by_peer) {
  switch (violation) {
    case Violation::kBodyTooLarge:
    case Violation::kBodyLost:
    case Violation::kEndlessBody:
    case Violation::kDeferLimit:
    case Violation::kOverload:
      return false;
    default:
      return !by_peer;
  }
}

bool IsInvalidResponse(Violation violation) {
  switch (violation) {
    case Violation::kNone:
    case Violation::kErrorStatus:
    case Violation::kDeadline:
    case Violation::kBodyTooLarge:
    case Violation::kDeferLimit:
    case Violation::kBodyLost:
    case Violation::kStaleFinish:
    case Violation::kHeadersHeld:
    case Violation::kEndlessBody:
    case Violation::kOverload:
      return false;
    default:
      return true;
  }
}

std::string_view ViolationName(Violation violation) {
  static constexpr std::array<std::string_view, kViolationCount> kNames = {
      "none",           "wrong_type",   "second_answer", "malformed",    "too_large",
      "illegal_header", "illegal_body", "bad_status",    "error_status", "deadline",
      "body_too_large", "defer_limit",  "body_lost",     "stale_finish", "headers_held",
      "late_header",    "encoded_body", "endless_body",  "overload",     "not_carried"};
  return kNames[static_cast<size_t>(violation)];
}

}  // namespace callout::host
