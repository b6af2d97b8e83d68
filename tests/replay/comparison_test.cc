// SPDX-License-Identifier: Apache-2.0

#include "host/replay/comparison.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "recorded_exchange.h"
#include "tests/host/stream_fixture.h"

namespace callout::host {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

using Result = Comparison::Result;

class ComparisonTest : public StreamTest {
 protected:
  ComparisonTest() { header_.redacted = Redaction::DefaultPatterns(); }

  // "kind what: before -> after"
  std::vector<std::string> Compare(const RecordedExchange& exchange, const Played& after,
                                   Result expected = Result::kCompared,
                                   const Played* before = nullptr) {
    const Requests requests(exchange);
    std::vector<Difference> found;
    EXPECT_EQ(Comparison(header_).Compare(exchange, requests, before, after, &found), expected);
    std::vector<std::string> texts;
    for (const Difference& one : found) {
      texts.push_back(std::string(DifferenceKindName(one.kind)) + " " + one.what + ": " +
                      one.before + " -> " + one.after);
    }
    return texts;
  }

  static ProcessingResponse SetsInRequest(const std::string& key, const std::string& value) {
    ProcessingResponse response;
    AddSet(response.mutable_request_headers()->mutable_response(), key, value);
    return response;
  }
  static ProcessingResponse Deny(int status, const std::string& body) {
    ProcessingResponse response;
    response.mutable_immediate_response()->mutable_status()->set_code(
        static_cast<envoy::type::v3::StatusCode>(status));
    response.mutable_immediate_response()->set_body(body);
    return response;
  }
  static ProcessingResponse NewBody(const std::string& body) {
    ProcessingResponse response;
    response.mutable_request_body()->mutable_response()->mutable_body_mutation()->set_body(body);
    return response;
  }
  static Played Says(const std::vector<ProcessingResponse>& responses) {
    Played played;
    for (const ProcessingResponse& response : responses) {
      played.responses.push_back({response.SerializeAsString(), played.responses.size() + 1});
    }
    return played;
  }
  static ProcessingRequest First(const Pairs& headers = {{":path", "/"}}) {
    return WithModes(Headers(CALLOUT_REQUEST_HEADERS, false, headers), kBuffered, kBuffered);
  }

