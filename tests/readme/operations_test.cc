// SPDX-License-Identifier: Apache-2.0

// docs/operations.md, docs/options.md and UPGRADING.md: their commands are run, and
// the options they list are those of the host.
#include <gmock/gmock.h>

#include <map>
#include <regex>
#include <string>

#include "page.h"

namespace callout::tests {
namespace {

using ::testing::HasSubstr;

// Option to default, as `pattern` finds them: its groups are name, default, or name
// and nothing.
std::map<std::string, std::string> Defaults(const std::string& text, const std::string& pattern) {
  std::map<std::string, std::string> defaults;
  const std::regex regex(pattern);
  for (std::sregex_iterator it(text.begin(), text.end(), regex), end; it != end; ++it) {
    EXPECT_TRUE(defaults.emplace((*it)[1], (*it)[2]).second) << (*it)[1] << " is listed twice";
  }
  return defaults;
}

class Operations : public Page {
 protected:
  Operations() : Page("docs/operations.md") {}
};

TEST_F(Operations, EveryCommandWorksAsPrinted) {
  ASSERT_GE(Commands().size(), 4u) << "the page's commands were not found";
  RunAll();
}

TEST_F(Operations, EveryOptionIsOneOfThePrograms) {
  std::string help = RunHost({"--help"}).output;
  help += Run("build/host/callout-client --help").output;
  const std::regex option("`--([a-z_]+)");
  size_t count = 0;
  for (std::sregex_iterator it(text_.begin(), text_.end(), option), end; it != end; ++it, ++count) {
    EXPECT_TRUE(std::regex_search(help, std::regex("\n  --" + (*it)[1].str() + "\\s"))) << (*it)[1];
  }
  EXPECT_GE(count, 20u);
}

class Options : public Page {
 protected:
  Options() : Page("docs/options.md") {}
};

TEST_F(Options, EveryCommandWorksAsPrinted) { RunAll(); }

// A default in --help is one word, or a percentage and what it is of, which two blanks
// or the line's end follow.
TEST_F(Options, AreThoseOfHelpWithTheirDefaults) {
  const auto printed =
      Defaults(RunHost({"--help"}).output,
               R"(\n  --([a-z_]+))"
               R"((?: (?:\[NAME=\]PATH|NAME=\S+|[^\s=]+(?:=(\d+ % .+?(?=  |\n)|\S+))?))?(?= |\n))");
  const auto listed = Defaults(text_, R"(\n\| `--([a-z_]+)(?:=[^`]*)?` \| (?:`([^`]*)`)? ?\| \S)");
  EXPECT_GE(printed.size(), 45u);
  EXPECT_EQ(listed, printed) << "scripts/options_page.py brings docs/options.md up to date";
}

class Upgrading : public Page {
 protected:
  Upgrading() : Page("UPGRADING.md") {}
};

TEST_F(Upgrading, EveryOldNameOfAnOptionStillWorks) {
  const auto renamed = Defaults(text_, R"(\n\| `--([a-z_]+)` \| `--([a-z_]+)` \|)");
  EXPECT_GE(renamed.size(), 6u);
  for (const auto& [old_name, name] : renamed) {
    EXPECT_THAT(RunHost({"--" + old_name + "="}).output, HasSubstr("--" + name + "=: no value"));
  }
}

}  // namespace
}  // namespace callout::tests
