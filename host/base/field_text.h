// SPDX-License-Identifier: Apache-2.0

// What names and values of HTTP headers may consist of (RFC 9110), for headers that the host sends
// itself. host/stream/guard checks those that plugins set for Envoy.
//
// Plain functions; any thread.
//
// Tested by tests/host/upstream/request_rules_test.cc.
#ifndef CALLOUT_HOST_BASE_FIELD_TEXT_H_
#define CALLOUT_HOST_BASE_FIELD_TEXT_H_

#include <algorithm>
#include <string_view>

#include "absl/strings/ascii.h"

namespace callout::host {

// Whether it is a token, as names and methods are.
inline bool IsToken(std::string_view text) {
  constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~";
  return !text.empty() && std::all_of(text.begin(), text.end(), [&](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || kMarks.find(c) != kMarks.npos;
  });
}

// Whether no byte of it is a control character other than a tab: no line break ends a header early.
inline bool IsFieldText(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    return c == '\t' || (static_cast<unsigned char>(c) >= 0x20 && c != 0x7f);
  });
}

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_FIELD_TEXT_H_
