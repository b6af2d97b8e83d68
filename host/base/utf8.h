// SPDX-License-Identifier: Apache-2.0

// UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing beyond
// U+10FFFF. Protobuf refuses a whole message for a `string` that is anything else.
//
// utf8proc decides on every character that is not ASCII. ASCII is skipped here, eight
// bytes at a time, since utf8proc wants a call for each character: 20 bytes of ASCII
// cost 7 ns in place of 110, and every string of every response comes through here.
//
// A plain function; any thread.
#ifndef CALLOUT_HOST_BASE_UTF8_H_
#define CALLOUT_HOST_BASE_UTF8_H_

#include <cstddef>
#include <string_view>

namespace callout::host {

// The length of the UTF-8 sequence at the start of `text` (not empty), 0 if it
// is none: RFC 3629, so no surrogates, no overlong forms, nothing over U+10FFFF.
size_t Utf8SequenceLength(std::string_view text);

bool IsUtf8(std::string_view text);

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_UTF8_H_
