// SPDX-License-Identifier: Apache-2.0

// plugins/add_custom_response.
#include <callout/plugin.h>

#include "sample_envoy.h"
#include "sample_host.h"

namespace callout::tests {
namespace {

using nlohmann::json;

const Lines kDenied = {"PERMISSION_DENIED: Callout DENIED."};

TEST(AddCustomResponseTest, DecidesByTheHeaders) {
  SampleHost host("add_custom_response");
  const std::string mock = "set Mock-Response: Mocked-Value";
  host.Expect({
      {"a bad request", RequestHeaders({{"bad-header", "x"}}), kDenied},
      {"without a value", RequestHeaders({{"bad-header", ""}}), kDenied},
      {"that is a mock too", RequestHeaders({{"mock", "1"}, {"bad-header", "x"}}), kDenied},
      {"a bad response", ResponseHeaders({{"bad-header", "x"}}), kDenied},
      {"a mock", RequestHeaders({{"mock", "1"}, {"foo", "bar"}}), {"request_headers", mock}},
      {"without a value", RequestHeaders({{"mock", ""}}, true), {"request_headers", mock}},
      {"a mocked response", ResponseHeaders({{"mock", "1"}}), {"response_headers", mock}},
      {"another request",
       RequestHeaders({{"x", "mock bad-header"}}),
       {"request_headers", "set header-request: request", "remove foo", "clear route cache"}},
      {"another response",
       ResponseHeaders({{"foo", "bar"}}),
       {"response_headers", "set header-response: response"}},
  });
}

TEST(AddCustomResponseTest, DecidesByTheBody) {
  SampleHost host("add_custom_response");
  host.Expect({
      {"a bad request", RequestBody("it has bad-body in it"), kDenied},
      {"that is a mock too", RequestBody("mock bad-body"), kDenied},
      {"a bad response", ResponseBody("bad-body"), kDenied},
      {"a mock", RequestBody("mockery"), {"request_body", "body \"Mocked-Body\""}},
      {"a mocked response", ResponseBody("mock"), {"response_body", "body \"Mocked-Body\""}},
      {"another request", RequestBody("bad"), {"request_body", "body \"replaced-body\""}},
      {"an empty one", RequestBody(""), {"request_body", "body \"replaced-body\""}},
      {"another response", ResponseBody("bad"), {"response_body"}},
  });
}

TEST(AddCustomResponseTest, FindsATextThatIsSplitBetweenChunks) {
  SampleHost host("add_custom_response");
  for (const int mode : {CALLOUT_BODY_STREAMED, CALLOUT_BODY_FULL_DUPLEX_STREAMED}) {
    LiveStream stream(PlaintextChannel(host.host().address("plaintext")));
    ASSERT_TRUE(stream.Send(WithBodyMode(RequestHeaders({{":method", "POST"}}), mode)));
    ASSERT_TRUE(stream.Send(RequestBody("bad-", false)));
    ASSERT_TRUE(stream.Send(RequestBody("body")));
    EXPECT_EQ(stream.Finish().error_message(), "Callout DENIED.") << mode;
  }
}

TEST(AddCustomResponseTest, RefusesBodiesThatItCannotSeeWhole) {
  SampleHost host("add_custom_response");
  const std::string limit(1 << 20, 'x');
  EXPECT_EQ(host.Ask({RequestBody(limit)}), (Lines{"request_body", "body \"replaced-body\""}));
  EXPECT_EQ(host.Ask({RequestBody(limit + "x")}).front(), "immediate 413");
}

class AddCustomResponseEnvoyTest : public SampleEnvoy {};

TEST_F(AddCustomResponseEnvoyTest, ChangesAndMocksWhatBackendAndClientGet) {
  Start("add_custom_response", BufferedBodies());
  backend().Answer({.body = {.pieces = {"original"}}});
  HttpMessage response =
      Send({.method = "POST", .headers = {{"foo", "bar"}}, .body = {.pieces = {"text"}}});
  HttpMessage request = Received();
  EXPECT_EQ(request.Header("header-request"), "request");
  EXPECT_EQ(request.Header("foo"), std::nullopt);
  EXPECT_EQ(request.body, "replaced-body");
  EXPECT_EQ(response.Header("header-response"), "response");
  EXPECT_EQ(response.body, "original");

  backend().Answer({.headers = {{"mock", "1"}}, .body = {.pieces = {"to mock"}}});
  response = Send({.method = "POST",
                   .headers = {{"mock", "1"}, {"foo", "bar"}},
                   .body = {.pieces = {"a mock"}}});
  request = Received();
  EXPECT_EQ(request.Header("mock-response"), "Mocked-Value");
  EXPECT_EQ(request.Header("header-request"), std::nullopt);
  EXPECT_EQ(request.Header("foo"), "bar");
  EXPECT_EQ(request.body, "Mocked-Body");
  EXPECT_EQ(response.Header("mock-response"), "Mocked-Value");
  EXPECT_EQ(response.body, "Mocked-Body");
}

TEST_F(AddCustomResponseEnvoyTest, WhatItRefusesIsA500) {
  Start("add_custom_response", BufferedBodies());
  EXPECT_EQ(Send({.headers = {{"bad-header", "1"}}}).status, 500);
  EXPECT_FALSE(BackendGotOne());
  EXPECT_EQ(Send({.method = "POST", .body = {.pieces = {"bad-body"}}}).status, 500);
  EXPECT_FALSE(BackendGotOne());
  backend().Answer({.headers = {{"bad-header", "1"}}});
  EXPECT_EQ(Send({}).status, 500);
  backend().Answer({.body = {.pieces = {"bad-body"}}});
  EXPECT_EQ(Send({}).status, 500);
}

TEST_F(AddCustomResponseEnvoyTest, WhatItRefusesPassesWhereEnvoyFailsOpen) {
  json filter = BufferedBodies();
  filter["failure_mode_allow"] = true;
  Start("add_custom_response", filter);
  backend().Answer({.body = {.pieces = {"original"}}});
  const HttpMessage response = Send({.headers = {{"bad-header", "1"}, {"foo", "bar"}}});
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.body, "original");
  EXPECT_EQ(Received().Header("foo"), "bar");
}

TEST_F(AddCustomResponseEnvoyTest, SeesStreamedBodiesWhole) {
  Start("add_custom_response",
        {{"processing_mode",
          {{"request_body_mode", "STREAMED"}, {"response_body_mode", "STREAMED"}}}});
  backend().Answer({.body = {.pieces = {"a mo", "ck"}, .chunked = true}});
  const HttpMessage response =
      Send({.method = "POST", .body = {.pieces = {"one", "two"}, .chunked = true}});
  EXPECT_EQ(Received().body, "replaced-body");
  EXPECT_EQ(response.body, "Mocked-Body");
}

}  // namespace
}  // namespace callout::tests
