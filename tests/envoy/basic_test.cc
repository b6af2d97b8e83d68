// SPDX-License-Identifier: Apache-2.0

// plugins/basic behind a real Envoy: what the backend receives and what the
// client gets, for headers only, for BUFFERED bodies both ways, and with trailers.
#include <gmock/gmock.h>

#include <memory>
#include <string>

#include "backend.h"
#include "client.h"
#include "envoy_config.h"
#include "envoy_fixture.h"
#include "host_process.h"

namespace callout::tests {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

using nlohmann::json;

// :authority is among what Envoy lets nobody change unless it is told to.
json Basic(const json& processing_mode) {
  return ExtProc(
      {{"processing_mode", processing_mode}, {"mutation_rules", {{"allow_all_routing", true}}}});
}

class BasicTest : public EnvoyFixture {
 protected:
  void SetUp() override {
    EnvoyFixture::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    host_ =
        std::make_unique<HostProcess>(std::vector<std::string>{"--plugin=" + BuiltPlugin("basic")});
    EnvoyConfig config;
    config.backend_port = backend_.port();
    config.hosts["host"] = {host_->port("plaintext")};
    const json buffered = {{"request_body_mode", "BUFFERED"}, {"response_body_mode", "BUFFERED"}};
    json trailers = buffered;
    trailers.update({{"request_trailer_mode", "SEND"}, {"response_trailer_mode", "SEND"}});
    config.listeners.push_back({.name = "headers", .filters = {Basic(json::object())}});
    config.listeners.push_back({.name = "buffered", .filters = {Basic(buffered)}});
    config.listeners.push_back({.name = "trailers", .filters = {Basic(trailers)}});
    // Where the path decides, and the plugin's path has a route of its own.
    config.listeners.push_back({.name = "routes",
                                .filters = {Basic(json::object())},
                                .routes = json::array({DirectResponse("/elsewhere", 204, "")})});
    envoy_.emplace(MakeBootstrap(config));
    backend_.Answer({.headers = {{"from", "backend"}}, .body = {.pieces = {"original"}}});
  }

  void TearDown() override {
    if (!envoy_.has_value()) return;
    for (const char* counter : {".spurious_msgs_received", ".streams_failed",
                                ".rejected_header_mutations", ".failure_mode_allowed"}) {
      for (const auto& [name, value] : envoy_->CountersEndingWith(counter)) {
        EXPECT_EQ(value, 0u) << name;
      }
    }
    EXPECT_EQ(host_->Terminate(), 0);
  }

  HttpMessage Send(const std::string& listener, ClientRequest request) {
    request.target = "/elsewhere?a=b";
    request.headers = {{kTestIdHeader, "1"}, {"foo", "bar"}, {"keep", "this"}};
    return Exchange(envoy_->port(listener), request);
  }

  // What the plugin makes of the headers of every request and every response.
  void ExpectHeaders(const HttpMessage& received, const HttpMessage& response) {
    EXPECT_EQ(received.target, "/");
    EXPECT_EQ(received.Header("host"), "service-extensions.com");
    EXPECT_EQ(received.Header("header-request"), "request");
    EXPECT_EQ(received.Header("foo"), std::nullopt);
    EXPECT_EQ(received.Header("keep"), "this");
    EXPECT_EQ(response.status, 200);
    EXPECT_EQ(response.Header("hello"), "service-extensions");
    EXPECT_EQ(response.Header("from"), "backend");
  }

  Backend backend_;
  std::unique_ptr<HostProcess> host_;
  std::optional<EnvoyProcess> envoy_;
};

TEST_F(BasicTest, ChangesHeadersAndLeavesBodiesThatItIsNotSent) {
  const HttpMessage response =
      Send("headers", {.method = "POST", .body = {.pieces = {"sent"}, .chunked = true}});
  const auto received = backend_.TakeRequest("1");
  ASSERT_TRUE(received.has_value()) << ::testing::PrintToString(response);
  ExpectHeaders(*received, response);
  EXPECT_EQ(received->body, "sent");
  EXPECT_EQ(response.body, "original");
}

TEST_F(BasicTest, ChangesHeadersOfARequestWithoutABody) {
  const HttpMessage response = Send("buffered", {});
  const auto received = backend_.TakeRequest("1");
  ASSERT_TRUE(received.has_value()) << ::testing::PrintToString(response);
  ExpectHeaders(*received, response);
  EXPECT_EQ(received->body, "");
  EXPECT_EQ(received->Header("content-length"), std::nullopt);
}

TEST_F(BasicTest, ReplacesAndClearsBufferedBodies) {
  for (const bool chunked : {false, true}) {
    const HttpMessage response =
        Send("buffered",
             {.method = "POST", .body = {.pieces = {"first ", "second"}, .chunked = chunked}});
    const auto received = backend_.TakeRequest("1");
    ASSERT_TRUE(received.has_value()) << ::testing::PrintToString(response);
    ExpectHeaders(*received, response);
    EXPECT_EQ(received->body, "replaced-body");
    EXPECT_EQ(response.body, "");
    EXPECT_TRUE(response.complete);
    // A length that was announced has to be that of the new body.
    if (!chunked) {
      EXPECT_EQ(received->Header("content-length"), "13");
    }
    EXPECT_EQ(response.Header("content-length"), "0");
  }
}

TEST_F(BasicTest, LeavesTrailersInPlaceBehindChangedBodies) {
  backend_.Answer({.headers = {{"from", "backend"}},
                   .body = {.pieces = {"original"}, .chunked = true, .trailers = {{"t", "r"}}}});
  for (const std::string listener : {"buffered", "trailers"}) {
    const HttpMessage response =
        Send(listener, {.method = "POST",
                        .body = {.pieces = {"a", "b"}, .chunked = true, .trailers = {{"q", "s"}}}});
    const auto received = backend_.TakeRequest("1");
    ASSERT_TRUE(received.has_value()) << ::testing::PrintToString(response);
    ExpectHeaders(*received, response);
    EXPECT_EQ(received->body, "replaced-body");
    EXPECT_THAT(received->trailers, ElementsAre(Pair("q", "s")));
    EXPECT_EQ(response.body, "");
    EXPECT_THAT(response.trailers, ElementsAre(Pair("t", "r")));
  }
}

// The request's own path leads to a local answer, the plugin's to the backend.
TEST_F(BasicTest, ChoosesTheRouteAnew) {
  const HttpMessage response = Send("routes", {});
  EXPECT_EQ(response.status, 200) << ::testing::PrintToString(response);
  EXPECT_TRUE(backend_.TakeRequest("1").has_value());
}

}  // namespace
}  // namespace callout::tests
