// SPDX-License-Identifier: Apache-2.0

// Building answers step by step: what the generated classes read in them.
#include <callout/answer.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <callout/answer.hpp>
#include <string>
#include <vector>

#include "envoy/service/ext_proc/v3/external_processor.pb.h"
#include "tests/plugin_api/random_messages.h"

namespace callout {
namespace {

using envoy::config::core::v3::HeaderValueOption;
using envoy::service::ext_proc::v3::BodyMutation;
using envoy::service::ext_proc::v3::BodyResponse;
using envoy::service::ext_proc::v3::CommonResponse;
using envoy::service::ext_proc::v3::HeaderMutation;
using envoy::service::ext_proc::v3::HeadersResponse;
using envoy::service::ext_proc::v3::HttpHeaders;
using envoy::service::ext_proc::v3::ImmediateResponse;
using envoy::service::ext_proc::v3::TrailersResponse;
using google::protobuf::util::MessageDifferencer;

class AnswerTest : public testing::Test {
 protected:
  ~AnswerTest() override {
    if (begun_) callout_answer_free(&answer_);
  }

  void Begin(callout_phase_t phase, const std::string& message = {}) {
    if (begun_) callout_answer_free(&answer_);
    begun_ = true;
    message_ = message;
    callout_call_t call = {};
    call.struct_size = sizeof(call);
    call.phase = phase;
    call.message = to_bytes(message_);
    callout_answer_init(&answer_, &call, buffer_, sizeof(buffer_));
  }
  void Set(std::string_view key, std::string_view value,
           callout_append_action_t action = CALLOUT_OVERWRITE_IF_EXISTS_OR_ADD) {
    callout_answer_set_header(&answer_, to_bytes(key), to_bytes(value), action);
  }
  void Remove(std::string_view key) { callout_answer_remove_header(&answer_, to_bytes(key)); }

  std::string Bytes() {
    callout_writer_t writer;
    callout_writer_init(&writer, nullptr, 0);
    EXPECT_EQ(callout_write_answer(&answer_, &writer), CALLOUT_OK);
    std::string bytes(to_view(callout_writer_bytes(&writer)));
    callout_writer_free(&writer);
    return bytes;
  }
  // The answer as the generated class reads it, which must know every field of it.
  template <class Message>
  Message Parse() {
    Message message;
    const std::string bytes = Bytes();
    EXPECT_TRUE(message.ParseFromString(bytes));
    Message known = message;
    known.DiscardUnknownFields();
    EXPECT_EQ(known.SerializeAsString(), message.SerializeAsString()) << message.DebugString();
    return message;
  }

