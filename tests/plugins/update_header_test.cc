// SPDX-License-Identifier: Apache-2.0

// plugins/update_header.
#include "sample_envoy.h"
#include "sample_host.h"

namespace callout::tests {
namespace {

TEST(UpdateHeaderTest, OverwritesOrAddsAHeaderEachWay) {
  SampleHost host("update_header");
  const Lines request = {"request_headers", "set header-request: request-new-value",
                         "clear route cache"};
  const Lines response = {"response_headers", "set header-response: response-new-value"};
  host.Expect({
      {"a request that has it", RequestHeaders({{"header-request", "old"}}, true), request},
      {"one that has not", RequestHeaders({{":path", "/a"}}), request},
      {"a response that has it", ResponseHeaders({{"header-response", "old"}}), response},
      {"one that has not", ResponseHeaders({{":status", "200"}}, true), response},
      {"a request's body", RequestBody("text"), {"request_body"}},
      {"a response's body", ResponseBody("text"), {"response_body"}},
  });
}

class UpdateHeaderEnvoyTest : public SampleEnvoy {};

TEST_F(UpdateHeaderEnvoyTest, LeavesOneValueOnly) {
  Start("update_header", nlohmann::json::object());
  for (const HttpFields& old : {HttpFields{}, HttpFields{{"header-request", "old"}},
                                HttpFields{{"header-request", "one"}, {"header-request", "two"}}}) {
    HttpFields answer;
    for (const auto& field : old) answer.emplace_back("header-response", field.second);
    backend().Answer({.headers = answer});
    const HttpMessage response = Send({.headers = old});
    EXPECT_EQ(Received().Header("header-request"), "request-new-value") << old.size();
    EXPECT_EQ(response.Header("header-response"), "response-new-value") << old.size();
  }
}

}  // namespace
}  // namespace callout::tests
