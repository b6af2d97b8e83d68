// SPDX-License-Identifier: Apache-2.0

#include "host/explain/exchange_rule.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "absl/status/status.h"
#include "host/base/ascii.h"
#include "host/base/percent.h"
#include "host/plugin/match.h"
#include "host/wire/response.h"

namespace callout::host {
namespace {

constexpr std::array<std::string_view, 8> kKeys = {"path_prefix", "host",    "method", "header",
                                                   "log_level",   "explain", "count",  "seconds"};
constexpr size_t kShownMax = 64;

absl::Status Expected(std::string_view key, std::string_view value, std::string_view what) {
  return absl::InvalidArgumentError(fmt::format("rule: {}={}: expected {}",
                                                EscapeControls(key.substr(0, kShownMax)),
                                                EscapeControls(value.substr(0, kShownMax)), what));
}

absl::Status SetNumber(std::string_view key, std::string_view value, uint32_t max,
                       uint32_t* number) {
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), *number);
  const bool good = error == std::errc() && end == value.data() + value.size();
  if (good && *number >= 1 && *number <= max) return absl::OkStatus();
  return Expected(key, value, fmt::format("a number from 1 to {}", max));
}

absl::Status SetHeader(std::string_view value, ExchangeRule* rule) {
  const size_t colon = value.find(':', 1);  // a pseudo-header begins with one
  const std::string name = ToLowerAscii(value.substr(0, colon));
  if (name.empty()) return Expected("header", value, "NAME, or NAME:VALUE");
  if (colon == value.npos) {
    rule->match.headers.push_back(name);
  } else {
    std::string_view text = value.substr(colon + 1);
    while (text.starts_with(' ')) text.remove_prefix(1);
    rule->header_values.emplace_back(name, text);
  }
  return absl::OkStatus();
}

absl::Status Set(std::string_view key, const std::string& value, ExchangeRule* rule) {
  if (key == "path_prefix") {
    rule->match.path_prefixes.push_back(value);
  } else if (key == "host") {
    rule->match.hosts.push_back(ToLowerAscii(value));
  } else if (key == "method") {
    rule->match.methods.push_back(value);
  } else if (key == "header") {
    return SetHeader(value, rule);
  } else if (key == "log_level") {
    rule->log_level = ParseLogLevel(value);
    if (!rule->log_level.has_value()) return Expected(key, value, "debug, info, warning or error");
  } else if (key == "explain") {
    if (value != "on" && value != "off") return Expected(key, value, "on or off");
    rule->explain = value == "on";
  } else if (key == "count") {
    return SetNumber(key, value, 10000, &rule->count);
  } else if (key == "seconds") {
    return SetNumber(key, value, 86400, &rule->seconds);
  } else {
    // Its value may be a credential, under a misspelled key.
    return absl::InvalidArgumentError(fmt::format("rule: {}: expected one of the keys {}",
                                                  EscapeControls(key.substr(0, kShownMax)),
                                                  fmt::join(kKeys, ", ")));
  }
  return absl::OkStatus();
}

std::string ShownPair(const FormPair& pair, const Redaction& redaction) {
  if (!pair.has_equals || !pair.key.has_value() || !pair.value.has_value()) {
    return std::string(kRedacted);
  }
  // Of a form that is refused; the key is misspelled, perhaps.
  if (std::find(kKeys.begin(), kKeys.end(), *pair.key) == kKeys.end()) {
    return fmt::format("{}={}", *pair.key, kRedacted);
  }
  const std::string& value = *pair.value;
  if (*pair.key == "path_prefix") {
    // A query is no part of what is matched, and may be a credential.
    const std::string shown = redaction.Shown(":path", value);
    return shown == value ? std::string(pair.text) : fmt::format("path_prefix={}", shown);
  }
  const size_t colon = value.find(':', 1);  // as SetHeader
  if (*pair.key != "header" || colon == value.npos) return std::string(pair.text);
  const std::string name = value.substr(0, colon);
  const std::string text = value.substr(colon + 1);
  const std::string shown = redaction.Shown(name, text);
  return shown == text ? std::string(pair.text) : fmt::format("header={}:{}", name, shown);
}

}  // namespace

absl::StatusOr<ExchangeRule> ParseExchangeRule(std::string_view form) {
  if (form.size() > kExchangeRuleBytesMax) {
    return absl::InvalidArgumentError(
        fmt::format("rule: {} bytes, at most {}", form.size(), kExchangeRuleBytesMax));
  }
  ExchangeRule rule;
  rule.text = std::string(form);
  for (const FormPair& pair : FormPairs(form)) {
    if (!pair.has_equals || !pair.key.has_value() || !pair.value.has_value()) {
      // Its text may be a credential.
      return absl::InvalidArgumentError(
          "rule: a part of it is not encoded as a form; expected KEY=VALUE");
    }
    // A field of a page that nobody has filled in.
    if (pair.value->empty()) continue;
    if (absl::Status status = Set(*pair.key, *pair.value, &rule); !status.ok()) return status;
  }
  if (rule.match.empty() && rule.header_values.empty()) {
    return absl::InvalidArgumentError(
        "rule: it says nothing of the requests; give path_prefix, host, method or header "
        "(path_prefix=/ marks all)");
  }
  if (!rule.explain && !rule.log_level.has_value()) {
    return absl::InvalidArgumentError("rule: explain=off without log_level does nothing");
  }
  return rule;
}

std::string ShownRule(std::string_view form, const Redaction& redaction) {
  std::string shown;
  for (const FormPair& pair : FormPairs(form)) {
    if (!shown.empty()) shown += "&";
    shown += ShownPair(pair, redaction);
  }
  return shown;
}

bool Matches(const ExchangeRule& rule, std::string_view headers) {
  for (const auto& [name, value] : rule.header_values) {
    if (FindHeader(headers, name) != value) return false;
  }
  if (rule.match.empty()) return true;
  RequestView view;
  view.phase = CALLOUT_REQUEST_HEADERS;
  view.message = headers;
  return StreamFacts(view).Match(rule.match);
}

}  // namespace callout::host
