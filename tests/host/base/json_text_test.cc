// SPDX-License-Identifier: Apache-2.0

#include "host/base/json_text.h"

#include <gtest/gtest.h>

#include <string>

namespace callout::host {
namespace {

std::string Nested(int depth) { return std::string(depth, '[') + std::string(depth, ']'); }

TEST(JsonText, IsParsedToItsDepthLimitAndRefusedBeyond) {
  EXPECT_TRUE(ParseJsonText(Nested(kJsonDepthMax)).ok());
  EXPECT_EQ(ParseJsonText(Nested(kJsonDepthMax + 1)).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(JsonText, RefusesAKeyThatIsThereTwice) {
  for (const char* text : {R"({"a": 1, "b": 2, "a": 1})", R"({"x": [1, {"a": {}, "a": 2}]})",
                           R"({"a": 1, "\u0061": 2})"}) {
    const auto parsed = ParseJsonText(text);
    EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_EQ(parsed.status().message(),
              "the key \"a\" is there twice in one object; remove one of them");
  }
  EXPECT_TRUE(ParseJsonText(R"({"a": {"a": [{"a": 1}, {"a": 1}]}, "b": {"a": {}}})").ok());
  const auto parsed = ParseJsonText("{\"\\u001b[2J\": 1, \"\\u001b[2J\": 2}");
  EXPECT_EQ(parsed.status().message(),
            "the key \"\\x1b[2J\" is there twice in one object; remove one of them");
}

TEST(JsonText, RefusesWhatIsNoJson) {
  for (const char* text : {"", "{", "{'a': 1}", "[1,]", "nul", "1 2"}) {
    const auto parsed = ParseJsonText(text);
    EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_FALSE(parsed.status().message().empty()) << text;
  }
}

}  // namespace
}  // namespace callout::host
