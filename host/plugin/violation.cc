#include "host/plugin/violation.h"

#include <array>

namespace callout::host {

std::string_view ViolationName(Violation violation) {
  static constexpr std::array<std::string_view, kViolationCount> kNames = {
      "none",           "wrong_type",   "second_answer", "malformed",    "too_large",
      "illegal_header", "illegal_body", "bad_status",    "error_status", "deadline",
      "body_too_large", "defer_limit",  "body_lost",     "overload"};
  return kNames[static_cast<size_t>(violation)];
}

}  // namespace callout::host
