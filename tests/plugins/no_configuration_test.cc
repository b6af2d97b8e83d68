// SPDX-License-Identifier: Apache-2.0

// Plugins that have no configuration: whoever gives them one believes that it does something.
#include "sample_host.h"

namespace callout::tests {
namespace {

using ::testing::HasSubstr;

constexpr char kConfig[] = R"({"location": "https://ours.example"})";

TEST(NoConfigurationTest, AClassWithoutKeysRefusesOne) {
  for (const char* plugin : {"add_custom_response", "log_callouts", "observability"}) {
    EXPECT_THAT(RefusalOf(plugin, kConfig),
                HasSubstr("\"location\" is not known; there are no keys"))
        << plugin;
  }
}

TEST(NoConfigurationTest, AnEmptyOneIsNone) {
  for (const char* plugin : {"redirect", "observability"}) {
    SampleHost host(plugin, "{}");
    host.Expect({{"a body", RequestBody("text"), {"request_body"}}});
  }
}

}  // namespace
}  // namespace callout::tests
