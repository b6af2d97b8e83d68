// SPDX-License-Identifier: Apache-2.0

#include "host/deploy/config_document.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <array>
#include <charconv>
#include <cmath>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "host/base/json_text.h"
#include "host/base/log.h"
#include "host/base/status_text.h"
#include "host/base/yaml_size.h"

namespace callout::host {
namespace {

using nlohmann::json;

// yaml-cpp's tree to JSON's, of a text that is within its limits when its aliases are written out.
class Converter {
 public:
  absl::StatusOr<json> Convert(const YAML::Node& node) {
    json value = Value(node, 0);
    if (!error_.ok()) return error_;
    return value;
  }

 private:
  json Value(const YAML::Node& node, int depth) {
    if (depth > kDocumentDepthMax) {
      return Fail(node, fmt::format("lists and maps within each other more than {} deep",
                                    kDocumentDepthMax));
    }
    if (node.IsSequence()) {
      json list = json::array();
      for (const YAML::Node& item : node) {
        list.push_back(Value(item, depth + 1));
        if (!error_.ok()) return {};
      }
      return list;
    }
    if (node.IsMap()) return Map(node, depth);
    if (node.IsScalar()) return node.Scalar();
    return {};
  }

  json Map(const YAML::Node& node, int depth) {
    json map = json::object();
    for (const auto& entry : node) {
      const YAML::Node& key = entry.first;
      if (!key.IsScalar()) return Fail(key, "a key that is not a text");
      if (map.contains(key.Scalar())) {
        return Fail(key, fmt::format("the key '{}' twice in one map", key.Scalar()));
      }
      map[key.Scalar()] = Value(entry.second, depth + 1);
      if (!error_.ok()) return {};
    }
    return map;
  }

  json Fail(const YAML::Node& node, const std::string& what) {
    error_ = absl::InvalidArgumentError(
        fmt::format("line {}: {}", node.Mark().line + 1, EscapeControls(what)));
    return {};
  }

