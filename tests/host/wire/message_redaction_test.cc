// SPDX-License-Identifier: Apache-2.0

#include "host/wire/message_redaction.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "envoy/service/ext_proc/v3/external_processor.pb.h"
#include "tests/host/marker_planter.h"

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

namespace callout::host {
namespace {

using envoy::service::ext_proc::v3::ProcessingRequest;
using envoy::service::ext_proc::v3::ProcessingResponse;
using google::protobuf::Message;
using google::protobuf::util::MessageDifferencer;
using ::testing::HasSubstr;
using ::testing::Not;

// What is left of a message that hides every name.
std::vector<std::string> Survivors(MessageKind kind, Message* message, int choice) {
  MarkerPlanter planter(choice);
  planter.Fill(message, "");
  EXPECT_FALSE(planter.markers().empty());
  const Redaction all({"*"});
  MessageRedactor redactor(all);
  const std::string bytes = message->SerializeAsString();
  std::string stripped, kept;
  uint64_t body_bytes = 0;
  EXPECT_TRUE(StripBody(kind, bytes, &stripped, &body_bytes));
  redactor.Learn(kind, stripped);
  EXPECT_TRUE(redactor.Rewrite(kind, stripped, &kept));
  return planter.FoundIn(kept);
}

// Names may stay; so may the code that a plugin writes into Envoy's log.
bool MayStay(const std::string& path) {
  return path.ends_with(".key") || path.ends_with(".remove_headers") || path.ends_with(".details");
}

TEST(MessageRedaction, LeavesNoValueOfAnyFieldThatHasAHiddenName) {
  for (int choice = 0; choice < 48; ++choice) {
    ProcessingRequest request;
    for (const std::string& path : Survivors(MessageKind::kRequest, &request, choice)) {
      EXPECT_TRUE(MayStay(path)) << path;
    }
    ProcessingResponse response;
    for (const std::string& path : Survivors(MessageKind::kResponse, &response, choice)) {
      EXPECT_TRUE(MayStay(path)) << path;
    }
  }
}

void AddHeader(const std::string& key, const std::string& value,
               envoy::config::core::v3::HeaderMap* map) {
  auto* header = map->add_headers();
  header->set_key(key);
  header->set_raw_value(value);
}

ProcessingRequest RequestWith(const std::string& key, const std::string& value) {
  ProcessingRequest request;
  AddHeader(key, value, request.mutable_request_headers()->mutable_headers());
  return request;
}

// Learns all, then rewrites all.
template <class... Kept>
std::string Redact(const Redaction& redaction, const ProcessingRequest& request,
                   const ProcessingResponse& response) {
  MessageRedactor redactor(redaction);
  redactor.Learn(MessageKind::kRequest, request.SerializeAsString());
  redactor.Learn(MessageKind::kResponse, response.SerializeAsString());
  std::string kept;
  EXPECT_TRUE(redactor.Rewrite(MessageKind::kRequest, request.SerializeAsString(), &kept));
  EXPECT_TRUE(redactor.Rewrite(MessageKind::kResponse, response.SerializeAsString(), &kept));
  return kept;
}

TEST(MessageRedaction, TakesASecretOutWhereverAPluginCopiesIt) {
  const std::string token = "tok-0123456789";
  ProcessingRequest request = RequestWith("authorization", "Bearer " + token);
  ProcessingResponse response;
  auto* common = response.mutable_request_headers()->mutable_response();
  auto* option = common->mutable_header_mutation()->add_set_headers();
  option->mutable_header()->set_key("x-copy");
  option->mutable_header()->set_raw_value("<" + token + ">");
  common->mutable_body_mutation()->set_body("body with " + token);
  (*response.mutable_dynamic_metadata()->mutable_fields())["user"].set_string_value(token);
  const std::string kept = Redact(Redaction(), request, response);
  EXPECT_THAT(kept, Not(HasSubstr(token)));
  EXPECT_THAT(kept, HasSubstr("<[redacted]>"));
  EXPECT_THAT(kept, HasSubstr("body with **************"));
}

TEST(MessageRedaction, TakesQueriesAndAttributesOut) {
  ProcessingRequest request = RequestWith(":path", "/a?key=query-secret-1");
  auto& attributes = (*request.mutable_attributes())["envoy.filters.http.ext_proc"];
  (*attributes.mutable_fields())["request.path"].set_string_value("/a?key=query-secret-1");
  (*attributes.mutable_fields())["request.query"].set_string_value("key=query-secret-1");
  auto* headers = (*attributes.mutable_fields())["request.headers"].mutable_struct_value();
  (*headers->mutable_fields())["cookie"].set_string_value("sid=cookie-secret");
  (*headers->mutable_fields())["accept"].set_string_value("text/html");
  auto& jwt = (*request.mutable_metadata_context()->mutable_filter_metadata())["jwt_authn"];
  (*jwt.mutable_fields())["sub"].set_string_value("subject-secret");
  auto& other = (*request.mutable_metadata_context()->mutable_filter_metadata())["other"];
  auto* list = (*other.mutable_fields())["session_ids"].mutable_list_value();
  list->add_values()->set_string_value("listed-secret");
  const std::string kept = Redact(Redaction(), request, ProcessingResponse());
  for (const char* secret : {"query-secret", "cookie-secret", "subject-secret", "listed-secret"}) {
    EXPECT_THAT(kept, Not(HasSubstr(secret)));
  }
  for (const char* text : {"/a?[redacted]", "text/html", "request.headers", "session_ids"}) {
    EXPECT_THAT(kept, HasSubstr(text));
  }
}

TEST(MessageRedaction, ChangesNothingElse) {
  ProcessingRequest request = RequestWith("x-text", "a value");
  request.mutable_request_headers()->set_end_of_stream(true);
  request.mutable_protocol_config()->set_send_body_without_waiting_for_header_response(true);
  request.set_observability_mode(true);
  auto& space = (*request.mutable_metadata_context()->mutable_filter_metadata())["space"];
  (*space.mutable_fields())["number"].set_number_value(1.5);
  (*space.mutable_fields())["flag"].set_bool_value(true);
  (*space.mutable_fields())["none"].set_null_value(google::protobuf::NULL_VALUE);
  const Redaction redaction;
  MessageRedactor redactor(redaction);
  const std::string bytes = request.SerializeAsString();
  redactor.Learn(MessageKind::kRequest, bytes);
  std::string kept;
  ASSERT_TRUE(redactor.Rewrite(MessageKind::kRequest, bytes, &kept));
  ProcessingRequest again;
  ASSERT_TRUE(again.ParseFromString(kept));
  EXPECT_TRUE(MessageDifferencer::Equals(request, again)) << again.DebugString();
}

TEST(MessageRedaction, LeavesOutWhatItCannotLookInto) {
  ProcessingResponse response;
  response.mutable_request_headers();
  (*response.mutable_typed_dynamic_metadata())["space"].set_value("any-secret");
  std::string bytes = response.SerializeAsString();
  bytes += std::string("\xa2\x06\x0e", 3) + "unknown-secret";  // field 100
  for (const bool redacts : {true, false}) {
    const Redaction redaction(redacts ? Redaction::DefaultPatterns() : std::vector<std::string>());
    MessageRedactor redactor(redaction);
    std::string kept;
    ASSERT_TRUE(redactor.Rewrite(MessageKind::kResponse, bytes, &kept));
    EXPECT_EQ(kept.find("any-secret") == kept.npos, redacts);
    EXPECT_EQ(kept.find("unknown-secret") == kept.npos, redacts);
  }
}

// As a later Envoy may send it.
TEST(MessageRedaction, LeavesOutWhatItDoesNotKnowBesideNumbers) {
  ProcessingRequest request = RequestWith("x-text", "a value");
  auto* const config = request.mutable_protocol_config();
  config->set_send_body_without_waiting_for_header_response(true);
  auto* const unknown = config->GetReflection()->MutableUnknownFields(config);
  *unknown->AddLengthDelimited(15) = "unknown-secret";
  unknown->AddVarint(14, 7);
  const std::string kept = Redact(Redaction(), request, ProcessingResponse());
  EXPECT_THAT(kept, Not(HasSubstr("unknown-secret")));
  EXPECT_THAT(kept, HasSubstr("\x18\x01\x70\x07"));
}

TEST(MessageRedaction, IsTheSameAppliedTwice) {
  const Redaction redaction;
  ProcessingRequest request = RequestWith("authorization", "Bearer 0123456789abcdef");
  AddHeader(":path", "/a?b=0123456789", request.mutable_request_headers()->mutable_headers());
  const std::string once = Redact(redaction, request, ProcessingResponse());
  ProcessingRequest again;
  ASSERT_TRUE(again.ParseFromString(once));
  EXPECT_EQ(Redact(redaction, again, ProcessingResponse()), once);
}

// The bodies of an exchange, in pieces of these sizes, as RewriteBodies leaves them; "~": a piece
// that was left out.
std::string PiecesKept(const std::string& body, const std::vector<size_t>& sizes,
                       size_t left_out = SIZE_MAX, bool more_left_out = false) {
  const Redaction redaction(Redaction::DefaultPatterns());
  MessageRedactor redactor(redaction);
  redactor.Learn(MessageKind::kRequest,
                 RequestWith("x-token", "0123456789abcdef").SerializeAsString());
  std::vector<std::string> messages;
  std::vector<MessagePiece> pieces;
  size_t at = 0;
  for (size_t i = 0; i < sizes.size(); ++i) {
    ProcessingRequest request;
    request.mutable_request_body()->set_body(
        body.substr(at, i + 1 == sizes.size() ? body.npos : sizes[i]));
    at += sizes[i];
    messages.push_back(request.SerializeAsString());
    if (i == left_out) {
      std::string stripped;
      uint64_t bytes = 0;
      EXPECT_TRUE(StripBody(MessageKind::kRequest, messages.back(), &stripped, &bytes));
      messages.back() = stripped;
    }
    // One of another body lies between, and one that is not a body.
    ProcessingResponse response;
    response.mutable_request_body()->mutable_response()->mutable_body_mutation()->set_body("-");
    messages.push_back(response.SerializeAsString());
    messages.push_back(RequestWith("x-other", "1").SerializeAsString());
  }
  for (size_t i = 0; i < messages.size(); ++i) {
    pieces.push_back({i % 3 == 1 ? MessageKind::kResponse : MessageKind::kRequest,
                      messages[i].data(), messages[i].size(), i == 3 * left_out});
  }
  redactor.RewriteBodies(pieces, more_left_out);
  std::string kept;
  for (size_t i = 0; i < messages.size(); i += 3) {
    ProcessingRequest request;
    EXPECT_TRUE(request.ParseFromString(messages[i]));
    kept += i == 3 * left_out ? "~" : request.request_body().body();
    ProcessingResponse response;
    EXPECT_TRUE(response.ParseFromString(messages[i + 1]));
    EXPECT_EQ(response.request_body().response().body_mutation().body(), "-");
  }
  return kept;
}

TEST(MessageRedaction, TakesOutAValueThatIsCutOverSeveralPiecesOfABody) {
  const std::string body = "a 0123456789abcdef b";
  const std::string without = "a **************** b";
  for (size_t cut = 0; cut <= body.size(); ++cut) {
    EXPECT_EQ(PiecesKept(body, {cut, 0}), without) << cut;
    if (cut + 3 <= body.size()) {
      EXPECT_EQ(PiecesKept(body, {cut, 1, 2, 0}), without) << cut;
    }
  }
  EXPECT_EQ(PiecesKept(body, std::vector<size_t>(body.size(), 1)), without);
  EXPECT_EQ(PiecesKept("a 0123456789abcdeX b", {5, 0}), "a 0123456789abcdeX b");
}

// What is left of a value at the border of a piece that nobody has kept.
TEST(MessageRedaction, TakesOutTheBeginningOfAValueWhoseRestWasLeftOut) {
  EXPECT_EQ(PiecesKept("a 0123456789?????", {12, 5, 0}, 1), "a **********~");
  EXPECT_EQ(PiecesKept("a 0123456?????", {9, 5, 0}, 1), "a 0123456~") << "7 bytes";
  EXPECT_EQ(PiecesKept("12345", {5, 0}, 0), "~");
  EXPECT_EQ(PiecesKept("?????3456789abcdef b", {5, 0}, 0), "~************* b");
  EXPECT_EQ(PiecesKept("?????9abcdef b", {5, 0}, 0), "~9abcdef b") << "7 bytes";
  EXPECT_EQ(PiecesKept("a 0123456789", {5, 0}, SIZE_MAX, true), "a **********");
  EXPECT_EQ(PiecesKept("a 0123456789", {5, 0}), "a 0123456789") << "it has ended so";
}

TEST(MessageRedaction, FindsTheLongestBeginningOfAValueThatRepeatsItself) {
  const Redaction redaction(Redaction::DefaultPatterns());
  MessageRedactor redactor(redaction);
  redactor.Learn(MessageKind::kRequest,
                 RequestWith("x-token", "aaaaaaaabaaaaaaaac").SerializeAsString());
  for (const auto& [text, kept] :
       {std::pair("xaaaaaaaabaaaaaaaa", "x*****************"),
        std::pair("aaaaaaaaaa", "aa********"), std::pair("aaaaaaaabaaaab", "aaaaaaaabaaaab")}) {
    ProcessingRequest request;
    request.mutable_response_body()->set_body(text);
    std::string bytes = request.SerializeAsString();
    redactor.RewriteBodies({{MessageKind::kRequest, bytes.data(), bytes.size(), false}}, true);
    EXPECT_TRUE(request.ParseFromString(bytes));
    EXPECT_EQ(request.response_body().body(), kept);
  }
}

// Short words do not count among those of a value that are looked for.
TEST(MessageRedaction, LeavesOutACookieBehindManyNames) {
  std::string cookie;
  for (int i = 0; i < 100; ++i) cookie += "k" + std::to_string(i) + "=v; ";
  ProcessingRequest request;
  auto* header = request.mutable_request_headers()->mutable_headers()->add_headers();
  header->set_key("cookie");
  header->set_raw_value(cookie + "sid=correcthorse");
  ProcessingResponse response;
  response.mutable_immediate_response()->set_details("for correcthorse");
  const Redaction redaction(Redaction::DefaultPatterns());
  MessageRedactor redactor(redaction);
  redactor.Learn(MessageKind::kRequest, request.SerializeAsString());
  std::string kept;
  ASSERT_TRUE(redactor.Rewrite(MessageKind::kResponse, response.SerializeAsString(), &kept));
  EXPECT_THAT(kept, Not(HasSubstr("correcthorse")));
  EXPECT_TRUE(redactor.complete());
}

// A client chooses how many there are, and each is looked for in all of the exchange.
TEST(MessageRedaction, SaysThatThereAreTooManyValues) {
  const Redaction redaction(Redaction::DefaultPatterns());
  for (const size_t words : {MessageRedactor::kSecretsMax - 1, MessageRedactor::kSecretsMax}) {
    ProcessingRequest request;
    auto* header = request.mutable_request_headers()->mutable_headers()->add_headers();
    header->set_key("cookie");
    for (size_t i = 0; i < words; ++i) {
      header->mutable_raw_value()->append(std::to_string(10'000'000 + i) + " ");
    }
    MessageRedactor redactor(redaction);
    redactor.Learn(MessageKind::kRequest, request.SerializeAsString());
    // The whole value is one, too.
    EXPECT_EQ(redactor.complete(), words < MessageRedactor::kSecretsMax) << words;
  }
}

TEST(MessageRedaction, RefusesMalformedMessages) {
  const Redaction redaction;
  MessageRedactor redactor(redaction);
  std::string kept;
  uint64_t body_bytes = 0;
  for (const std::string& bytes :
       {std::string("\x0a\x05\x01", 3), std::string("\x12\x02\x0a\x05", 4)}) {
    EXPECT_FALSE(redactor.Rewrite(MessageKind::kRequest, bytes, &kept) &&
                 redactor.Rewrite(MessageKind::kResponse, bytes, &kept));
    EXPECT_FALSE(StripBody(MessageKind::kRequest, bytes, &kept, &body_bytes) &&
                 StripBody(MessageKind::kResponse, bytes, &kept, &body_bytes));
  }
}

TEST(StripBody, KeepsTheFormAndCountsTheBytes) {
  ProcessingResponse response;
  auto* streamed = response.mutable_request_body()
                       ->mutable_response()
                       ->mutable_body_mutation()
                       ->mutable_streamed_response();
  streamed->set_body("12345");
  streamed->set_end_of_stream(true);
  const std::string bytes = response.SerializeAsString();
  EXPECT_EQ(BodyBytes(MessageKind::kResponse, bytes), 5u);
  std::string stripped, filled;
  uint64_t body_bytes = 0;
  ASSERT_TRUE(StripBody(MessageKind::kResponse, bytes, &stripped, &body_bytes));
  EXPECT_EQ(body_bytes, 5u);
  ProcessingResponse read;
  ASSERT_TRUE(read.ParseFromString(stripped));
  const auto& left = read.request_body().response().body_mutation();
  ASSERT_TRUE(left.has_streamed_response());
  EXPECT_EQ(left.streamed_response().body(), "");
  EXPECT_TRUE(left.streamed_response().end_of_stream());
  ASSERT_TRUE(FillBody(MessageKind::kResponse, stripped, 5, &filled));
  ASSERT_TRUE(read.ParseFromString(filled));
  EXPECT_EQ(read.request_body().response().body_mutation().streamed_response().body(),
            std::string(5, '\0'));
}

}  // namespace
}  // namespace callout::host
