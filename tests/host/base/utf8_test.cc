// SPDX-License-Identifier: Apache-2.0

#include "host/base/utf8.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

namespace callout::host {
namespace {

// Unicode's table 3-7, without a library: which sequences of bytes are a character.
std::string Encode(uint32_t character) {
  const auto byte = [](uint32_t value) { return static_cast<char>(value); };
  if (character < 0x80) return {byte(character)};
  if (character < 0x800) return {byte(0xC0 | character >> 6), byte(0x80 | (character & 0x3F))};
  if (character < 0x10000) {
    return {byte(0xE0 | character >> 12), byte(0x80 | (character >> 6 & 0x3F)),
            byte(0x80 | (character & 0x3F))};
  }
  return {byte(0xF0 | character >> 18), byte(0x80 | (character >> 12 & 0x3F)),
          byte(0x80 | (character >> 6 & 0x3F)), byte(0x80 | (character & 0x3F))};
}

TEST(Utf8, TakesEveryCharacterAndNoSurrogate) {
  for (uint32_t character = 0; character <= 0x110100; ++character) {
    const bool is_character = character <= 0x10FFFF && (character < 0xD800 || character > 0xDFFF);
    ASSERT_EQ(IsUtf8(Encode(character)), is_character) << character;
  }
}

TEST(Utf8, TakesTextOfAnyLength) {
  std::string text;
  for (int i = 0; i < 40; ++i) {
    EXPECT_TRUE(IsUtf8(text));
    EXPECT_TRUE(IsUtf8(text + "\u20ac" + text));
    text += 'a';
  }
}

TEST(Utf8, RefusesAByteThatIsWrongWhereverItStands) {
  for (const std::string wrong :
       {"\x80", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xF0\x8F\xBF\xBF", "\xF5\x80\x80\x80",
        "\xFF", "\xE2\x82", "\xC3"}) {
    for (size_t before = 0; before < 20; ++before) {
      const std::string text = std::string(before, 'a') + wrong;
      EXPECT_FALSE(IsUtf8(text)) << before;
      EXPECT_FALSE(IsUtf8(text + std::string(9, 'b'))) << before;
    }
  }
}

}  // namespace
}  // namespace callout::host
