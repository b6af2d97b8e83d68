// SPDX-License-Identifier: Apache-2.0

// docs/services.md: its commands are run, and print what the page says.
#include <gtest/gtest.h>

#include "page.h"

namespace callout::tests {
namespace {

class Services : public Page {
 protected:
  Services() : Page("docs/services.md") {}
};

TEST_F(Services, EveryCommandWorksAsPrinted) {
  ASSERT_GE(Commands().size(), 3u) << "the page's commands were not found";
  RunAll();
}

}  // namespace
}  // namespace callout::tests
