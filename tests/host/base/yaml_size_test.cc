// SPDX-License-Identifier: Apache-2.0

#include "host/base/yaml_size.h"

#include <yaml-cpp/yaml.h>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>

namespace callout::host {
namespace {

std::string Found(const std::string& text, const YamlLimits& limits = {}) {
  const auto finding = FindYamlOverLimit(text, limits);
  return finding.has_value() ? fmt::format("{}: {}", finding->line, finding->what) : "";
}

std::string Over(int line, const std::string& limit) {
  return fmt::format(
      "{}: more than {}, the limit, counting what aliases (*NAME) repeat; split the file, or "
      "repeat "
      "less",
      line, limit);
}

// Nine lines of nine aliases each: 9^9 values.
std::string Laughs() {
  std::string text = "l0: &l0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n";
  for (int i = 1; i <= 9; ++i) {
    text += fmt::format(
        "l{0}: &l{0} [*l{1}, *l{1}, *l{1}, *l{1}, *l{1}, *l{1}, *l{1}, *l{1}, *l{1}]\n", i, i - 1);
  }
  return text;
}

TEST(YamlSize, OfAnOrdinaryTextIsNoFinding) {
  EXPECT_EQ(Found("a: &a {b: c}\nd: [*a, *a]\n"), "");
  EXPECT_EQ(Found(""), "");
  EXPECT_EQ(Found("--- 1\n--- 2\n"), "");
}

TEST(YamlSize, OfLaughsIsFoundWhereItGoesOver) {
  // Up to line 6 there are 9^6 and less, about 600,000.
  EXPECT_EQ(Found(Laughs()), Over(7, "2000000 values"));
}

TEST(YamlSize, OfALongTextThatIsRepeatedIsFound) {
  std::string text = "a: &a '" + std::string(1 << 20, 'x') + "'\nb: [";
  for (int i = 0; i < 100; ++i) text += "*a, ";
  EXPECT_EQ(Found(text + "]\n"), Over(2, "67108864 bytes"));
}

TEST(YamlSize, IsAtItsLimitNoFinding) {
  // The map, two keys, the list, and three scalars in it; then the alias of four values.
  const std::string text = "a: &a [x, yy, zzz]\nb: *a\n";
  EXPECT_EQ(Found(text, {.values_max = 11, .bytes_max = 14}), "");
  EXPECT_EQ(Found(text, {.values_max = 10, .bytes_max = 14}), Over(2, "10 values"));
  EXPECT_EQ(Found(text, {.values_max = 11, .bytes_max = 13}), Over(2, "13 bytes"));
}

TEST(YamlSize, CountsAllDocuments) {
  EXPECT_EQ(Found("---\n[1, 2]\n---\n[3, 4]\n", {.values_max = 5}), Over(4, "5 values"));
  EXPECT_EQ(Found("--- &a [1]\n--- *a\n"), "") << "an anchor ends with its document: not YAML";
}

// yaml-cpp 0.7 finds empty documents for ever in some of these, and YAML::LoadAll keeps them all.
TEST(YamlSize, OfManyDocumentsIsFound) {
  EXPECT_EQ(Found("---\n---\n---\n", {.documents_max = 3}), "");
  EXPECT_EQ(Found("---\n---\n---\n", {.documents_max = 2}),
            "3: more than 2 documents, the limit; is there a ] or } that nothing opens?");
}

TEST(YamlSize, OfATextWithoutEndIsFound) {
  for (const char* text : {"]", "---\n]\n", "a\n---\n}", ", ", "--- --- ]", "%\n---\n]", "?\n]"}) {
    if (Found(text) != "") continue;
    try {
      YAML::LoadAll(text);  // comes to an end
    } catch (const YAML::Exception&) {
    }
  }
}

TEST(YamlSize, OfAnAliasWithinItselfIsFound) {
  EXPECT_EQ(Found("a: &a\n  b: *a\n"),
            "2: an alias (*NAME) stands within what it repeats, which would have no end");
}

TEST(YamlSize, OfWhatIsNotYamlIsFoundUpToThere) {
  EXPECT_EQ(Found("a: [1, 2"), "");
  EXPECT_EQ(Found("a: [1, 2, 3, 4, 5", {.values_max = 4}), Over(1, "4 values"));
}

}  // namespace
}  // namespace callout::host
