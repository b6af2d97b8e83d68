// SPDX-License-Identifier: Apache-2.0

// docs/testing.md: its files are written and its commands run, and it names the options that there
// are.
#include <gmock/gmock.h>

#include <regex>
#include <string>

#include "page.h"

namespace callout::tests {
namespace {

using ::testing::HasSubstr;

class TestingPage : public Page {
 protected:
  TestingPage() : Page("docs/testing.md") {}
};

TEST_F(TestingPage, EveryCommandWorksAsPrinted) {
  ASSERT_GE(Commands().size(), 5u) << "the page's commands were not found";
  RunAll();
}

TEST_F(TestingPage, EveryOptionItNamesExists) {
  const std::string help = Run("build/host/callout-test --help").output;
  const std::regex option(R"((--[a-z_]+))");
  const size_t table = text_.find("| option |");
  const std::string rows = text_.substr(table, text_.find("\n\n", table) - table);
  size_t count = 0;
  for (std::sregex_iterator it(rows.begin(), rows.end(), option), end; it != end; ++it, ++count) {
    EXPECT_THAT(help, HasSubstr((*it)[1].str()));
  }
  EXPECT_GT(count, 8u);
}

}  // namespace
}  // namespace callout::tests
