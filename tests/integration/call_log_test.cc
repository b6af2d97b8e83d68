// SPDX-License-Identifier: Apache-2.0

// The log line of each call, at level DEBUG.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "ext_proc_client.h"
#include "test_host.h"

namespace callout::tests {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;

void SendARequestAndItsResponse(const std::string& address) {
  LiveStream stream(PlaintextChannel(address));
  const HeaderList request = {{":path", "/a"},
                              {"Authorization", "secret-1"},
                              {"cookie", "secret-2"},
                              {"x-api-key", "secret-3"},
                              {"x-subscription-key", "secret-6"},
                              {"x-registry-auth", "secret-7"},
                              {"auth-user", "secret-8"},
                              {"sec-websocket-protocol", "base64url.bearer.x, secret-9"},
                              {"referer", "https://me:secret-10@host/a?b=secret-11"},
                              {"x-tenant", "blue"}};
  const HeaderList response = {{"set-cookie", "secret-4"}, {"x-tenant", "red"}};
  EXPECT_TRUE(stream.Exchange(RequestHeaders(request)).has_value());
  EXPECT_TRUE(stream.Exchange(ResponseHeaders(response)).has_value());
  EXPECT_TRUE(stream.Exchange(ResponseBody("secret-5", false)).has_value());
  EXPECT_TRUE(stream.Exchange(ResponseTrailers({{"x-access-token", "secret-12"}})).has_value());
  EXPECT_TRUE(stream.Finish().ok());
}

// What a host with `options` logs of them; "" if nothing.
std::string CallLog(const std::vector<std::string>& options) {
  std::vector<std::string> all = {"--plugin=" + BuiltPlugin("basic")};
  all.insert(all.end(), options.begin(), options.end());
  TestHost host(all);
  SendARequestAndItsResponse(host.address("plaintext"));
  EXPECT_EQ(host.Terminate(), 0);
  const std::string log = host.Log();
  const size_t begin = log.find("plugin basic request_headers");
  return begin == std::string::npos ? "" : log.substr(begin, log.find("draining:") - begin);
}

TEST(CallLog, TellsPhaseTimeOutcomeAndHeaders) {
  const std::string log = CallLog({"--log_level=debug"});
  EXPECT_THAT(log.substr(0, log.find('\n')),
              MatchesRegex("plugin basic request_headers [0-9]+ us -> OK, answered "
                           "request_headers; :path: /a, .*x-tenant: blue"));
  EXPECT_THAT(log, HasSubstr("answered response_body; "));
}

TEST(CallLog, LeavesSecretsOut) {
  EXPECT_THAT(CallLog({"--log_level=debug"}),
              AllOf(Not(HasSubstr("secret")), HasSubstr("authorization: [redacted]"),
                    HasSubstr("cookie: [redacted]"), HasSubstr("x-api-key: [redacted]"),
                    HasSubstr("set-cookie: [redacted]"), HasSubstr("x-tenant: red"),
                    HasSubstr("referer: https://[redacted]@host/a?[redacted]")));
}

TEST(CallLog, LeavesOutWhatItIsToldTo) {
  EXPECT_THAT(
      CallLog({"--log_level=debug", "--log_redacted_headers=X-Tenant, cookie"}),
      AllOf(HasSubstr("x-tenant: [redacted]"), Not(HasSubstr("blue")), Not(HasSubstr("secret-2")),
            HasSubstr("authorization: secret-1"), HasSubstr("set-cookie: secret-4")));
}

TEST(CallLog, ShowsEverythingIfToldSo) {
  EXPECT_THAT(
      CallLog({"--log_level=debug", "--log_redacted_headers=none"}),
      AllOf(HasSubstr("secret-1"), HasSubstr("secret-2"), HasSubstr("secret-3"),
            HasSubstr("secret-4"), Not(HasSubstr("secret-5")), Not(HasSubstr("[redacted]"))));
}

TEST(CallLog, IsSilentAtInfo) { EXPECT_EQ(CallLog({}), ""); }

}  // namespace
}  // namespace callout::tests
