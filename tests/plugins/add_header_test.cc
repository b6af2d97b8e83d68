// SPDX-License-Identifier: Apache-2.0

// plugins/add_header.
#include "sample_envoy.h"
#include "sample_host.h"

namespace callout::tests {
namespace {

TEST(AddHeaderTest, AddsAHeaderEachWayAndLeavesBodiesAlone) {
  SampleHost host("add_header");
  const Lines request = {"request_headers", "set header-request: request", "clear route cache"};
  const Lines response = {"response_headers", "set header-response: response", "remove foo"};
  host.Expect({
      {"a request", RequestHeaders({{":path", "/a"}, {"foo", "bar"}}, true), request},
      {"one that has it", RequestHeaders({{"header-request", "old"}}), request},
      {"a response", ResponseHeaders({{":status", "200"}, {"foo", "bar"}}), response},
      {"one that has it", ResponseHeaders({{"header-response", "old"}}), response},
      {"a request's body", RequestBody("text"), {"request_body"}},
      {"a response's body", ResponseBody("text"), {"response_body"}},
      {"a request's trailers", RequestTrailers({{"t", "r"}}), {"request_trailers"}},
      {"a response's trailers", ResponseTrailers({{"t", "r"}}), {"response_trailers"}},
  });
}

class AddHeaderEnvoyTest : public SampleEnvoy {};

TEST_F(AddHeaderEnvoyTest, ChangesWhatBackendAndClientGet) {
  Start("add_header", nlohmann::json::object());
  backend().Answer({.headers = {{"foo", "bar"}, {"keep", "this"}}});
  const HttpMessage response = Send({.headers = {{"header-request", "old"}, {"foo", "bar"}}});
  const HttpMessage request = Received();
  EXPECT_EQ(request.Header("header-request"), "request");
  EXPECT_EQ(request.Header("foo"), "bar") << "it is removed from responses only";
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.Header("header-response"), "response");
  EXPECT_EQ(response.Header("foo"), std::nullopt);
  EXPECT_EQ(response.Header("keep"), "this");
}

}  // namespace
}  // namespace callout::tests
