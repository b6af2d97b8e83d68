// SPDX-License-Identifier: Apache-2.0

#include "host/diff/outcome.h"

#include <gtest/gtest.h>

#include "host/diff/difference.h"
#include "tests/host/diff/exchange_messages.h"

namespace callout::host {
namespace {

ExchangeOutcome Unchanged() {
  OutcomeBuilder builder;
  AddRequest(&builder);
  return builder.Finish();
}

TEST(Outcome, AnExchangeWithoutResponsesPasses) {
  const ExchangeOutcome outcome = Unchanged();
  EXPECT_EQ(outcome.sides[0].body.bytes, 6u);
  EXPECT_FALSE(outcome.immediate);
  EXPECT_TRUE(Compare(outcome, Unchanged()).empty());
}

TEST(Outcome, ABodyIsTheSameHoweverItIsCut) {
  BodySum whole, pieces;
  whole.Add("abcdef");
  pieces.Add("ab");
  pieces.Add("");
  pieces.Add("cdef");
  EXPECT_EQ(whole, pieces);
  pieces.Add("g");
  EXPECT_FALSE(whole == pieces);
}

TEST(Outcome, AChunkIsLeftReplacedOrCleared) {
  OutcomeBuilder builder;
  builder.OnMessage(CALLOUT_REQUEST_BODY, BodyMessage("one"));
  builder.OnMessage(CALLOUT_REQUEST_BODY, BodyMessage("two"));
  builder.OnMessage(CALLOUT_REQUEST_BODY, BodyMessage("three"));
  ProcessingResponse leave, replace, clear;
  leave.mutable_request_body();
  replace.mutable_request_body()->mutable_response()->mutable_body_mutation()->set_body("2");
  clear.mutable_request_body()->mutable_response()->mutable_body_mutation()->set_clear_body(true);
  for (const ProcessingResponse& response : {leave, replace, clear}) {
    builder.OnResponse(response.SerializeAsString());
  }
  builder.OnMessage(CALLOUT_REQUEST_BODY, BodyMessage("four"));  // nobody responds
  BodySum expected;
  expected.Add("one2four");
  EXPECT_EQ(builder.Finish().sides[0].body, expected);
}

TEST(Outcome, OfAStreamedBodyOnlyTheResponsesCount) {
  OutcomeBuilder builder;
  builder.OnMessage(CALLOUT_RESPONSE_BODY, BodyMessage("whatever"));
  ProcessingResponse piece;
  piece.mutable_response_body()
      ->mutable_response()
      ->mutable_body_mutation()
      ->mutable_streamed_response()
      ->set_body("new");
  builder.OnResponse(piece.SerializeAsString());
  builder.OnResponse(piece.SerializeAsString());
  BodySum expected;
  expected.Add("newnew");
  EXPECT_EQ(builder.Finish().sides[1].body, expected);
}

TEST(Outcome, AResponseToABodyChangesHeadersThatEnvoyHolds) {
  OutcomeBuilder builder;
  AddRequest(&builder);
  ProcessingResponse response;
  AddHeader(response.mutable_request_body()->mutable_response()->mutable_header_mutation(), "x-a",
            "1");
  builder.OnResponse(response.SerializeAsString());
  const auto differences = Compare(Unchanged(), builder.Finish());
  ASSERT_EQ(differences.size(), 1u);
  EXPECT_EQ(differences[0].what, "request x-a");
}

TEST(Outcome, AReplacementWithTheHeadersIsTheWholeBody) {
  OutcomeBuilder builder;
  ProcessingResponse response;
  auto* common = response.mutable_request_headers()->mutable_response();
  common->set_status(CommonResponse::CONTINUE_AND_REPLACE);
  common->mutable_body_mutation()->set_body("new");
  builder.OnMessage(CALLOUT_REQUEST_HEADERS, HeadersMessage({}));
  builder.OnResponse(response.SerializeAsString());
  builder.OnMessage(CALLOUT_REQUEST_BODY, BodyMessage("late"));
  BodySum expected;
  expected.Add("new");
  EXPECT_EQ(builder.Finish().sides[0].body, expected);
}

TEST(Outcome, NothingComesAfterAnImmediateResponse) {
  OutcomeBuilder builder;
  AddRequest(&builder);
  builder.OnResponse(Immediate(403).SerializeAsString());
  builder.OnResponse(Immediate(500).SerializeAsString());
  const ExchangeOutcome outcome = builder.Finish();
  EXPECT_TRUE(outcome.immediate);
  EXPECT_EQ(outcome.status, 403u);
}

TEST(Outcome, AnEndWithOkIsNoError) {
  OutcomeBuilder builder;
  AddRequest(&builder);
  builder.OnEnd(absl::OkStatus());
  EXPECT_EQ(builder.Finish().error, "");
  OutcomeBuilder failed;
  failed.OnEnd(absl::InternalError("broken"));
  EXPECT_EQ(failed.Finish().error, "INTERNAL");
}

TEST(Outcome, MalformedBytesAreLeftOut) {
  OutcomeBuilder builder;
  AddRequest(&builder);
  builder.OnMessage(CALLOUT_REQUEST_BODY, "\xff\xff");
  builder.OnResponse("\xff\xff");
  EXPECT_TRUE(Compare(Unchanged(), builder.Finish()).empty());
}

}  // namespace
}  // namespace callout::host
