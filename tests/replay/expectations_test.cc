// SPDX-License-Identifier: Apache-2.0

#include "host/replay/expectations.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace callout::host {
namespace {

using ::testing::HasSubstr;

Expectations Parsed(const std::string& text) {
  const auto expectations = ParseExpectations(text);
  EXPECT_TRUE(expectations.ok()) << expectations.status();
  return expectations.value_or(Expectations());
}

TEST(Expectations, AllowNothingByDefault) {
  const Difference difference{DifferenceKind::kHeader, "request x-a", "1", "2"};
  EXPECT_FALSE(Expectations().Allow(difference));
  EXPECT_FALSE(Parsed(R"({"allow": []})").Allow(difference));
}

TEST(Expectations, AllowWhatEveryMemberOfAnEntryFits) {
  const Expectations expectations =
      Parsed(R"({"allow": [{"kind": "header", "what": "request x-*", "after": "2*b*"}]})");
  EXPECT_TRUE(expectations.Allow({DifferenceKind::kHeader, "request x-a", "1", "2abc"}));
  EXPECT_TRUE(expectations.Allow({DifferenceKind::kHeader, "request x-", "1", "2b"}));
  EXPECT_FALSE(expectations.Allow({DifferenceKind::kTrailers, "request x-a", "1", "2b"}));
  EXPECT_FALSE(expectations.Allow({DifferenceKind::kHeader, "response x-a", "1", "2b"}));
  EXPECT_FALSE(expectations.Allow({DifferenceKind::kHeader, "request x-a", "1", "2a"}));
}

TEST(Expectations, TakeAStarForAnyText) {
  const std::pair<const char*, bool> patterns[] = {
      {"*", true},       {"abcabd", true},   {"*abd", true},     {"ab*abd", true},
      {"a*b*d", true},   {"abc", false},     {"*abc", false},    {"b*", false},
      {"abcabd*", true}, {"**a**d**", true}, {"abcabdx", false}, {"", false}};
  for (const auto& [pattern, fits] : patterns) {
    const Expectations one = Parsed(std::string(R"({"allow": [{"what": ")") + pattern + R"("}]})");
    EXPECT_EQ(one.Allow({DifferenceKind::kBody, "abcabd", "", ""}), fits) << pattern;
  }
}

TEST(Expectations, SayWhatIsWrongWithTheirFile) {
  const std::pair<const char*, const char*> texts[] = {
      {"[]", "no object with the one member allow"},
      {R"({"allowed": []})", "no object with the one member allow"},
      {R"({"allow": [{}]})", "an entry of allow is no object, or empty"},
      {R"({"allow": [{"knd": "header"}]})", "\"knd\" is no member"},
      {R"({"allow": [{"kind": 5}]})", "\"kind\" is no member of an entry, or no text"},
      {R"({"allow": [{"kind": "headers"}]})", "\"headers\" is no kind"},
  };
  for (const auto& [text, why] : texts) {
    const auto expectations = ParseExpectations(text);
    EXPECT_EQ(expectations.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(expectations.status().message()), HasSubstr(why));
  }
  EXPECT_FALSE(ParseExpectations("{").ok());
  const auto missing = ReadExpectations("/nowhere/expect.json");
  EXPECT_THAT(std::string(missing.status().message()), HasSubstr("/nowhere/expect.json: cannot"));
}

}  // namespace
}  // namespace callout::host
