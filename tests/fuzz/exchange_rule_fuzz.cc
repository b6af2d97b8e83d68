// SPDX-License-Identifier: Apache-2.0

// What somebody posts to the admin page to have requests explained.
//
// Readers: host/explain/exchange_rule.cc
#include <string>

#include "host/base/redaction.h"
#include "host/explain/exchange_rule.h"
#include "tests/fuzz/target.h"

namespace callout::host {
namespace {

FUZZ_TARGET(exchange_rule, .rounds = 20000, .bytes = 64) {
  const std::string headers = choices.Bytes(64);
  const std::string form = choices.Rest();
  const absl::StatusOr<ExchangeRule> rule = ParseExchangeRule(form);
  const std::string shown = ShownRule(form, Redaction());
  // Of a form with nothing else that could be the same text.
  constexpr size_t kLongEnough = 24;
  if (rule.ok() && form.find('&') == std::string::npos && rule->header_values.size() == 1) {
    const auto& [name, value] = rule->header_values.front();
    if (name == "authorization" && value.size() >= kLongEnough &&
        shown.find(value) != std::string::npos) {
      return "a credential is shown: " + shown;
    }
  }
  if (!rule.ok()) {
    const std::string why(rule.status().message());
    for (const char c : why) {
      if (static_cast<unsigned char>(c) < 0x20) return "an error of several lines: " + why;
    }
    return "";
  }
  if (rule->text != form) return "the rule is not what was given";
  if (rule->match.empty() && rule->header_values.empty()) return "a rule that marks everything";
  if (rule->count == 0 || rule->seconds == 0) return "a rule without a limit";
  Matches(*rule, headers);
  return "";
}

}  // namespace
}  // namespace callout::host
