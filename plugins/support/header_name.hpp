// SPDX-License-Identifier: Apache-2.0

// Names of headers. Functions keep no state.
#ifndef CALLOUT_PLUGINS_SUPPORT_HEADER_NAME_HPP_
#define CALLOUT_PLUGINS_SUPPORT_HEADER_NAME_HPP_

#include <algorithm>
#include <string>
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

// The same text for all names that a server that reads headers as CGI does takes for one: without
// case, and with "-" for "_".
inline std::string CgiName(std::string_view name) {
  std::string same(name);
  for (char& c : same) c = c == '_' ? '-' : LowerAscii(c);
  return same;
}

}  // namespace callout::plugins

#endif  // CALLOUT_PLUGINS_SUPPORT_HEADER_NAME_HPP_
