// SPDX-License-Identifier: Apache-2.0

// docs/recordings.md: its files are written and its commands run, and it names the options that
// there are.
#include <gmock/gmock.h>

#include <regex>
#include <string>

#include "page.h"

namespace callout::tests {
namespace {

using ::testing::HasSubstr;

class RecordingsPage : public Page {
 protected:
  RecordingsPage() : Page("docs/recordings.md") {}
};

TEST_F(RecordingsPage, EveryCommandWorksAsPrinted) {
  ASSERT_GE(Commands().size(), 5u) << "the page's commands were not found";
  RunAll();
}

TEST_F(RecordingsPage, EveryOptionItNamesExists) {
  const std::string help =
      Run("build/host/callout-replay --help").output + Run("build/host/callout-host --help").output;
  const std::regex option(R"(`(--[a-z_]+))");
  size_t count = 0;
  for (std::sregex_iterator it(text_.begin(), text_.end(), option), end; it != end; ++it, ++count) {
    EXPECT_THAT(help, HasSubstr((*it)[1].str()));
  }
  EXPECT_GT(count, 20u);
}

}  // namespace
}  // namespace callout::tests
