// SPDX-License-Identifier: Apache-2.0

// docs/deploy.md: its commands are run, and its links lead somewhere.
#include <gtest/gtest.h>

#include "page.h"

namespace callout::tests {
namespace {

class Deploy : public Page {
 protected:
  Deploy() : Page("docs/deploy.md") {}
};

TEST_F(Deploy, EveryCommandWorksAsPrinted) {
  ASSERT_GE(Commands().size(), 3u) << "the page's commands were not found";
  RunAll();
}

TEST_F(Deploy, EveryLinkLeadsSomewhere) { EXPECT_GT(ExpectLinksLead(), 8u); }

}  // namespace
}  // namespace callout::tests
