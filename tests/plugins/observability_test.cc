// SPDX-License-Identifier: Apache-2.0

// plugins/observability.
#include <chrono>

#include "sample_envoy.h"
#include "sample_host.h"

namespace callout::tests {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// A metrics page with these counts.
auto HasCounts(int request_headers, int request_bodies, int response_headers, int response_bodies) {
  const auto line = [](const char* what, int count) {
    return HasSubstr("\nobserved_" + std::string(what) + "_total{plugin=\"observability\"} " +
                     std::to_string(count) + "\n");
  };
  return AllOf(line("request_headers", request_headers), line("request_bodies", request_bodies),
               line("response_headers", response_headers),
               line("response_bodies", response_bodies));
}

TEST(ObservabilityTest, CountsTheFourPhasesAndChangesNothing) {
  SampleHost host("observability");
  EXPECT_THAT(MetricsOf(host.host()), HasCounts(0, 0, 0, 0));
  const auto request = RequestHeaders({{":path", "/"}});
  EXPECT_EQ(host.Ask({request}), (Lines{"request_headers"}));
  EXPECT_THAT(MetricsOf(host.host()), HasCounts(1, 0, 0, 0));
  EXPECT_EQ(host.Ask({request, RequestBody("text")}), (Lines{"request_body"}));
  EXPECT_THAT(MetricsOf(host.host()), HasCounts(2, 1, 0, 0));
  EXPECT_EQ(host.Ask({ResponseHeaders({{":status", "200"}})}), (Lines{"response_headers"}));
  EXPECT_THAT(MetricsOf(host.host()), HasCounts(2, 1, 1, 0));
  EXPECT_EQ(host.Ask({ResponseBody("text")}), (Lines{"response_body"}));
  EXPECT_THAT(MetricsOf(host.host()), HasCounts(2, 1, 1, 1));
  EXPECT_EQ(host.Ask({RequestTrailers({{"t", "r"}})}), (Lines{"request_trailers"}));
  EXPECT_THAT(MetricsOf(host.host()), HasCounts(2, 1, 1, 1));
}

TEST(ObservabilityTest, DoesNotCountAnEmptyEndOfABody) {
  SampleHost host("observability");
  host.Ask({RequestBody("")});
  host.Ask({ResponseBody("")});
  EXPECT_THAT(MetricsOf(host.host()), HasCounts(0, 0, 0, 0));
  host.Ask({RequestBody("one", false), RequestBody("", false), RequestBody("two", false),
            RequestBody("")});
  host.Ask({ResponseBody("", false), ResponseBody("")});
  EXPECT_THAT(MetricsOf(host.host()), HasCounts(0, 3, 0, 1));
}

class ObservabilityEnvoyTest : public SampleEnvoy {
 protected:
  std::string Metrics() {
    return Exchange(host().port("admin"),
                    {.target = "/metrics", .headers = {{"host", "127.0.0.1"}}})
        .body;
  }
};

TEST_F(ObservabilityEnvoyTest, CountsWhatPassesUnchanged) {
  Start("observability", BufferedBodies());
  backend().Answer({.body = {.pieces = {"original"}}});
  EXPECT_EQ(Send({.method = "POST", .body = {.pieces = {"text"}}}).body, "original");
  EXPECT_EQ(Received().body, "text");
  Send({});
  EXPECT_THAT(Metrics(), HasCounts(2, 1, 2, 2));
}

TEST_F(ObservabilityEnvoyTest, CountsWhereEnvoyDoesNotWait) {
  Start("observability",
        {{"observability_mode", true},
         {"deferred_close_timeout", "0.1s"},
         {"processing_mode",
          {{"request_body_mode", "STREAMED"}, {"response_body_mode", "STREAMED"}}}});
  backend().Answer({.body = {.pieces = {"original"}}});
  EXPECT_EQ(Send({.method = "POST", .body = {.pieces = {"text"}}}).body, "original");
  EXPECT_EQ(Received().body, "text");
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (!::testing::Value(Metrics(), HasCounts(1, 1, 1, 1))) {
    ASSERT_LT(std::chrono::steady_clock::now(), give_up) << Metrics();
  }
}

}  // namespace
}  // namespace callout::tests
