// SPDX-License-Identifier: Apache-2.0

#include "host/base/percent.h"

#include <gtest/gtest.h>

namespace callout::host {
namespace {

TEST(Percent, DecodesTwoDigitsOfEitherCase) {
  EXPECT_EQ(PercentDecoded("a%2Fb%2fc%00").value_or(""), std::string("a/b/c\0", 6));
  EXPECT_EQ(PercentDecoded("").value_or("none"), "");
  EXPECT_EQ(PercentDecoded("%ff").value_or(""), "\xff");
}

TEST(Percent, APlusIsABlankInAFormOnly) {
  EXPECT_EQ(FormDecoded("a+b%2B").value_or(""), "a b+");
  EXPECT_EQ(PercentDecoded("a+b%2B").value_or(""), "a+b+");
}

TEST(Percent, APercentSignWithoutTwoDigitsIsNone) {
  for (const char* text : {"%", "a%", "%1", "%g1", "%1g", "%1 ", "% 1", "%0x", "%%20", "%+1"}) {
    EXPECT_FALSE(PercentDecoded(text).has_value()) << text;
    EXPECT_FALSE(FormDecoded(text).has_value()) << text;
  }
}

TEST(FormPairs, HaveKeyAndValueOfEachPart) {
  const std::vector<FormPair> pairs = FormPairs("&a%2Fb=c+d=%25&&only&e=&bad=%zz&%zz=f&");
  ASSERT_EQ(pairs.size(), 5u);
  EXPECT_EQ(pairs[0].text, "a%2Fb=c+d=%25");
  EXPECT_TRUE(pairs[0].has_equals);
  EXPECT_EQ(pairs[0].key, "a/b");
  EXPECT_EQ(pairs[0].value, "c d=%");
  EXPECT_FALSE(pairs[1].has_equals);
  EXPECT_EQ(pairs[1].key, "only");
  EXPECT_EQ(pairs[1].value, "");
  EXPECT_TRUE(pairs[2].has_equals);
  EXPECT_EQ(pairs[2].value, "");
  EXPECT_EQ(pairs[3].key, "bad");
  EXPECT_FALSE(pairs[3].value.has_value());
  EXPECT_FALSE(pairs[4].key.has_value());
  EXPECT_EQ(pairs[4].value, "f");
  EXPECT_TRUE(FormPairs("").empty());
}

TEST(Percent, WhatIsNoEscapeStaysWhereThatIsAskedFor) {
  EXPECT_EQ(LenientlyDecoded("a%2Fb+%zz%"), "a/b+%zz%");
  EXPECT_EQ(LenientlyDecoded("%%41%4%2541%00"), std::string("%A%4%41\0", 8));
  EXPECT_EQ(LenientlyDecoded(""), "");
}

}  // namespace
}  // namespace callout::host
