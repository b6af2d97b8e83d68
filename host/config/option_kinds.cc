// SPDX-License-Identifier: Apache-2.0

#include "host/config/option_kinds.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

namespace callout::host {

absl::Status Expected(std::string_view what) {
  return absl::InvalidArgumentError(fmt::format("expected {}", what));
}

bool ParseNumber(std::string_view text, uint64_t min, uint64_t max, uint64_t* value) {
  // SimpleAtoi would take " 1" and "+1" as well.
  return text.find_first_not_of("0123456789") == std::string_view::npos &&
         absl::SimpleAtoi({text.data(), text.size()}, value) && *value >= min && *value <= max;
}

OptionSet::Option TextOption(const char* name, const char* group, const char* value,
                             std::string* target, const char* help) {
  return {.name = name,
          .group = group,
          .value = value,
          .default_text = "",
          .help = help,
          .set = [target](const std::string& text) {
            *target = text;
            return absl::OkStatus();
          }};
}

OptionSet::Option ChoiceOption(const char* name, const char* group, const char* value,
                               const std::vector<std::string>& choices, size_t index,
                               const std::function<void(size_t)>& set, const char* help) {
  return {.name = name,
          .group = group,
          .value = value,
          .default_text = choices[index],
          .help = help,
          .set = [=](const std::string& text) {
            for (size_t i = 0; i < choices.size(); ++i) {
              if (text != choices[i]) continue;
              set(i);
              return absl::OkStatus();
            }
            return Expected(fmt::format("{}", fmt::join(choices, ", ")));
          }};
}

OptionSet::Option Switch(const char* name, const char* group, bool* target, const char* help) {
  return {.name = name,
          .group = group,
          .value = "",
          .default_text = "",
          .help = help,
          .set = [target](const std::string& text) {
            return absl::SimpleAtob(text, target) ? absl::OkStatus() : Expected("true or false");
          }};
}

absl::Status SetHeaderPatterns(const std::string& text, std::vector<std::string>* names) {
  names->clear();
  if (text == "none") return absl::OkStatus();
  const std::vector<std::string> parts = absl::StrSplit(text, ',');
  for (const std::string& part : parts) {
    const absl::string_view name = absl::StripAsciiWhitespace(part);
    const bool legal = !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
      return absl::ascii_isgraph(static_cast<unsigned char>(c));
    });
    if (!legal) {
      return Expected("header names separated by commas, such as authorization,cookie, or none");
    }
    names->push_back(absl::AsciiStrToLower(name));
  }
  return absl::OkStatus();
}

OptionSet::Option Renamed(const char* old_name, OptionSet::Option option) {
  option.aliases.emplace_back(old_name);
  return option;
}

}  // namespace callout::host
