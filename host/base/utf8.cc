// SPDX-License-Identifier: Apache-2.0

#include "host/base/utf8.h"

#include <utf8proc.h>

#include <cstdint>
#include <cstring>

namespace callout::host {

size_t Utf8SequenceLength(std::string_view text) {
  utf8proc_int32_t character = 0;
  const utf8proc_ssize_t size =
      utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                       static_cast<utf8proc_ssize_t>(text.size()), &character);
  return size > 0 ? static_cast<size_t>(size) : 0;
}

bool IsUtf8(std::string_view text) {
  constexpr uint64_t kNotAscii = 0x8080808080808080;
  const char* cursor = text.data();
  const char* const end = cursor + text.size();
  while (cursor != end) {
    if (end - cursor >= 8) {
      uint64_t eight = 0;
      std::memcpy(&eight, cursor, sizeof(eight));
      if ((eight & kNotAscii) == 0) {
        cursor += sizeof(eight);
        continue;
      }
    }
    if (static_cast<unsigned char>(*cursor) < 0x80) {
      ++cursor;
      continue;
    }
    utf8proc_int32_t character = 0;
    const utf8proc_ssize_t size = utf8proc_iterate(
        reinterpret_cast<const utf8proc_uint8_t*>(cursor), end - cursor, &character);
    if (size <= 0) return false;
    cursor += size;
  }
  return true;
}

}  // namespace callout::host
