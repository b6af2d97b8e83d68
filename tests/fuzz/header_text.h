// SPDX-License-Identifier: Apache-2.0

// What no header that the host lets through may hold.
#ifndef CALLOUT_TESTS_FUZZ_HEADER_TEXT_H_
#define CALLOUT_TESTS_FUZZ_HEADER_TEXT_H_

#include <string_view>

namespace callout::host {

// CR, LF or NUL.
inline bool HasForbiddenByte(std::string_view text) {
  constexpr std::string_view kForbidden("\r\n\0", 3);
  return text.find_first_of(kForbidden) != std::string_view::npos;
}

}  // namespace callout::host

#endif  // CALLOUT_TESTS_FUZZ_HEADER_TEXT_H_
