// SPDX-License-Identifier: Apache-2.0

// ASCII letters without regard to case, as in header names. These are Abseil's functions for
// std::string_view: Debian builds Abseil for C++14, where absl::string_view is another type.
//
// Plain functions; any thread.
#ifndef CALLOUT_HOST_BASE_ASCII_H_
#define CALLOUT_HOST_BASE_ASCII_H_

#include <string>
#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"

namespace callout::host {

// Names are nearly always in lower case already.
inline bool EqualsIgnoreCase(std::string_view a, std::string_view b) {
  return a.size() == b.size() &&
         (a == b || absl::EqualsIgnoreCase({a.data(), a.size()}, {b.data(), b.size()}));
}

inline char ToLowerAscii(char c) { return absl::ascii_tolower(static_cast<unsigned char>(c)); }

inline std::string ToLowerAscii(std::string_view text) {
  return absl::AsciiStrToLower({text.data(), text.size()});
}

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_ASCII_H_
