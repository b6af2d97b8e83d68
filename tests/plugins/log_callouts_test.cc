// SPDX-License-Identifier: Apache-2.0

// plugins/log_callouts.
#include "sample_envoy.h"
#include "sample_host.h"

namespace callout::tests {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(LogCalloutsTest, LetsOnlyMarkedMessagesPass) {
  SampleHost host("log_callouts");
  const Lines no_header = {"PERMISSION_DENIED: The headers have no header-check."};
  const Lines no_text = {"PERMISSION_DENIED: The body does not contain body-check."};
  host.Expect({
      {"a request", RequestHeaders({{"header-check", "yes"}}), {"request_headers"}},
      {"without a value", RequestHeaders({{"header-check", ""}}), {"request_headers"}},
      {"an unmarked one", RequestHeaders({{"x", "header-check"}}), no_header},
      {"one without any header", RequestHeaders({}), no_header},
      {"a response", ResponseHeaders({{"header-check", "yes"}}), {"response_headers"}},
      {"an unmarked one", ResponseHeaders({{":status", "200"}}), no_header},
      {"a request's body", RequestBody("a body-check b"), {"request_body"}},
      {"an unmarked one", RequestBody("body check"), no_text},
      {"an empty one", RequestBody(""), no_text},
      {"a response's body", ResponseBody("body-check"), {"response_body"}},
      {"an unmarked one", ResponseBody("text"), no_text},
      {"trailers", RequestTrailers({{"t", "r"}}), {"request_trailers"}},
  });
}

TEST(LogCalloutsTest, LogsWhatItSawWithoutSecrets) {
  SampleHost host("log_callouts");
  const std::string secret = "hunter2";
  host.Ask({RequestHeaders({{":path", "/?key=" + secret},
                            {"authorization", "Bearer " + secret},
                            {"header-check", ""}})});
  EXPECT_EQ(host.host().AwaitLog("passed request headers: "),
            ":path (13), authorization (14), header-check (0)");
  host.Ask({ResponseHeaders({{"set-cookie", secret}, {"set-cookie", "2"}})});
  EXPECT_EQ(host.host().AwaitLog("denied response headers: "), "set-cookie (7), set-cookie (1)");
  host.Ask({RequestBody(secret + " body-check")});
  EXPECT_EQ(host.host().AwaitLog("passed request body: "), "18 bytes");
  host.Ask({ResponseBody(secret)});
  EXPECT_EQ(host.host().AwaitLog("denied response body: "), "7 bytes");
  EXPECT_THAT(host.host().Log(), Not(HasSubstr(secret)));
}

class LogCalloutsEnvoyTest : public SampleEnvoy {};

TEST_F(LogCalloutsEnvoyTest, RefusesUnmarkedMessagesWith500) {
  Start("log_callouts", BufferedBodies());
  const HttpFields marked = {{"header-check", "1"}};
  backend().Answer({.headers = marked, .body = {.pieces = {"body-check"}}});
  const HttpMessage response =
      Send({.method = "POST", .headers = marked, .body = {.pieces = {"body-", "check"}}});
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.body, "body-check");
  EXPECT_EQ(Received().body, "body-check");

  EXPECT_EQ(Send({}).status, 500);
  EXPECT_FALSE(BackendGotOne());
  EXPECT_EQ(Send({.method = "POST", .headers = marked, .body = {.pieces = {"text"}}}).status, 500);
  EXPECT_FALSE(BackendGotOne());
  backend().Answer({.headers = marked, .body = {.pieces = {"text"}}});
  EXPECT_EQ(Send({.headers = marked}).status, 500);
  backend().Answer({});
  EXPECT_EQ(Send({.headers = marked}).status, 500);
}

}  // namespace
}  // namespace callout::tests