  char buffer_[64];
  bool begun_ = false;
  std::string message_;
  callout_answer_t answer_;
};

std::string HeadersMessage(std::initializer_list<const char*> names) {
  HttpHeaders headers;
  for (const char* name : names) headers.mutable_headers()->add_headers()->set_key(name);
  return headers.SerializeAsString();
}

TEST_F(AnswerTest, IsOfThePhasesOwnType) {
  for (callout_phase_t phase = CALLOUT_REQUEST_HEADERS; phase <= CALLOUT_RESPONSE_TRAILERS;
       ++phase) {
    Begin(phase);
    Set("x", "1");
    callout_answer_parts_t parts;
    ASSERT_EQ(callout_answer_make_parts(&answer_, &parts), CALLOUT_OK);
    EXPECT_EQ(parts.field, phase - 1);
  }
}

TEST_F(AnswerTest, ThatSetsNothingHasNoBytes) {
  for (callout_phase_t phase = CALLOUT_REQUEST_HEADERS; phase <= CALLOUT_RESPONSE_TRAILERS;
       ++phase) {
    Begin(phase);
    EXPECT_TRUE(callout_answer_is_empty(&answer_));
    EXPECT_EQ(Bytes(), "");
  }
}

TEST_F(AnswerTest, SaysAppendInBothForms) {
  Begin(CALLOUT_REQUEST_HEADERS);
  Set("a", "1", CALLOUT_APPEND_IF_EXISTS_OR_ADD);
  Set("b", "2", CALLOUT_OVERWRITE_IF_EXISTS_OR_ADD);
  const auto mutation = Parse<HeadersResponse>().response().header_mutation();
  ASSERT_EQ(mutation.set_headers_size(), 2);
  EXPECT_TRUE(mutation.set_headers(0).append().value());
  EXPECT_EQ(mutation.set_headers(0).append_action(), HeaderValueOption::APPEND_IF_EXISTS_OR_ADD);
  EXPECT_FALSE(mutation.set_headers(1).append().value());
  EXPECT_EQ(mutation.set_headers(1).append_action(), HeaderValueOption::OVERWRITE_IF_EXISTS_OR_ADD);
}

TEST_F(AnswerTest, PutsValuesIntoRawValueOnly) {
  Begin(CALLOUT_REQUEST_HEADERS);
  Set("a", "1");
  const auto mutation = Parse<HeadersResponse>().response().header_mutation();
  EXPECT_EQ(mutation.set_headers(0).header().raw_value(), "1");
  EXPECT_EQ(mutation.set_headers(0).header().value(), "");
}

TEST_F(AnswerTest, SettlesAddIfAbsentAgainstTheCallsHeaders) {
  Begin(CALLOUT_REQUEST_HEADERS, HeadersMessage({"Here"}));
  Set("hERE", "1", CALLOUT_ADD_IF_ABSENT);
  Set("absent", "2", CALLOUT_ADD_IF_ABSENT);
  Set("absent", "3", CALLOUT_ADD_IF_ABSENT);
  const auto mutation = Parse<HeadersResponse>().response().header_mutation();
  ASSERT_EQ(mutation.set_headers_size(), 1);
  EXPECT_EQ(mutation.set_headers(0).header().raw_value(), "2");
  EXPECT_FALSE(mutation.set_headers(0).append().value());
  EXPECT_EQ(mutation.set_headers(0).append_action(), HeaderValueOption::ADD_IF_ABSENT);
}

TEST_F(AnswerTest, SettlesOverwriteIfExistsAgainstTheCallsHeaders) {
  Begin(CALLOUT_REQUEST_HEADERS, HeadersMessage({"Here", "gone"}));
  Set("here", "1", CALLOUT_OVERWRITE_IF_EXISTS);
  Set("absent", "2", CALLOUT_OVERWRITE_IF_EXISTS);
  Remove("gone");
  Set("gone", "3", CALLOUT_OVERWRITE_IF_EXISTS);
  const auto mutation = Parse<HeadersResponse>().response().header_mutation();
  ASSERT_EQ(mutation.set_headers_size(), 1);
  EXPECT_EQ(mutation.set_headers(0).header().key(), "here");
}

TEST_F(AnswerTest, SeesItsOwnRemovalWhenItAddsIfAbsent) {
  Begin(CALLOUT_REQUEST_HEADERS, HeadersMessage({"x"}));
  Remove("x");
  Set("x", "new", CALLOUT_ADD_IF_ABSENT);
  const auto mutation = Parse<HeadersResponse>().response().header_mutation();
  ASSERT_EQ(mutation.set_headers_size(), 1);
  ASSERT_EQ(mutation.remove_headers_size(), 1);
}

TEST_F(AnswerTest, CannotSettleAgainstHeadersItDoesNotHave) {
  for (callout_append_action_t action : {CALLOUT_ADD_IF_ABSENT, CALLOUT_OVERWRITE_IF_EXISTS}) {
    Begin(CALLOUT_REQUEST_BODY);
    Set("x", "1", action);
    EXPECT_EQ(answer_.status, CALLOUT_INVALID_ARGUMENT);
    EXPECT_NE(std::string(answer_.reason).find("need the headers"), std::string::npos);
  }
  Begin(CALLOUT_REQUEST_BODY);
  const std::string kept = HeadersMessage({"x"});
  answer_.known = to_bytes(kept);
  answer_.has_known = 1;
  Set("x", "1", CALLOUT_OVERWRITE_IF_EXISTS);
  EXPECT_EQ(Parse<BodyResponse>().response().header_mutation().set_headers_size(), 1);
}

TEST_F(AnswerTest, RefusesAnActionThatDoesNotExist) {
  Begin(CALLOUT_REQUEST_HEADERS);
  Set("x", "1", 4);
  EXPECT_EQ(answer_.status, CALLOUT_INVALID_ARGUMENT);
}

TEST_F(AnswerTest, TakesASettingBackWhenItRemovesTheHeader) {
  Begin(CALLOUT_REQUEST_HEADERS);
  Set("a", "1");
  Set("X", "2");
  Set("b", "3");
  Set("x", "4", CALLOUT_APPEND_IF_EXISTS_OR_ADD);
  Remove("x");
  Set("c", std::string(300, 'c'));
  const auto mutation = Parse<HeadersResponse>().response().header_mutation();
  ASSERT_EQ(mutation.set_headers_size(), 3);
  EXPECT_EQ(mutation.set_headers(0).header().key(), "a");
  EXPECT_EQ(mutation.set_headers(1).header().key(), "b");
  EXPECT_EQ(mutation.set_headers(2).header().key(), "c");
  ASSERT_EQ(mutation.remove_headers_size(), 1);
}

TEST_F(AnswerTest, KeepsEmptyValues) {
  Begin(CALLOUT_REQUEST_HEADERS);
  Set("x", "");
  const auto option = Parse<HeadersResponse>().response().header_mutation().set_headers(0);
  EXPECT_EQ(option.header().raw_value(), "");
  EXPECT_TRUE(option.keep_empty_value());
}

TEST_F(AnswerTest, ClearsTheRouteCacheWithAMutationEvenAnEmptyOne) {
  Begin(CALLOUT_REQUEST_HEADERS);
  callout_answer_clear_route_cache(&answer_);
  const auto response = Parse<HeadersResponse>().response();
  EXPECT_TRUE(response.clear_route_cache());
  EXPECT_TRUE(response.has_header_mutation()) << "without it Envoy ignores the clearing";
}

TEST_F(AnswerTest, TellsAnEmptyBodyFromAClearedOne) {
  Begin(CALLOUT_RESPONSE_BODY);
  callout_answer_set_body(&answer_, callout_text(""));
  auto mutation = Parse<BodyResponse>().response().body_mutation();
  EXPECT_TRUE(mutation.has_body());
  EXPECT_EQ(mutation.body(), "");
  Begin(CALLOUT_RESPONSE_BODY);
  callout_answer_clear_body(&answer_);
  mutation = Parse<BodyResponse>().response().body_mutation();
  EXPECT_TRUE(mutation.mutation_case() == BodyMutation::kClearBody);
}

TEST_F(AnswerTest, ReplacesTheBodyFromAHeadersPhase) {
  Begin(CALLOUT_REQUEST_HEADERS);
  callout_answer_set_body(&answer_, callout_text("new"));
  const auto response = Parse<HeadersResponse>().response();
  EXPECT_EQ(response.status(), CommonResponse::CONTINUE_AND_REPLACE);
  EXPECT_EQ(response.body_mutation().body(), "new");
}

TEST_F(AnswerTest, ToTrailersHasNeitherBodyNorRoute) {
  Begin(CALLOUT_REQUEST_TRAILERS);
  callout_answer_set_body(&answer_, callout_text("new"));
  EXPECT_EQ(answer_.status, CALLOUT_INVALID_ARGUMENT);
  Begin(CALLOUT_REQUEST_TRAILERS);
  callout_answer_clear_body(&answer_);
  EXPECT_EQ(answer_.status, CALLOUT_INVALID_ARGUMENT);
  Begin(CALLOUT_REQUEST_TRAILERS);
  callout_answer_clear_route_cache(&answer_);
  EXPECT_EQ(answer_.status, CALLOUT_INVALID_ARGUMENT);
}

TEST_F(AnswerTest, ThatIsImmediateStartsAfresh) {
  Begin(CALLOUT_REQUEST_TRAILERS);
  Set("before", "1");
  callout_answer_immediate(&answer_, 429);
  Set("retry-after", "7");
  Set("retry-after", "8", CALLOUT_ADD_IF_ABSENT);
  Remove("server");
  callout_answer_set_body(&answer_, callout_text("slow down"));
  callout_answer_set_details(&answer_, callout_text("rate limited"));
  callout_answer_set_grpc_status(&answer_, 8);
  const auto response = Parse<ImmediateResponse>();
  EXPECT_EQ(response.status().code(), 429);
  ASSERT_EQ(response.headers().set_headers_size(), 1);
  EXPECT_EQ(response.headers().set_headers(0).header().raw_value(), "7");
  EXPECT_EQ(response.headers().remove_headers(0), "server");
  EXPECT_EQ(response.body(), "slow down");
  EXPECT_EQ(response.details(), "rate limited");
  EXPECT_EQ(response.grpc_status().status(), 8u);
}

TEST_F(AnswerTest, ThatIsImmediateCanSayGrpcOk) {
  Begin(CALLOUT_REQUEST_HEADERS);
  callout_answer_immediate(&answer_, 200);
  EXPECT_FALSE(Parse<ImmediateResponse>().has_grpc_status());
  callout_answer_set_grpc_status(&answer_, 0);
  ImmediateResponse response;
  ASSERT_TRUE(response.ParseFromString(Bytes()));
  EXPECT_TRUE(response.has_grpc_status());
}

TEST_F(AnswerTest, ThatIsImmediateNeedsAStatusHttpHas) {
  for (uint32_t status : {0u, 100u, 199u, 600u, 65736u}) {
    Begin(CALLOUT_REQUEST_HEADERS);
    callout_answer_immediate(&answer_, status);
    EXPECT_EQ(answer_.status, CALLOUT_INVALID_ARGUMENT) << status;
  }
}

TEST_F(AnswerTest, CannotBeMadeOutsideThePhases) {
  Begin(0);
  callout_answer_immediate(&answer_, 403);
  callout_answer_parts_t parts;
  EXPECT_EQ(callout_answer_make_parts(&answer_, &parts), CALLOUT_FAILED_PRECONDITION);
}

// --- Random answers against the generated classes ---

// The same steps taken on the generated class; removal takes settings back.
void OracleRemove(const std::string& key, HeaderMutation* mutation) {
  HeaderMutation kept;
  for (const auto& option : mutation->set_headers()) {
    const std::string& name = option.header().key();
    if (!callout_names_equal(to_bytes(name), to_bytes(key))) *kept.add_set_headers() = option;
  }
  mutation->mutable_set_headers()->Swap(kept.mutable_set_headers());
  mutation->add_remove_headers(key);
}

void OracleSet(const std::string& key, const std::string& value, bool append,
               HeaderMutation* mutation) {
  HeaderValueOption* option = mutation->add_set_headers();
  option->mutable_header()->set_key(key);
  option->mutable_header()->set_raw_value(value);
  if (append) {
    option->mutable_append()->set_value(true);
  } else {
    option->set_append_action(HeaderValueOption::OVERWRITE_IF_EXISTS_OR_ADD);
  }
  option->set_keep_empty_value(value.empty());
}

TEST_F(AnswerTest, EqualsTheGeneratedClassesOnRandomSteps) {
  Random random;
  for (int round = 0; round < 1000; ++round) {
    const auto phase = static_cast<callout_phase_t>(2 + random.Below(6));
    Begin(phase);
    HeaderMutation mutation;
    const size_t steps = random.Below(8);
    for (size_t i = 0; i < steps; ++i) {
      const std::string key = random.Name();
      if (random.Chance(30)) {
        Remove(key);
        OracleRemove(key, &mutation);
      } else {
        const std::string value = random.Chance(10) ? "" : random.Bytes();
        const bool append = random.Chance(30);
        Set(key, value,
            append ? CALLOUT_APPEND_IF_EXISTS_OR_ADD : CALLOUT_OVERWRITE_IF_EXISTS_OR_ADD);
        OracleSet(key, value, append, &mutation);
      }
    }
    if (callout_is_trailers_phase(phase)) {
      TrailersResponse oracle;
      if (steps > 0) *oracle.mutable_header_mutation() = mutation;
      ASSERT_TRUE(MessageDifferencer::Equivalent(Parse<TrailersResponse>(), oracle));
      continue;
    }
    CommonResponse common;
    if (steps > 0) *common.mutable_header_mutation() = mutation;
    const std::string body = random.Bytes();
    if (random.Chance(50)) {
      callout_answer_set_body(&answer_, to_bytes(body));
      common.mutable_body_mutation()->set_body(body);
      if (callout_is_headers_phase(phase)) common.set_status(CommonResponse::CONTINUE_AND_REPLACE);
    }
    if (random.Chance(50)) {
      callout_answer_clear_route_cache(&answer_);
      common.set_clear_route_cache(true);
      common.mutable_header_mutation();
    }
    HeadersResponse oracle;
    if (common.ByteSizeLong() > 0) *oracle.mutable_response() = common;
    ASSERT_TRUE(MessageDifferencer::Equals(Parse<HeadersResponse>(), oracle))
        << oracle.DebugString();
  }
}

}  // namespace
}  // namespace callout
