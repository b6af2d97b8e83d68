// SPDX-License-Identifier: Apache-2.0

// plugins/redirect.
#include "sample_envoy.h"
#include "sample_host.h"

namespace callout::tests {
namespace {

TEST(RedirectTest, AnswersRequestsWith301AndNothingElse) {
  SampleHost host("redirect");
  const Lines redirect = {"immediate 301", "set Location: http://service-extensions.com/redirect"};
  host.Expect({
      {"a request", RequestHeaders({{":path", "/a"}, {":method", "GET"}}, true), redirect},
      {"one with a body to come", RequestHeaders({{":method", "POST"}}), redirect},
      {"one without any header", RequestHeaders({}), redirect},
      {"a response", ResponseHeaders({{":status", "200"}}), {"response_headers"}},
      {"a request's body", RequestBody("text"), {"request_body"}},
      {"a response's body", ResponseBody("text"), {"response_body"}},
  });
}

class RedirectEnvoyTest : public SampleEnvoy {};

TEST_F(RedirectEnvoyTest, SendsTheClientElsewhere) {
  Start("redirect", nlohmann::json::object());
  const HttpMessage response = Send({});
  EXPECT_EQ(response.status, 301);
  EXPECT_EQ(response.Header("location"), "http://service-extensions.com/redirect");
  EXPECT_EQ(response.body, "");
  EXPECT_FALSE(BackendGotOne());
}

}  // namespace
}  // namespace callout::tests
