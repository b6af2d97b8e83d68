// SPDX-License-Identifier: Apache-2.0

// docs/deploy.md: its commands are run.
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

}  // namespace
}  // namespace callout::tests
