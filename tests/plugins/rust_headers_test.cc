// SPDX-License-Identifier: Apache-2.0

// plugins/rust_headers, and its border between Rust and the host.
#include "sample_envoy.h"
#include "sample_host.h"

namespace callout::tests {
namespace {

using ::testing::HasSubstr;

TEST(RustHeadersTest, SetsRemovesAndCountsHeaders) {
  SampleHost host("rust_headers");
  host.Expect({
      {"a request",
       RequestHeaders({{":path", "/a"}, {"foo", "bar"}}, true),
       {"request_headers", "set header-request: request", "set x-rust: 2", "clear route cache"}},
      {"one without any header",
       RequestHeaders({}),
       {"request_headers", "set header-request: request", "set x-rust: 0", "clear route cache"}},
      {"a response",
       ResponseHeaders({{":status", "200"}}),
       {"response_headers", "set header-response: response", "set x-rust: 1", "remove foo"}},
      {"a request's body", RequestBody("text"), {"request_body"}},
      {"what is no text in protobuf's sense",
       RequestHeaders({{"\xff", ""}}),
       {"status 3: the message cannot be parsed: failed to decode Protobuf message: "
        "HeaderValue.key: HeaderMap.headers: HttpHeaders.headers: invalid string value: data is "
        "not UTF-8 encoded"}},
  });
}

TEST(RustHeadersTest, LogsThroughTheHostAndRefusesAConfiguration) {
  EXPECT_THAT(RefusalOf("rust_headers", "{}"),
              HasSubstr("ERROR plugin rust_headers: it has no configuration, and was given one"));
}

TEST(RustBorderTest, TurnsPanicsIntoErrorsOfTheirStream) {
  SampleHost host("../tests/plugins/rust_faults");
  host.Expect({
      {"a panic", RequestHeaders({{"fault", "panic"}}), {"status 13: panic: a text"}},
      {"a text made for it",
       RequestHeaders({{"fault", "formatted"}}),
       {"status 13: panic: 1 headers"}},
      {"Rust's own",
       RequestHeaders({{"fault", "index"}}),
       {"status 13: panic: index out of bounds: the len is 1 but the index is 1"}},
      {"one without a text",
       RequestHeaders({{"fault", "payload"}}),
       {"status 13: panic: not a text"}},
      {"and the host lives on", RequestHeaders({}), {"request_headers"}},
  });
}

class RustHeadersEnvoyTest : public SampleEnvoy {};

TEST_F(RustHeadersEnvoyTest, ChangesWhatBackendAndClientGet) {
  Start("rust_headers", nlohmann::json::object());
  backend().Answer({.headers = {{"foo", "bar"}}});
  const HttpMessage response = Send({.headers = {{"x-rust", "old"}}});
  const HttpMessage request = Received();
  EXPECT_EQ(request.Header("header-request"), "request");
  EXPECT_THAT(request.Header("x-rust").value_or(""), ::testing::MatchesRegex("[1-9][0-9]*"));
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.Header("header-response"), "response");
  EXPECT_THAT(response.Header("x-rust").value_or(""), ::testing::MatchesRegex("[1-9][0-9]*"));
  EXPECT_EQ(response.Header("foo"), std::nullopt);
}

}  // namespace
}  // namespace callout::tests
