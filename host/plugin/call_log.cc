// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/call_log.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "host/base/ascii.h"
#include "host/base/log.h"
#include "host/plugin/instance.h"
#include "host/plugin/services.h"
#include "host/wire/phase.h"
#include "host/wire/response.h"

namespace callout::host {

namespace {

constexpr size_t kHeadersBytesMax = 2048;
constexpr std::string_view kQueries = "?query";

std::vector<std::string>& Redacted() {
  static auto* const names = new std::vector<std::string>(RedactedHeadersDefault());
  return *names;
}

std::string_view AnswerName(callout_field_t field) {
  switch (field) {
    case 0:
      return "nothing";
    case CALLOUT_IMMEDIATE_RESPONSE:
      return "immediate_response";
    case CALLOUT_STREAMED_IMMEDIATE_RESPONSE:
      return "streamed_immediate_response";
    default:
      return PhaseName(field + 1);
  }
}

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

// Headers whose values are paths or URLs, in which a query may carry secrets.
bool HoldsUrl(std::string_view name) {
  return name == ":path" || name == "referer" || name == "location" || name == "content-location" ||
         name.ends_with("-path") || name.ends_with("-url") || name.ends_with("-uri");
}

// A query, a fragment, and the user of "https://user:password@host/".
std::string WithoutSecretsOfUrl(std::string_view url) {
  std::string text;
  const size_t host = url.find("://");
  if (host != url.npos) {
    const std::string_view authority =
        url.substr(host + 3, url.find_first_of("/?#", host + 3) - (host + 3));
    if (const size_t user = authority.rfind('@'); user != authority.npos) {
      text = fmt::format("{}[redacted]", url.substr(0, host + 3));
      url.remove_prefix(host + 3 + user);
    }
  }
  const size_t query = url.find_first_of("?#");
  if (query == url.npos) return text.append(url);
  return fmt::format("{}{}[redacted]", text, url.substr(0, query + 1));
}

std::string HeaderText(std::string_view message) {
  ResponseView view;
  // HttpTrailers has its header list in the same field.
  if (!ReadHttpHeaders(message, &view)) return "malformed headers";
  std::string text;
  for (const HeaderSet& header : view.headers.set) {
    const std::string name = ToLowerAscii(header.key);
    fmt::format_to(std::back_inserter(text), "{}{}: {}", text.empty() ? "" : ", ", name,
                   ShownHeaderValue(name, header.value));
    if (text.size() > kHeadersBytesMax) {
      text.resize(kHeadersBytesMax);
      return text + "…";
    }
  }
  return text;
}

}  // namespace

const std::vector<std::string>& RedactedHeadersDefault() {
  static const auto* const names = new std::vector<std::string>{"*authorization*",
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
  return *names;
}

std::string ShownHeaderValue(std::string_view key, std::string_view value) {
  constexpr std::string_view kExplainHeader = "x-callout-debug";
  const std::string name = ToLowerAscii(key);
  bool queries = false;
  if (name == kExplainHeader) return "[redacted]";
  for (const std::string& pattern : Redacted()) {
    queries = queries || pattern == kQueries;
    if (Matches(name, pattern)) return "[redacted]";
  }
  return queries && HoldsUrl(name) ? WithoutSecretsOfUrl(value) : std::string(value);
}

void SetRedactedHeaders(std::vector<std::string> names) { Redacted() = std::move(names); }

std::string StatusName(callout_status_t status) {
  switch (status) {
    case CALLOUT_OK:
      return "OK";
    case CALLOUT_DEFERRED:
      return "DEFERRED";
    case CALLOUT_NEXT:
      return "NEXT";
    case CALLOUT_NO_RESPONSE:
      return "NO_RESPONSE";
    default:
      if (status < 0 && status >= CALLOUT_UNAUTHENTICATED) {
        return absl::StatusCodeToString(static_cast<absl::StatusCode>(-status));
      }
      return fmt::format("{}", status);
  }
}

void LogCall(const CallState& state, std::string_view plugin_name, callout_status_t status,
             uint64_t nanoseconds) {
  const callout_call_t& call = state.slot->call;
  std::string text = fmt::format("stream {} plugin {} {} {} us -> {}", state.stream_id, plugin_name,
                                 PhaseName(call.phase), nanoseconds / 1000, StatusName(status));
  if (status != CALLOUT_DEFERRED) {
    // The call is over for the plugin, but its bytes are still valid.
    text += fmt::format(", answered {}", AnswerName(state.response.field));
    if (IsBodyPhase(call.phase)) {
      text += fmt::format("; {} bytes", call.message.size);
    } else {
      text += "; " + HeaderText(ToView(call.message));
    }
  }
  LogText(LogLevel::kDebug, text);
}

}  // namespace callout::host
