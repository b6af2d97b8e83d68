// SPDX-License-Identifier: Apache-2.0

// plugins/client_limit in a real host. What time does to it is in
// tests/plugin_api/extensions_test.cc.
#include <callout/plugin.h>

#include <chrono>
#include <fstream>
#include <string>
#include <thread>

#include "sample_host.h"

namespace callout::tests {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const Lines kPasses = {"request_headers"};
const Lines kRefused = {"immediate 429", "set retry-after: 60", "details callout_client_limit"};

ext_proc::ProcessingRequest From(const std::string& client) {
  return RequestHeaders({{":path", "/"}, {"x-client", client}}, true);
}

TEST(ClientLimitTest, RefusesTheRequestsOfAClientOverTheLimit) {
  SampleHost host("client_limit", R"({"header": "x-client", "limit": 2})");
  const auto nameless = RequestHeaders({{":path", "/"}}, true);
  host.Expect({
      {"the first", From("ada"), kPasses},
      {"the second", From("ada"), kPasses},
      {"the third", From("ada"), kRefused},
      {"another client", From("bob"), kPasses},
      {"no name", nameless, kPasses},
      {"no name", From(""), kPasses},
      {"no name", nameless, kRefused},
      {"a long name",
       From(std::string(257, 'x')),
       {"immediate 400", "details callout_client_limit"}},
  });
  EXPECT_THAT(MetricsOf(host.host()),
              HasSubstr("client_limit_refused_total{plugin=\"client_limit\"} 2\n"));
}

TEST(ClientLimitTest, InstancesCountApart) {
  const std::string file = BuiltPlugin("client_limit");
  SampleHost host(
      "client_limit", R"({"header": "x-client", "limit": 2})",
      {"--plugin=later=" + file, R"(--plugin_config=later={"header": "x-client", "limit": 3})"});
  for (int i = 0; i < 2; ++i) EXPECT_EQ(host.Ask({From("ada")}), kPasses) << i;
  EXPECT_EQ(host.Ask({From("ada")}), kRefused) << "by the first, not by the second before it";
}

TEST(ClientLimitTest, ReadsTheListOfExemptClientsAnewInTheBackground) {
  const host::TempDir directory;
  const std::string path = directory.Path("exempt");
  std::ofstream(path) << "# nobody\n";
  SampleHost host("client_limit", R"({"header": "x-client", "limit": 0, "refresh_seconds": 1,
                                    "exempt_file": ")" +
                                      path + "\"}");
  EXPECT_EQ(host.Ask({From("ada")}), kRefused);
  std::ofstream(path) << "ada \r\n";
  while (host.Ask({From("ada")}) == kRefused) std::this_thread::yield();
  EXPECT_EQ(host.Ask({From("bob")}), kRefused);
}

TEST(ClientLimitTest, FailsTheRequestIfThereIsNoRoomForACount) {
  SampleHost host("client_limit", R"({"header": "x-client", "limit": 2})",
                  {"--max_shared_data_keys=1"});
  EXPECT_EQ(host.Ask({From("ada")}), kPasses);
  EXPECT_THAT(host.Ask({From("bob")}),
              ElementsAre("status 13: there is no room for the count of a client"));
  EXPECT_EQ(host.Ask({From("ada")}), kPasses);
  const std::string metrics = MetricsOf(host.host());
  EXPECT_THAT(metrics, HasSubstr("callout_shared_data_refused_total{plugin=\"client_limit\"} 1\n"));
  EXPECT_THAT(metrics, HasSubstr("callout_shared_data_keys 1\n"));
}

TEST(ClientLimitTest, RefusesAConfigurationThatItCannotUse) {
  EXPECT_THAT(RefusalOf("client_limit", R"({"header": "x-client"})"), HasSubstr("\"limit\""));
  for (const char* header : {"", "x client", "x-client:"}) {
    EXPECT_THAT(
        RefusalOf("client_limit", std::string(R"({"limit": 1, "header": ")") + header + "\"}"),
        HasSubstr("\"header\" must be the name of a header"));
  }
  EXPECT_THAT(
      RefusalOf("client_limit", R"({"header": "a", "limit": 1, "exempt_file": "/nowhere/exempt"})"),
      HasSubstr("\"exempt_file\": /nowhere/exempt: it cannot be read"));
}

}  // namespace
}  // namespace callout::tests