  RecordingHeader header_;
};

TEST_F(ComparisonTest, FindsAHeaderWithAnotherValue) {
  ExchangeBuilder recorded;
  recorded.Add(First()).Add(SetsInRequest("x-v", "1"));
  EXPECT_THAT(Compare(recorded.exchange(), Says({SetsInRequest("x-v", "1")})), IsEmpty());
  EXPECT_THAT(Compare(recorded.exchange(), Says({SetsInRequest("x-v", "2")})),
              ElementsAre("header request x-v: 1 -> 2"));
}

TEST_F(ComparisonTest, ComparesWithAnotherChainInThePlaceOfTheRecording) {
  ExchangeBuilder recorded;
  recorded.Add(First()).Add(SetsInRequest("x-v", "1"));
  const Played before = Says({SetsInRequest("x-v", "5")});
  EXPECT_THAT(
      Compare(recorded.exchange(), Says({SetsInRequest("x-v", "5")}), Result::kCompared, &before),
      IsEmpty());
  EXPECT_THAT(
      Compare(recorded.exchange(), Says({SetsInRequest("x-v", "6")}), Result::kCompared, &before),
      ElementsAre("header request x-v: 5 -> 6"));
}

TEST_F(ComparisonTest, LeavesOutWhatTheRecordingHasNoValueOf) {
  ExchangeBuilder recorded;
  recorded.Add(First({{":path", "/"}, {"authorization", "[redacted]"}}))
      .Add(SetsInRequest("x-api-key", "[redacted]"));
  EXPECT_THAT(Compare(recorded.exchange(), Says({SetsInRequest("x-api-key", "a new key")})),
              IsEmpty());
  header_.redacted.clear();
  EXPECT_THAT(Compare(recorded.exchange(), Says({SetsInRequest("x-api-key", "a new key")})),
              testing::SizeIs(1));
}

TEST_F(ComparisonTest, FindsAStatusOfItsOwn) {
  ExchangeBuilder recorded;
  recorded.Add(First()).Add(SetsInRequest("x-v", "1"));
  EXPECT_THAT(Compare(recorded.exchange(), Says({Deny(403, "no")})),
              ElementsAre("status response: the upstream's -> 403"));
}

TEST_F(ComparisonTest, FindsAnotherBody) {
  ExchangeBuilder recorded;
  recorded.Add(First())
      .Add(SetsInRequest("x-v", "1"))
      .Add(Body(CALLOUT_REQUEST_BODY, "sent", true))
      .Add(NewBody("new"));
  EXPECT_THAT(Compare(recorded.exchange(), Says({SetsInRequest("x-v", "1"), NewBody("new")})),
              IsEmpty());
  EXPECT_THAT(Compare(recorded.exchange(), Says({SetsInRequest("x-v", "1"), NewBody("newer")})),
              ElementsAre("body request: 3 bytes -> 5 bytes"));
}

// What the plugin said to zeros says nothing.
TEST_F(ComparisonTest, DoesNotCompareTheResponseToABodyWithoutBytes) {
  ExchangeBuilder recorded;
  recorded.Add(First())
      .Add(SetsInRequest("x-v", "1"))
      .Add(Body(CALLOUT_REQUEST_BODY, "sent", true), true)
      .Add(NewBody("new"), true);
  EXPECT_THAT(Compare(recorded.exchange(), Says({SetsInRequest("x-v", "1"), NewBody("newer")})),
              IsEmpty());
  EXPECT_THAT(Compare(recorded.exchange(), Says({SetsInRequest("x-v", "2"), NewBody("newer")})),
              ElementsAre("header request x-v: 1 -> 2"));
  EXPECT_THAT(Compare(recorded.exchange(), Says({SetsInRequest("x-v", "2"), Deny(500, "")}),
                      Result::kUnknown),
              IsEmpty());
}

TEST_F(ComparisonTest, ComparesTheSizesOfRepliesWithoutBytes) {
  ExchangeBuilder recorded;
  recorded.Add(First()).Add(Deny(403, "four"), true);
  EXPECT_THAT(Compare(recorded.exchange(), Says({Deny(403, "FOUR")})), IsEmpty());
  EXPECT_THAT(Compare(recorded.exchange(), Says({Deny(403, "fives")})),
              ElementsAre("body response: 4 bytes -> 5 bytes"));
}

TEST_F(ComparisonTest, TakesNoMemoryForASizeThatNoBodyHas) {
  ExchangeBuilder recorded;
  recorded.Add(First()).Add(Deny(403, "four"), true);
  recorded.exchange().messages[1].body_bytes = UINT64_MAX;
  EXPECT_THAT(Compare(recorded.exchange(), Says({Deny(403, "FOUR")})), testing::SizeIs(1));
}

// A recording may come from anybody.
TEST_F(ComparisonTest, DoesNotBuildABodyOfTheSizeThatARecordingClaims) {
  ExchangeBuilder recorded;
  recorded.Add(First()).Add(Deny(403, "guests stay outside"), true);
  recorded.exchange().messages.back().body_bytes = uint64_t{1} << 62;
  EXPECT_THAT(Compare(recorded.exchange(), Says({Deny(401, "guests stay outside")})),
              ElementsAre("status response: 403 -> 401"));
}

TEST_F(ComparisonTest, FindsAnErrorOfTheRpc) {
  ExchangeBuilder recorded;
  recorded.Add(First()).Add(SetsInRequest("x-v", "1")).End(absl::StatusCode::kCancelled, 0);
  Played failed;
  failed.end = absl::InternalError("why");
  const std::vector<std::string> found = Compare(recorded.exchange(), failed);
  ASSERT_THAT(found, testing::SizeIs(1));
  EXPECT_THAT(found[0], testing::HasSubstr("error rpc: none -> INTERNAL"));
}

TEST_F(ComparisonTest, ComparesNoIncompleteExchange) {
  ExchangeBuilder recorded;
  recorded.Add(First()).Add(SetsInRequest("x-v", "1"));
  recorded.exchange().messages_left_out = 1;
  EXPECT_THAT(Compare(recorded.exchange(), Says({}), Result::kIncomplete), IsEmpty());
  recorded.exchange().messages_left_out = 0;
  recorded.End(absl::StatusCode::kUnavailable, CALLOUT_END_DRAINED);
  EXPECT_THAT(Compare(recorded.exchange(), Says({}), Result::kIncomplete), IsEmpty());
}

}  // namespace
}  // namespace callout::host
