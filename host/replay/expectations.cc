// SPDX-License-Identifier: Apache-2.0

#include "host/replay/expectations.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "host/base/file.h"
#include "host/base/json_text.h"
#include "host/base/log.h"
#include "host/base/status_text.h"

namespace callout::host {
namespace {

constexpr size_t kFileBytesMax = 1 << 20;

// `pattern` with "*" for any text. The last "*" that was met takes one character more whenever what
// follows does not fit.
bool Fits(std::string_view pattern, std::string_view text) {
  size_t at = 0, star = std::string_view::npos, star_text = 0, i = 0;
  while (i < text.size()) {
    if (at < pattern.size() && pattern[at] == '*') {
      star = at++;
      star_text = i;
    } else if (at < pattern.size() && pattern[at] == text[i]) {
      ++at;
      ++i;
    } else if (star != std::string_view::npos) {
      at = star + 1;
      i = ++star_text;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', at) == std::string_view::npos;
}

absl::Status Wrong(std::string_view what) {
  return absl::InvalidArgumentError(fmt::format(
      "{}; expected {{\"allow\": [{{\"kind\": …, \"what\": …, \"before\": …, \"after\": …}}, …]}}",
      what));
}

bool IsKind(const std::string& text) {
  for (size_t kind = 0; kind < kDifferenceKinds; ++kind) {
    if (Fits(text, DifferenceKindName(static_cast<DifferenceKind>(kind)))) return true;
  }
  return false;
}

}  // namespace

bool Expectations::Allow(const Difference& difference) const {
  return std::any_of(allowed_.begin(), allowed_.end(), [&](const Allowed& one) {
    return Fits(one.kind, DifferenceKindName(difference.kind)) && Fits(one.what, difference.what) &&
           Fits(one.before, difference.before) && Fits(one.after, difference.after);
  });
}

absl::StatusOr<Expectations> ParseExpectations(std::string_view text) {
  absl::StatusOr<nlohmann::json> json = ParseJsonText(text);
  if (!json.ok()) return json.status();
  if (!json->is_object() || json->size() != 1 || !json->contains("allow") ||
      !(*json)["allow"].is_array()) {
    return Wrong("it is no object with the one member allow, a list");
  }
  Expectations expectations;
  for (const nlohmann::json& entry : (*json)["allow"]) {
    if (!entry.is_object() || entry.empty())
      return Wrong("an entry of allow is no object, or empty");
    Expectations::Allowed& allowed = expectations.allowed_.emplace_back();
    for (const auto& [key, value] : entry.items()) {
      std::string* const member = key == "kind"     ? &allowed.kind
                                  : key == "what"   ? &allowed.what
                                  : key == "before" ? &allowed.before
                                  : key == "after"  ? &allowed.after
                                                    : nullptr;
      if (member == nullptr || !value.is_string()) {
        return Wrong(fmt::format("\"{}\" is no member of an entry, or no text",
                                 EscapeControls(key.substr(0, 64))));
      }
      *member = value.get<std::string>();
    }
    if (!IsKind(allowed.kind)) {
      return Wrong(fmt::format(
          "\"{}\" is no kind; there are header, body, status, metadata, mode, trailers, error",
          EscapeControls(allowed.kind.substr(0, 64))));
    }
  }
  return expectations;
}

absl::StatusOr<Expectations> ReadExpectations(const std::string& path) {
  absl::StatusOr<std::string> text = ReadFile(path, kFileBytesMax);
  if (!text.ok()) {
    return absl::InvalidArgumentError(
        fmt::format("{}: cannot read it: {}", path, MessageOf(text.status())));
  }
  absl::StatusOr<Expectations> expectations = ParseExpectations(*text);
  if (!expectations.ok()) {
    return absl::InvalidArgumentError(
        fmt::format("{}: {}", path, MessageOf(expectations.status())));
  }
  return expectations;
}

}  // namespace callout::host
