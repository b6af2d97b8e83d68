// SPDX-License-Identifier: Apache-2.0

#include "host/deploy/yaml_template.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"

namespace callout::host {
namespace {

constexpr std::string_view kOpen = "{{", kClose = "}}";

// The value with its further lines indented by `indent`; "" if there is none.
std::string ValueOf(std::string_view name, const TemplateValues& values, size_t indent) {
  const auto found = values.find(name);
  if (found == values.end()) return "";
  const std::string_view value = found->second;
  const size_t end = value.find_last_not_of('\n');
  if (end == std::string_view::npos) return "";
  const std::string lines(value.substr(0, end + 1));
  return absl::StrReplaceAll(lines, {{"\n", "\n" + std::string(indent, ' ')}});
}

// Nothing if a value is missing.
std::optional<std::string> FillLine(std::string_view line, const TemplateValues& values) {
  const size_t indent = std::min(line.find_first_not_of(' '), line.size());
  std::string filled;
  for (size_t open = line.find(kOpen); open != std::string_view::npos; open = line.find(kOpen)) {
    const size_t close = line.find(kClose, open);
    if (close == std::string_view::npos) break;
    const std::string value = ValueOf(line.substr(open + 2, close - open - 2), values, indent);
    if (value.empty()) return std::nullopt;
    filled += line.substr(0, open);
    filled += value;
    line.remove_prefix(close + 2);
  }
  filled += line;
  return filled;
}

bool IsMarkerAlone(const std::string& line) {
  const absl::string_view text = absl::StripAsciiWhitespace(line);
  return text.substr(0, 2) == "{{" && text.find("}}") == text.size() - 2;
}

bool IsComment(const std::string& line) {
  return absl::StripLeadingAsciiWhitespace(line).substr(0, 1) == "#";
}

}  // namespace

std::string FillTemplate(std::string_view text, const TemplateValues& values) {
  const std::vector<std::string> lines = absl::StrSplit(std::string(text), '\n');
  std::vector<std::string> filled;
  for (const std::string& line : lines) {
    std::optional<std::string> result = FillLine(line, values);
    if (result.has_value()) {
      filled.push_back(*std::move(result));
      continue;
    }
    if (IsMarkerAlone(line)) continue;
    while (!filled.empty() && IsComment(filled.back())) filled.pop_back();
  }
  return absl::StrJoin(filled, "\n");
}

std::string YamlScalar(std::string_view text) {
  const bool plain = !text.empty() && absl::ascii_isalpha(static_cast<unsigned char>(text[0])) &&
                     std::all_of(text.begin(), text.end(), [](char c) {
                       return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' ||
                              c == '_' || c == '-' || c == '/';
                     });
  const std::string lower = absl::AsciiStrToLower(std::string(text));
  constexpr std::string_view kWords[] = {"true", "false", "yes", "no", "on",
                                         "off",  "null",  "y",   "n"};
  const bool word = std::find(std::begin(kWords), std::end(kWords), lower) != std::end(kWords);
  if (plain && !word) return std::string(text);
  std::string quoted = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      quoted += {'\\', c};
    } else if (byte < 0x20 || byte == 0x7f) {
      quoted += fmt::format("\\x{:02x}", byte);
    } else {
      quoted += c;
    }
  }
  return quoted + "\"";
}

}  // namespace callout::host