  absl::Status error_ = absl::OkStatus();
};

absl::StatusOr<std::vector<json>> ParseYaml(const std::string& text) {
  constexpr YamlLimits kLimits = {.values_max = kDocumentValuesMax, .bytes_max = kDocumentBytesMax};
  if (const auto finding = FindYamlOverLimit(text, kLimits); finding.has_value()) {
    return absl::InvalidArgumentError(fmt::format("line {}: {}", finding->line, finding->what));
  }
  try {
    Converter converter;
    std::vector<json> documents;
    for (const YAML::Node& node : YAML::LoadAll(text)) {
      absl::StatusOr<json> document = converter.Convert(node);
      if (!document.ok()) return document.status();
      if (!document->is_null()) documents.push_back(*std::move(document));
    }
    return documents;
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(
        fmt::format("line {}: {}", error.mark.line + 1, EscapeControls(error.msg)));
  }
}

// "request_body_mode" to "requestBodyMode".
std::string CamelCase(std::string_view snake) {
  std::string camel;
  for (size_t i = 0; i < snake.size(); ++i) {
    if (snake[i] == '_' && i + 1 < snake.size()) {
      camel += absl::ascii_toupper(static_cast<unsigned char>(snake[++i]));
    } else {
      camel += snake[i];
    }
  }
  return camel;
}

std::string Joined(const std::string& path, std::string_view name) {
  return path.empty() ? std::string(name) : fmt::format("{}.{}", path, name);
}

// A number at the start of `text`, which then begins behind it.
std::optional<double> TakeNumber(std::string_view* text) {
  size_t end = 0;
  while (end < text->size() &&
         (absl::ascii_isdigit(static_cast<unsigned char>((*text)[end])) || (*text)[end] == '.')) {
    ++end;
  }
  double number = 0;
  if (end == 0 || !absl::SimpleAtod(std::string(text->substr(0, end)), &number)) {
    return std::nullopt;
  }
  text->remove_prefix(end);
  return number;
}

struct Unit {
  std::string_view name;
  double factor;
};

const Unit* TakeUnit(std::string_view* text, const Unit* units, size_t count) {
  const size_t end = std::min(text->find_first_of("0123456789."), text->size());
  for (const Unit* unit = units; unit != units + count; ++unit) {
    if (unit->name != text->substr(0, end)) continue;
    text->remove_prefix(end);
    return unit;
  }
  return nullptr;
}

// No configuration means more, and a uint64_t holds it.
constexpr double kLargest = 1e15;

}  // namespace

absl::StatusOr<std::vector<json>> ParseDocuments(const std::string& text) {
  const absl::string_view start = absl::StripLeadingAsciiWhitespace(text);
  // Config dumps are large, and JSON's parser is the faster one. What only looks like JSON is YAML.
  if (!start.empty() && (start[0] == '{' || start[0] == '[')) {
    absl::StatusOr<json> document = ParseJsonText(text);
    if (document.ok()) return std::vector<json>{*std::move(document)};
  }
  return ParseYaml(text);
}

Place Place::At(const std::string& name) const {
  const std::string path = Joined(path_, name);
  if (!IsObject()) return {nullptr, path};
  const auto found = value_->find(name);
  return {found == value_->end() ? nullptr : &*found, path};
}

Place Place::Get(std::string_view snake_name) const {
  Place snake = At(std::string(snake_name));
  if (snake.value_ != nullptr) return snake;
  Place camel = At(CamelCase(snake_name));
  return camel.value_ != nullptr ? camel : snake;
}

Place Place::Find(std::string_view dotted) const {
  Place place = *this;
  while (!dotted.empty()) {
    const size_t end = std::min(dotted.find('.'), dotted.size());
    place = place.Get(dotted.substr(0, end));
    dotted.remove_prefix(std::min(end + 1, dotted.size()));
  }
  return place;
}

std::vector<Place> Place::Children() const {
  std::vector<Place> children;
  if (IsArray()) {
    for (size_t i = 0; i < value_->size(); ++i) {
      children.push_back(Place(&(*value_)[i], fmt::format("{}[{}]", path_, i)));
    }
  } else if (IsObject()) {
    for (const auto& [name, value] : value_->items()) {
      children.push_back(Place(&value, Joined(path_, name)));
    }
  }
  return children;
}

std::string Place::Text() const {
  if (!there() || value_->is_structured()) return "";
  return value_->is_string() ? value_->get<std::string>() : value_->dump();
}

std::string Place::Shown() const {
  constexpr size_t kShownMax = 100;
  if (!there()) return "not set";
  if (value_->is_structured()) {
    return fmt::format("a {} of {}", value_->is_array() ? "list" : "map", value_->size());
  }
  const std::string text = Text();
  return text.size() > kShownMax ? text.substr(0, kShownMax) + "…" : text;
}

std::optional<bool> Place::Bool() const {
  const std::string text = Text();
  const std::string small = absl::AsciiStrToLower(text);
  std::string capital = small;
  if (!capital.empty()) {
    capital[0] = absl::ascii_toupper(static_cast<unsigned char>(capital[0]));
  }
  if (text != small && text != capital && text != absl::AsciiStrToUpper(text)) return std::nullopt;
  if (small == "true" || small == "yes" || small == "on" || small == "y") return true;
  if (small == "false" || small == "no" || small == "off" || small == "n") return false;
  return std::nullopt;
}

std::optional<uint64_t> Place::Number() const {
  const std::string text = Text();
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

std::optional<uint64_t> Place::DurationMs() const {
  static constexpr std::array<Unit, 6> kUnits = {
      {{"ns", 1e-6}, {"us", 1e-3}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}}};
  const std::string owned = Text();
  std::string_view text = owned;
  if (text.empty()) return std::nullopt;
  double ms = 0;
  while (!text.empty()) {
    const std::optional<double> number = TakeNumber(&text);
    if (!number.has_value()) return std::nullopt;
    const Unit* unit = TakeUnit(&text, kUnits.data(), kUnits.size());
    if (unit == nullptr) return std::nullopt;
    ms += *number * unit->factor;
  }
  if (!(ms < kLargest)) return std::nullopt;
  return static_cast<uint64_t>(std::llround(ms));
}

std::optional<uint64_t> Place::Quantity() const {
  static constexpr std::array<Unit, 7> kUnits = {{{"", 1},
                                                  {"k", 1e3},
                                                  {"M", 1e6},
                                                  {"G", 1e9},
                                                  {"Ki", 1024},
                                                  {"Mi", 1048576},
                                                  {"Gi", 1073741824}}};
  const std::string owned = Text();
  std::string_view text = owned;
  const std::optional<double> number = TakeNumber(&text);
  if (!number.has_value()) return std::nullopt;
  const Unit* unit = TakeUnit(&text, kUnits.data(), kUnits.size());
  const double bytes = unit == nullptr ? kLargest : *number * unit->factor;
  if (!text.empty() || !(bytes < kLargest)) return std::nullopt;
  return static_cast<uint64_t>(bytes);
}

std::vector<std::string> Place::Texts() const {
  std::vector<std::string> texts;
  if (!IsArray()) return texts;
  for (const Place& child : Children()) texts.push_back(child.Text());
  return texts;
}

}  // namespace callout::host
