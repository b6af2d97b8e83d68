// SPDX-License-Identifier: Apache-2.0

// Checks UTF-8 as of RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF. Protobuf
// refuses a whole message if one `string` is anything else.
//
// utf8proc decides about every character that is not ASCII. It needs a call for each character, so
// ASCII is skipped here, eight bytes at a time: 20 bytes of ASCII take 7 ns instead of 110, and
// every string of every response is checked.
//
// A plain function; any thread.
#ifndef CALLOUT_HOST_BASE_UTF8_H_
#define CALLOUT_HOST_BASE_UTF8_H_

#include <cstddef>
#include <string_view>

namespace callout::host {

// The length in bytes of the first character of `text`, which is not empty; 0 if it is not UTF-8.
size_t Utf8SequenceLength(std::string_view text);

bool IsUtf8(std::string_view text);

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_UTF8_H_
