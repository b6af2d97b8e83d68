// SPDX-License-Identifier: Apache-2.0

// The harness itself: traffic through an Envoy without any ext_proc filter
// arrives as it was sent, so that what other tests see is the host's doing.
#include <gmock/gmock.h>

#include "backend.h"
#include "client.h"
#include "envoy_config.h"
#include "envoy_fixture.h"

namespace callout::tests {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

class HarnessTest : public EnvoyFixture {
 protected:
  void SetUp() override {
    EnvoyFixture::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    EnvoyConfig config;
    config.backend_port = backend_.port();
    config.listeners.push_back({.name = "plain", .filters = {}});
    envoy_.emplace(MakeBootstrap(config));
  }

  Backend backend_;
  std::optional<EnvoyProcess> envoy_;
};

TEST_F(HarnessTest, KeepsOrderAndDuplicatesOfHeaders) {
  backend_.Answer({.status = 201, .headers = {{"b", "1"}, {"a", "2"}, {"b", "3"}}});
  const HttpMessage response = Exchange(
      envoy_->port("plain"),
      {.target = "/x?y", .headers = {{kTestIdHeader, "1"}, {"d", "1"}, {"c", "2"}, {"d", "3"}}});
  EXPECT_EQ(response.status, 201) << ::testing::PrintToString(response);
  EXPECT_THAT(ValuesOf(response.headers, "B"), ElementsAre("1", "3"));
  const auto request = backend_.TakeRequest("1");
  ASSERT_TRUE(request.has_value());
  EXPECT_EQ(request->method, "GET");
  EXPECT_EQ(request->target, "/x?y");
  EXPECT_THAT(ValuesOf(request->headers, "d"), ElementsAre("1", "3"));
  EXPECT_EQ(request->Header("d"), "1,3");
  EXPECT_EQ(request->Header("absent"), std::nullopt);
}

TEST_F(HarnessTest, CarriesChunksAndTrailersBothWays) {
  backend_.Answer({.body = {.pieces = {"one", "two"}, .chunked = true, .trailers = {{"t", "r"}}}});
  const ClientRequest request = {
      .method = "POST",
      .headers = {{kTestIdHeader, "1"}},
      .body = {.pieces = {"three", "four"},
               .chunked = true,
               .trailers = {{"q", "s"}},
               // The second piece leaves only when Envoy has the first one.
               .may_send = [&](size_t bytes_sent) {
                 return envoy_->Counter("http.plain.downstream_cx_rx_bytes_total") >= bytes_sent;
               }}};
  const HttpMessage response = Exchange(envoy_->port("plain"), request);
  EXPECT_TRUE(response.complete) << ::testing::PrintToString(response);
  EXPECT_EQ(response.body, "onetwo");
  EXPECT_THAT(response.trailers, ElementsAre(Pair("t", "r")));
  const auto received = backend_.TakeRequest("1");
  ASSERT_TRUE(received.has_value());
  EXPECT_EQ(received->body, "threefour");
  EXPECT_THAT(received->trailers, ElementsAre(Pair("q", "s")));
}

TEST_F(HarnessTest, CarriesLargeBodiesBothWays) {
  const std::string large(10 << 20, 'x');
  backend_.Answer({.body = {.pieces = {large}}});
  const HttpMessage response =
      Exchange(envoy_->port("plain"),
               {.method = "POST", .headers = {{kTestIdHeader, "1"}}, .body = {.pieces = {large}}});
  EXPECT_EQ(response.status, 200);
  EXPECT_TRUE(response.body == large) << response.body.size();
  const auto received = backend_.TakeRequest("1");
  ASSERT_TRUE(received.has_value());
  EXPECT_TRUE(received->body == large) << received->body.size();
}

TEST_F(HarnessTest, ReadsAnAnswerThatComesBeforeTheEndOfTheRequest) {
  backend_.Answer({.status = 403, .body = {.pieces = {"no"}}, .at_headers = true});
  const HttpMessage response = Exchange(
      envoy_->port("plain"),
      {.method = "POST", .body = {.pieces = {"a", std::string(10 << 20, 'x')}, .chunked = true}});
  EXPECT_EQ(response.status, 403);
  EXPECT_EQ(response.body, "no");
}

TEST_F(HarnessTest, CountsAndAnswersDirectly) {
  EXPECT_EQ(envoy_->Counter("http.plain.downstream_rq_total"), 0u);
  EXPECT_EQ(Exchange(envoy_->port("plain"), {}).status, 200);
  EXPECT_EQ(envoy_->Counter("http.plain.downstream_rq_total"), 1u);
  EXPECT_EQ(envoy_->Counter("http.plain.no_such_counter"), 0u);
}

}  // namespace
}  // namespace callout::tests
