// SPDX-License-Identifier: Apache-2.0

#include "host/base/ascii.h"

#include <gtest/gtest.h>

namespace callout::host {
namespace {

TEST(Ascii, ComparesLettersWithoutCaseAndNothingElse) {
  EXPECT_TRUE(EqualsIgnoreCase("Content-Length", "content-lENGTH"));
  EXPECT_TRUE(EqualsIgnoreCase("", ""));
  EXPECT_FALSE(EqualsIgnoreCase("content-length", "content-lengt"));
  EXPECT_FALSE(EqualsIgnoreCase("a[", "a{"));      // 32 apart, as letters of two cases are
  EXPECT_FALSE(EqualsIgnoreCase("\xC4", "\xE4"));  // likewise, in Latin-1
  EXPECT_FALSE(EqualsIgnoreCase("a", std::string_view("a\0", 2)));
}

TEST(Ascii, LowersLettersOnly) {
  for (int i = 0; i < 256; ++i) {
    const char c = static_cast<char>(i);
    const char lower = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    EXPECT_EQ(ToLowerAscii(c), lower) << i;
    EXPECT_EQ(ToLowerAscii(std::string_view(&c, 1)), std::string(1, lower)) << i;
  }
}

}  // namespace
}  // namespace callout::host
