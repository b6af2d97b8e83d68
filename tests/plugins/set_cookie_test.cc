// SPDX-License-Identifier: Apache-2.0

// plugins/set_cookie.
#include "sample_envoy.h"
#include "sample_host.h"

namespace callout::tests {
namespace {

using ::testing::UnorderedElementsAre;

constexpr char kCookie[] = "your_cookie_name=cookie_value; Max-Age=3600; Path=/";

TEST(SetCookieTest, AddsTheCookieWhereTheResponseAsksForIt) {
  SampleHost host("set_cookie");
  const Lines set = {"response_headers", std::string("append Set-Cookie: ") + kCookie};
  host.Expect({
      {"asked", ResponseHeaders({{"cookie-check", "yes"}}), set},
      {"with any value", ResponseHeaders({{"cookie-check", "false"}}, true), set},
      {"beside others", ResponseHeaders({{"set-cookie", "a=b"}, {"cookie-check", "1"}}), set},
      {"twice", ResponseHeaders({{"cookie-check", "1"}, {"cookie-check", "2"}}), set},
      {"in the second value", ResponseHeaders({{"cookie-check", ""}, {"cookie-check", "2"}}), set},
      {"an empty value", ResponseHeaders({{"cookie-check", ""}}), {"response_headers"}},
      {"not asked", ResponseHeaders({{":status", "200"}}), {"response_headers"}},
      {"a request", RequestHeaders({{"cookie-check", "yes"}}), {"request_headers"}},
  });
}

class SetCookieEnvoyTest : public SampleEnvoy {};

TEST_F(SetCookieEnvoyTest, KeepsTheCookiesOfTheBackend) {
  Start("set_cookie", nlohmann::json::object());
  backend().Answer(
      {.headers = {{"set-cookie", "a=b"}, {"cookie-check", "1"}, {"set-cookie", "c=d"}}});
  EXPECT_THAT(ValuesOf(Send({}).headers, "set-cookie"),
              UnorderedElementsAre("a=b", "c=d", kCookie));
  backend().Answer({.headers = {{"set-cookie", "a=b"}}});
  EXPECT_THAT(ValuesOf(Send({}).headers, "set-cookie"), UnorderedElementsAre("a=b"));
}

}  // namespace
}  // namespace callout::tests
