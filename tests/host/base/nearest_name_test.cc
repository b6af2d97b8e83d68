// SPDX-License-Identifier: Apache-2.0

#include "host/base/nearest_name.h"

#include <gtest/gtest.h>

#include <string>

namespace callout::host {
namespace {

TEST(NearestName, IsTheOneThatTheFewestLettersMake) {
  const std::vector<std::string_view> known = {"plugin", "plugins_dir", "log_level", "log_format"};
  EXPECT_EQ(NearestName("plugn", known, 2), "plugin");
  EXPECT_EQ(NearestName("pluginss", known, 2), "plugin");
  EXPECT_EQ(NearestName("plugin_dir", known, 2), "plugins_dir");
  EXPECT_EQ(NearestName("log_lvl", known, 2), "log_level");
  EXPECT_EQ(NearestName("log_fermet", known, 2), "log_format");
}

TEST(NearestName, IsNoneThatIsFartherThanAllowed) {
  EXPECT_EQ(NearestName("abcde", {"abcxy"}, 1), "");
  EXPECT_EQ(NearestName("abcde", {"abcxy"}, 2), "abcxy");
  EXPECT_EQ(NearestName("abc", {}, 9), "");
  EXPECT_EQ(NearestName("", {"ab"}, 1), "");
}

TEST(NearestName, IsTheFirstOfSeveralThatAreEquallyNear) {
  EXPECT_EQ(NearestName("bat", {"cat", "hat", "rat"}, 1), "cat");
}

TEST(NearestName, LooksAtTheBeginningOfALongNameOnly) {
  EXPECT_EQ(NearestName(std::string(1 << 20, 'x'), {"plugin"}, 3), "");
  EXPECT_EQ(NearestName("plugin" + std::string(1 << 20, 'x'), {"plugin"}, 58), "plugin");
}

}  // namespace
}  // namespace callout::host
