// SPDX-License-Identifier: Apache-2.0

#include "host/base/json_text.h"

#include <fmt/format.h>

#include <string>

#include "host/base/log.h"

namespace callout::host {
namespace {

// "parse error at line 1, column 3: syntax error while parsing value - invalid literal" of
// nlohmann::json's "[json.exception.parse_error.101] parse error at line 1, column 3: syntax error
// while parsing value - invalid literal; last read: 's3cr3t'; expected …": without what was read,
// which may be a secret. Valid as long as `error`.
std::string_view ReasonOf(const nlohmann::json::parse_error& error) {
  std::string_view text = error.what();
  text = text.substr(0, text.find("; last read: "));
  const size_t end = text.find("] ");
  return end == std::string_view::npos ? text : text.substr(end + 2);
}

}  // namespace

absl::StatusOr<nlohmann::json> ParseJsonText(std::string_view text) {
  bool too_deep = false;
  // `depth`: how many lists and objects contain the value.
  const auto keep = [&](int depth, nlohmann::json::parse_event_t event, const nlohmann::json&) {
    using Event = nlohmann::json::parse_event_t;
    const bool begins = event == Event::object_start || event == Event::array_start;
    too_deep = too_deep || (begins && depth >= kJsonDepthMax);
    return !too_deep;
  };
  try {
    nlohmann::json parsed = nlohmann::json::parse(text, keep);
    if (!too_deep) return parsed;
  } catch (const nlohmann::json::parse_error& error) {
    return absl::InvalidArgumentError(EscapeControls(ReasonOf(error)));
  } catch (const nlohmann::json::exception&) {
    return absl::InvalidArgumentError("a number is out of range");  // its text has the number
  }
  return absl::InvalidArgumentError(
      fmt::format("lists and objects are nested more than {} deep", kJsonDepthMax));
}

}  // namespace callout::host
