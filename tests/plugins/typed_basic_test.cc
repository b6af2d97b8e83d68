// SPDX-License-Identifier: Apache-2.0

// plugins/typed_basic, which does what plugins/basic does: one table for both.
#include "sample_envoy.h"
#include "sample_host.h"

namespace callout::tests {
namespace {

class BasicsTest : public ::testing::TestWithParam<const char*> {};

TEST_P(BasicsTest, ChangesABitOfEverything) {
  SampleHost host(GetParam());
  const Lines request = {"request_headers", "set :authority: service-extensions.com",
                         "set :path: /",    "set header-request: request",
                         "remove foo",      "clear route cache"};
  const Lines response = {"response_headers", "set hello: service-extensions"};
  const Lines replaced = {"request_body", "body \"replaced-body\""};
  const Lines cleared = {"response_body", "clear body"};
  host.Expect({
      {"a request", RequestHeaders({{":path", "/a"}, {"foo", "1"}}), request},
      {"one without headers or body", RequestHeaders({}, true), request},
      {"a response", ResponseHeaders({{":status", "200"}}), response},
      {"one without a body", ResponseHeaders({}, true), response},
      {"a request's body", RequestBody("text"), replaced},
      {"an empty one", RequestBody(""), replaced},
      {"a piece of one", RequestBody("text", false), replaced},
      {"a response's body", ResponseBody("text"), cleared},
      {"an empty one", ResponseBody(""), cleared},
  });
}

TEST_P(BasicsTest, LetsTrailersPass) {
  SampleHost host(GetParam());
  ext_proc::ProcessingRequest request;
  request.mutable_request_trailers();
  ext_proc::ProcessingRequest response;
  response.mutable_response_trailers();
  EXPECT_EQ(host.Ask({request}), Lines{"request_trailers"});
  EXPECT_EQ(host.Ask({response}), Lines{"response_trailers"});
}

INSTANTIATE_TEST_SUITE_P(, BasicsTest, ::testing::Values("basic", "typed_basic"),
                         [](const auto& info) { return std::string(info.param); });

TEST(TypedBasicTest, AMalformedMessageIsAnError) {
  TestHost host({"--plugin=" + BuiltPlugin("typed_basic")});
  // ProcessingRequest.request_headers.headers is no HeaderMap.
  const RawOutcome outcome = CallRaw(PlaintextChannel(host.address("plaintext")), kProcessMethod,
                                     std::string("\x12\x03\x0a\x01\xff", 5));
  EXPECT_EQ(outcome.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(outcome.status.error_message(), "the message of this call cannot be parsed");
  EXPECT_TRUE(outcome.answers.empty());
  EXPECT_EQ(host.Terminate(), 0);
}

class BasicsEnvoyTest : public SampleEnvoy, public ::testing::WithParamInterface<const char*> {};

TEST_P(BasicsEnvoyTest, ChangesWhatClientAndBackendSee) {
  nlohmann::json filter = BufferedBodies();
  filter["mutation_rules"] = {{"allow_all_routing", true}};
  Start(GetParam(), filter);
  backend().Answer({.status = 200, .body = {.pieces = {"secret"}}});
  const HttpMessage response = Send({.method = "POST",
                                     .target = "/a",
                                     .headers = {{"foo", "1"}},
                                     .body = {.pieces = {"original"}}});
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.Header("hello"), "service-extensions");
  EXPECT_EQ(response.body, "");
  const HttpMessage received = Received();
  EXPECT_EQ(received.target, "/");
  EXPECT_EQ(received.Header("host"), "service-extensions.com");
  EXPECT_EQ(received.Header("header-request"), "request");
  EXPECT_EQ(received.Header("foo"), std::nullopt);
  EXPECT_EQ(received.body, "replaced-body");
}

INSTANTIATE_TEST_SUITE_P(, BasicsEnvoyTest, ::testing::Values("basic", "typed_basic"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace callout::tests
