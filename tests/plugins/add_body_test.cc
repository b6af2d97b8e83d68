// SPDX-License-Identifier: Apache-2.0

// plugins/add_body.
#include <callout/plugin.h>

#include "sample_envoy.h"
#include "sample_host.h"

namespace callout::tests {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::Pair;

// The answer to the last of `messages` on a stream whose bodies come in `mode`. The stream is left
// in the middle.
Lines AskIn(int mode, SampleHost* host, const std::vector<ext_proc::ProcessingRequest>& messages) {
  LiveStream stream(PlaintextChannel(host->host().address("plaintext")));
  auto answer = stream.Exchange(WithBodyMode(RequestHeaders({{":method", "POST"}}), mode));
  for (const auto& message : messages) answer = stream.Exchange(message);
  return DescribeAnswer(answer.value_or(ext_proc::ProcessingResponse()));
}

TEST(AddBodyTest, AddsToARequestsBodyAndReplacesAResponses) {
  SampleHost host("add_body");
  host.Expect({
      {"a request's", RequestBody("text"), {"request_body", "body \"text-added-request-body\""}},
      {"an empty one", RequestBody(""), {"request_body", "body \"-added-request-body\""}},
      {"not UTF-8", RequestBody("\xff"), {"request_body", "body \"\xff-added-request-body\""}},
      {"a response's", ResponseBody("text"), {"response_body", "body \"new-body\""}},
      {"an empty one", ResponseBody(""), {"response_body", "body \"new-body\""}},
      {"a request's headers", RequestHeaders({{"a", "b"}}), {"request_headers"}},
      {"a response's headers", ResponseHeaders({{"a", "b"}}), {"response_headers"}},
  });
}

TEST(AddBodyTest, CorrectsTheLengthThatWasAnnouncedForABufferedBody) {
  SampleHost host("add_body");
  const auto request =
      WithBodyMode(RequestHeaders({{"content-length", "4"}}), CALLOUT_BODY_BUFFERED);
  EXPECT_EQ(host.Ask({request, RequestBody("text")}),
            (Lines{"request_body", "set content-length: 23", "body \"text-added-request-body\""}));
  EXPECT_EQ(host.Ask({request, ResponseHeaders({{"content-length", "4"}}), ResponseBody("text")}),
            (Lines{"response_body", "set content-length: 8", "body \"new-body\""}));
}

TEST(AddBodyTest, AddsToABufferedBodyAheadOfTrailers) {
  SampleHost host("add_body");
  EXPECT_EQ(AskIn(CALLOUT_BODY_BUFFERED, &host, {RequestBody("text", false)}),
            (Lines{"request_body", "body \"text-added-request-body\""}));
}

TEST(AddBodyTest, LeavesAPartOfABodyWithoutTheAddition) {
  SampleHost host("add_body");
  EXPECT_EQ(AskIn(CALLOUT_BODY_BUFFERED_PARTIAL, &host, {RequestBody("part", false)}),
            (Lines{"request_body"}));
}

TEST(AddBodyTest, AddsBehindTheLastChunkOfAStreamedBodyOnly) {
  SampleHost host("add_body");
  const auto first = RequestBody("one", false);
  const auto last = RequestBody("two");
  EXPECT_EQ(AskIn(CALLOUT_BODY_STREAMED, &host, {first}), (Lines{"request_body"}));
  EXPECT_EQ(AskIn(CALLOUT_BODY_STREAMED, &host, {first, last}),
            (Lines{"request_body", "body \"two-added-request-body\""}));
  EXPECT_EQ(AskIn(CALLOUT_BODY_STREAMED, &host, {first, RequestTrailers({{"t", "r"}})}),
            (Lines{"request_trailers"}));
  EXPECT_EQ(AskIn(CALLOUT_BODY_FULL_DUPLEX_STREAMED, &host, {first}),
            (Lines{"request_body", "chunk \"one\""}));
  EXPECT_EQ(AskIn(CALLOUT_BODY_FULL_DUPLEX_STREAMED, &host, {first, last}),
            (Lines{"request_body", "last chunk \"two-added-request-body\""}));
}

TEST(AddBodyTest, ReplacesAStreamedResponseOnce) {
  SampleHost host("add_body");
  const auto headers = ResponseHeaders({{":status", "200"}});
  const auto first = ResponseBody("one", false);
  const auto last = ResponseBody("two");
  EXPECT_EQ(AskIn(CALLOUT_BODY_STREAMED, &host, {headers, first}),
            (Lines{"response_body", "body \"new-body\""}));
  EXPECT_EQ(AskIn(CALLOUT_BODY_STREAMED, &host, {headers, first, last}),
            (Lines{"response_body", "clear body"}));
  EXPECT_EQ(AskIn(CALLOUT_BODY_FULL_DUPLEX_STREAMED, &host, {headers, first}),
            (Lines{"response_body", "chunk \"new-body\""}));
  EXPECT_EQ(AskIn(CALLOUT_BODY_FULL_DUPLEX_STREAMED, &host, {headers, first, last}),
            (Lines{"response_body", "last chunk \"\""}));
}

class AddBodyEnvoyTest : public SampleEnvoy {};

TEST_F(AddBodyEnvoyTest, ChangesBufferedBodiesTogetherWithTheirLengths) {
  Start("add_body", BufferedBodies());
  for (const bool chunked : {false, true}) {
    const HttpBody sent = {.pieces = {"first ", "second"}, .chunked = chunked};
    backend().Answer({.body = sent});
    const HttpMessage response = Send({.method = "POST", .body = sent});
    const HttpMessage request = Received();
    EXPECT_EQ(request.body, "first second-added-request-body");
    EXPECT_EQ(response.status, 200);
    EXPECT_EQ(response.body, "new-body");
    EXPECT_TRUE(response.complete);
    if (chunked) continue;
    EXPECT_EQ(request.Header("content-length"), "31");
    EXPECT_EQ(response.Header("content-length"), "8");
  }
}

TEST_F(AddBodyEnvoyTest, LeavesTrailersBehindBufferedBodies) {
  Start("add_body", BufferedBodies());
  const HttpBody sent = {.pieces = {"text"}, .chunked = true, .trailers = {{"t", "r"}}};
  backend().Answer({.body = sent});
  const HttpMessage response = Send({.method = "POST", .body = sent});
  const HttpMessage request = Received();
  EXPECT_EQ(request.body, "text-added-request-body");
  EXPECT_THAT(request.trailers, ElementsAre(Pair("t", "r")));
  EXPECT_EQ(response.body, "new-body");
  EXPECT_THAT(response.trailers, ElementsAre(Pair("t", "r")));
}

class AddBodyStreamedEnvoyTest : public SampleEnvoy,
                                 public ::testing::WithParamInterface<const char*> {};

TEST_P(AddBodyStreamedEnvoyTest, ChangesBodiesOnceHoweverManyChunksTheyHave) {
  Start("add_body", {{"processing_mode",
                      {{"request_body_mode", GetParam()},
                       {"response_body_mode", GetParam()},
                       {"request_trailer_mode", "SEND"},
                       {"response_trailer_mode", "SEND"}}}});
  for (const bool chunked : {false, true}) {
    const HttpBody sent = {.pieces = {"one ", "two ", "three"}, .chunked = chunked};
    backend().Answer({.body = sent});
    const HttpMessage response = Send({.method = "POST", .body = sent});
    EXPECT_EQ(Received().body, "one two three-added-request-body");
    EXPECT_EQ(response.status, 200);
    EXPECT_EQ(response.body, "new-body");
    EXPECT_TRUE(response.complete);
  }
  const HttpBody sent = {.pieces = {"text"}, .chunked = true, .trailers = {{"t", "r"}}};
  backend().Answer({.body = sent});
  const HttpMessage response = Send({.method = "POST", .body = sent});
  const HttpMessage request = Received();
  EXPECT_EQ(request.body, "text") << "no chunk is known to be the last one";
  EXPECT_THAT(request.trailers, ElementsAre(Pair("t", "r")));
  EXPECT_EQ(response.body, "new-body");
  EXPECT_THAT(response.trailers, ElementsAre(Pair("t", "r")));
}

INSTANTIATE_TEST_SUITE_P(Modes, AddBodyStreamedEnvoyTest,
                         ::testing::Values("STREAMED", "FULL_DUPLEX_STREAMED"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace callout::tests
