// SPDX-License-Identifier: Apache-2.0

#include "host/base/redaction.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "host/base/ascii.h"

namespace callout::host {
namespace {

constexpr std::string_view kQueries = "?query";
constexpr std::string_view kExplainHeader = "x-callout-debug";

// `pattern` is "*token*", "x-*", "*-key" or a whole name.
bool Matches(std::string_view name, std::string_view pattern) {
  const bool any_start = pattern.starts_with('*');
  if (any_start) pattern.remove_prefix(1);
  const bool any_end = pattern.ends_with('*');
  if (any_end) pattern.remove_suffix(1);
  if (any_start && any_end) return name.find(pattern) != name.npos;
  if (any_start) return name.ends_with(pattern);
  return any_end ? name.starts_with(pattern) : name == pattern;
}

// Headers, and attributes of Envoy, whose values are paths or URLs, in which a query may carry
// secrets.
bool HoldsUrl(std::string_view name) {
  return name == ":path" || name == "referer" || name == "location" || name == "content-location" ||
         name == "path" || name == "url" || name == "uri" || name.ends_with("-path") ||
         name.ends_with("-url") || name.ends_with("-uri");
}

// A query, a fragment, and the user of "https://user:password@host/".
std::string WithoutSecretsOfUrl(std::string_view url) {
  std::string text;
  const size_t host = url.find("://");
  if (host != url.npos) {
    const std::string_view authority =
        url.substr(host + 3, url.find_first_of("/?#", host + 3) - (host + 3));
    if (const size_t user = authority.rfind('@'); user != authority.npos) {
      text = fmt::format("{}{}", url.substr(0, host + 3), kRedacted);
      url.remove_prefix(host + 3 + user);
    }
  }
  const size_t query = url.find_first_of("?#");
  if (query == url.npos) return text.append(url);
  return fmt::format("{}{}{}", text, url.substr(0, query + 1), kRedacted);
}

}  // namespace

const std::vector<std::string>& Redaction::DefaultPatterns() {
  static const auto* const patterns = new std::vector<std::string>{"*authorization*",
                                                                   "*cookie*",
                                                                   "*token*",
                                                                   "*secret*",
                                                                   "*password*",
                                                                   "*credential*",
                                                                   "*api-key*",
                                                                   "*apikey*",
                                                                   "*jwt*",
                                                                   "*assertion*",
                                                                   "*session*",
                                                                   "*signature*",
                                                                   "*-cert*",
                                                                   "*access-key*",
                                                                   "*-key",
                                                                   "*-auth",
                                                                   "*-auth-*",
                                                                   "auth-*",
                                                                   "*passwd*",
                                                                   "*passphrase*",
                                                                   "dpop",
                                                                   "sec-websocket-protocol",
                                                                   "?query"};
  return *patterns;
}

Redaction::Redaction(std::vector<std::string> patterns) : patterns_(std::move(patterns)) {
  hides_queries_ = std::find(patterns_.begin(), patterns_.end(), kQueries) != patterns_.end();
}

bool Redaction::Hides(std::string_view given) const {
  const std::string name = ToLowerAscii(given);
  if (name == kExplainHeader || (hides_queries_ && name == "query")) return true;
  return std::any_of(patterns_.begin(), patterns_.end(),
                     [&](const std::string& pattern) { return Matches(name, pattern); });
}

std::string Redaction::Shown(std::string_view given, std::string_view value) const {
  if (Hides(given)) return std::string(kRedacted);
  const bool may_hold = hides_queries_ && HoldsUrl(ToLowerAscii(given));
  return may_hold ? WithoutSecretsOfUrl(value) : std::string(value);
}

}  // namespace callout::host
