// SPDX-License-Identifier: Apache-2.0

#include "host/deploy/yaml_template.h"

#include <gtest/gtest.h>

namespace callout::host {
namespace {

TEST(YamlTemplate, PutsValuesWhereTheirNamesStand) {
  EXPECT_EQ(FillTemplate("a: {{x}}, b: {c: {{y}}}\n", {{"x", "1"}, {"y", "2"}}),
            "a: 1, b: {c: 2}\n");
}

TEST(YamlTemplate, IndentsFurtherLinesAsTheFirst) {
  EXPECT_EQ(FillTemplate("a:\n  {{x}}\nb: 1\n", {{"x", "c:\n  d: 1\n"}}),
            "a:\n  c:\n    d: 1\nb: 1\n");
}

TEST(YamlTemplate, LeavesOutALineWithoutItsValueAndTheCommentAboveIt) {
  constexpr char kText[] = "a: 1  # stays\n# why\n# more\nb: {{x}}\nc: {{y}}\n";
  EXPECT_EQ(FillTemplate(kText, {{"x", ""}, {"y", "2"}}), "a: 1  # stays\nc: 2\n");
  EXPECT_EQ(FillTemplate(kText, {{"x", "3"}}), "a: 1  # stays\n# why\n# more\nb: 3\n");
}

TEST(YamlTemplate, KeepsTheCommentAboveAMarkerThatStandsAlone) {
  EXPECT_EQ(FillTemplate("# title\n{{x}}\na: 1\n", {}), "# title\na: 1\n");
}

TEST(YamlTemplate, DoesNotReadAValueAsATemplate) {
  EXPECT_EQ(FillTemplate("a: {{x}}\n", {{"x", "{{x}}"}}), "a: {{x}}\n");
}

TEST(YamlScalar, QuotesWhatCouldBeReadAsAnythingElse) {
  EXPECT_EQ(YamlScalar("source.address"), "source.address");
  EXPECT_EQ(YamlScalar("/run/callout.sock"), "\"/run/callout.sock\"");
  EXPECT_EQ(YamlScalar("no"), "\"no\"");
  EXPECT_EQ(YamlScalar("1.0"), "\"1.0\"");
  EXPECT_EQ(YamlScalar(""), "\"\"");
  EXPECT_EQ(YamlScalar("a: \"b\" # \\ \n\x7f"), "\"a: \\\"b\\\" # \\\\ \\x0a\\x7f\"");
}

}  // namespace
}  // namespace callout::host
