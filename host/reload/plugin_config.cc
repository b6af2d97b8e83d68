// SPDX-License-Identifier: Apache-2.0

#include "host/reload/plugin_config.h"

#include <fmt/format.h>

#include <algorithm>

#include "absl/strings/ascii.h"

namespace callout::host {
namespace {

constexpr size_t kNameBytesMax = 128;

bool IsName(std::string_view text) {
  return !text.empty() && text.size() <= kNameBytesMax && text[0] != '-' && text[0] != '.' &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-' ||
                  c == '.';
         });
}

}  // namespace

absl::Status CheckPluginName(std::string_view name) {
  if (IsName(name)) return absl::OkStatus();
  return absl::InvalidArgumentError(fmt::format(
      "'{}' is not a valid plugin name; expected up to {} letters, digits, '_', '-' and '.', "
      "the last two not first",
      name.substr(0, kNameBytesMax), kNameBytesMax));
}

}  // namespace callout::host
