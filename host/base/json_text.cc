// SPDX-License-Identifier: Apache-2.0

#include "host/base/json_text.h"

#include <fmt/format.h>

#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
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

constexpr size_t kShownKeyBytes = 100;

// Watches the parser, and says what is wrong with a text that is JSON.
class ParseWatch {
 public:
  using Event = nlohmann::json::parse_event_t;

  // `depth`: how many lists and objects contain the value. False: the rest is of no interest.
  bool Keep(int depth, Event event, const nlohmann::json& value) {
    if (!status_.ok()) return false;
    const bool begins = event == Event::object_start || event == Event::array_start;
    if (begins && depth >= kJsonDepthMax) {
      status_ = absl::InvalidArgumentError(
          fmt::format("lists and objects are nested more than {} deep", kJsonDepthMax));
    }
    if (event == Event::object_start) keys_.emplace_back();
    if (event == Event::object_end) keys_.pop_back();
    if (event == Event::key) AddKey(value.get_ref<const std::string&>());
    return status_.ok();
  }

  const absl::Status& status() const { return status_; }

 private:
  // The parser keeps the last of two values, and whoever wrote the other one believes in it.
  void AddKey(const std::string& key) {
    if (keys_.back().insert(key).second) return;
    status_ = absl::InvalidArgumentError(
        fmt::format("the key \"{}\" is there twice in one object; remove one of them",
                    EscapeControls(std::string_view(key).substr(0, kShownKeyBytes))));
  }

  absl::Status status_;
  std::vector<std::set<std::string>> keys_;  // of the objects that contain the value
};

}  // namespace

absl::StatusOr<nlohmann::json> ParseJsonText(std::string_view text) {
  ParseWatch watch;
  const auto keep = [&watch](int depth, ParseWatch::Event event, const nlohmann::json& value) {
    return watch.Keep(depth, event, value);
  };
  try {
    nlohmann::json parsed = nlohmann::json::parse(text, keep);
    if (watch.status().ok()) return parsed;
  } catch (const nlohmann::json::parse_error& error) {
    return absl::InvalidArgumentError(EscapeControls(ReasonOf(error)));
  } catch (const nlohmann::json::exception&) {
    return absl::InvalidArgumentError("a number is out of range");  // its text has the number
  }
  return watch.status();
}

}  // namespace callout::host
