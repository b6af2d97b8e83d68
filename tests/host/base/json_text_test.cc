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

TEST(JsonText, RefusesWhatIsNoJson) {
  for (const char* text : {"", "{", "{'a': 1}", "[1,]", "nul", "1 2"}) {
    const auto parsed = ParseJsonText(text);
    EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_FALSE(parsed.status().message().empty()) << text;
  }
}

}  // namespace
}  // namespace callout::host
