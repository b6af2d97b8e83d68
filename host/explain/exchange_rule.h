// SPDX-License-Identifier: Apache-2.0

// A rule of the operator that marks exchanges while the host runs: to be explained, or to be logged
// at another level.
//
//   absl::StatusOr<ExchangeRule> rule =
//       ParseExchangeRule("path_prefix=/api&header=x-tenant:7&log_level=debug&seconds=60");
//
// The text is a form as browsers send it (application/x-www-form-urlencoded):
//
//   path_prefix, host, method   as in the setting `match`; repeatable, any of them
//   header                      NAME, which is present, or NAME:VALUE, which is equal; all of them
//   log_level                   of lines about these exchanges, where it is below the host's
//   explain                     on (default) or off
//   count                       at most so many exchanges, 1 to 10000; default 20
//   seconds                     and for so long, 1 to 86400; default 600
//
// At least one of the first four is needed, so that no rule marks everything by mistake;
// path_prefix=/ marks everything.
//
// Plain values.
//
// Tested by tests/host/explain/exchange_rule_test.cc.
#ifndef CALLOUT_HOST_EXPLAIN_EXCHANGE_RULE_H_
#define CALLOUT_HOST_EXPLAIN_EXCHANGE_RULE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "host/base/log.h"
#include "host/base/redaction.h"
#include "host/plugin/settings.h"

namespace callout::host {

struct ExchangeRule {
  std::string text;  // as it was given
  StreamMatch match;
  std::vector<std::pair<std::string, std::string>> header_values;  // names in lower case
  std::optional<LogLevel> log_level;
  bool explain = true;
  uint32_t count = 20;
  uint32_t seconds = 600;
};

inline constexpr size_t kExchangeRuleBytesMax = 4096;

// INVALID_ARGUMENT that names the key, what was found and what is expected.
absl::StatusOr<ExchangeRule> ParseExchangeRule(std::string_view form);

// The form for people: without values of headers that `redaction` hides, nor of keys that no rule
// has, and without pairs that are not encoded as a form. The rest stays as it is.
std::string ShownRule(std::string_view form, const Redaction& redaction);

// Whether a request with these headers (HttpHeaders) is one of the rule's.
bool Matches(const ExchangeRule& rule, std::string_view headers);

}  // namespace callout::host

#endif  // CALLOUT_HOST_EXPLAIN_EXCHANGE_RULE_H_
