// SPDX-License-Identifier: Apache-2.0

// Names of headers. Functions keep no state.
#ifndef CALLOUT_PLUGINS_SUPPORT_HEADER_NAME_HPP_
#define CALLOUT_PLUGINS_SUPPORT_HEADER_NAME_HPP_

#include <algorithm>
#include <string_view>

namespace callout::plugins {

// RFC 9110: the characters of a token, at least one.
inline bool IsHeaderName(std::string_view name) {
  constexpr std::string_view kOthers = "!#$%&'*+-.^_`|~";
  return !name.empty() && std::all_of(name.begin(), name.end(), [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           kOthers.find(c) != std::string_view::npos;
  });
}

inline char LowerAscii(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

// Whether a server that reads headers as CGI does would take one name for the other: without
// case, and "_" as "-".
inline bool IsSameHeader(std::string_view a, std::string_view b) {
  const auto plain = [](char c) { return c == '_' ? '-' : LowerAscii(c); };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [&](char left, char right) { return plain(left) == plain(right); });
}

}  // namespace callout::plugins

#endif  // CALLOUT_PLUGINS_SUPPORT_HEADER_NAME_HPP_
