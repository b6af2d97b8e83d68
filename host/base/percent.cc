// SPDX-License-Identifier: Apache-2.0

#include "host/base/percent.h"

#include <algorithm>

namespace callout::host {
namespace {

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::optional<std::string> Decoded(std::string_view text, char blank) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i] == blank ? ' ' : text[i];
      continue;
    }
    if (i + 2 >= text.size()) return std::nullopt;
    const int high = HexDigit(text[i + 1]);
    const int low = HexDigit(text[i + 2]);
    if (high < 0 || low < 0) return std::nullopt;
    decoded += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return decoded;
}

}  // namespace

std::optional<std::string> PercentDecoded(std::string_view text) { return Decoded(text, ' '); }

std::string LenientlyDecoded(std::string_view text) {
  constexpr size_t kEscapeBytes = 3;  // "%2f"
  std::string decoded;
  while (!text.empty()) {
    const std::optional<std::string> character =
        text.front() == '%' ? PercentDecoded(text.substr(0, kEscapeBytes)) : std::nullopt;
    decoded += character.has_value() ? character->front() : text.front();
    text.remove_prefix(character.has_value() ? kEscapeBytes : 1);
  }
  return decoded;
}

std::optional<std::string> FormDecoded(std::string_view text) { return Decoded(text, '+'); }

std::vector<FormPair> FormPairs(std::string_view form) {
  std::vector<FormPair> pairs;
  while (!form.empty()) {
    const std::string_view text = form.substr(0, form.find('&'));
    form.remove_prefix(std::min(text.size() + 1, form.size()));
    if (text.empty()) continue;
    const size_t equals = std::min(text.find('='), text.size());
    const bool has_equals = equals < text.size();
    pairs.push_back({.text = text,
                     .has_equals = has_equals,
                     .key = FormDecoded(text.substr(0, equals)),
                     .value = FormDecoded(text.substr(has_equals ? equals + 1 : equals))});
  }
  return pairs;
}

}  // namespace callout::host
