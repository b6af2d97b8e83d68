// SPDX-License-Identifier: Apache-2.0

// Responses as protobuf writes them, read as views; and what the host writes, read by protobuf.
#include "host/wire/response.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "envoy/service/ext_proc/v3/external_processor.pb.h"
#include "host/wire/field_numbers.h"
#include "host/wire/wire.h"

namespace callout::host {
namespace {

namespace ext_proc = envoy::service::ext_proc::v3;

void FillHeaders(ext_proc::HeaderMutation* mutation) {
  auto* option = mutation->add_set_headers();
  option->mutable_header()->set_key("x-one");
  option->mutable_header()->set_value("ignored");
  option->mutable_header()->set_raw_value("1");
  mutation->add_remove_headers("x-two");
}

void ExpectHeaders(const HeaderMutationView& headers) {
  EXPECT_TRUE(headers.present);
  ASSERT_EQ(headers.set.size(), 1u);
  EXPECT_EQ(headers.set[0].key, "x-one");
  EXPECT_EQ(headers.set[0].value, "1");
  EXPECT_FALSE(headers.set[0].append);
  ASSERT_EQ(headers.remove.size(), 1u);
  EXPECT_EQ(headers.remove[0], "x-two");
}

// A record of less than 128 bytes.
std::string WithRecord(int field, const std::string& payload) {
  return static_cast<char>(field << 3 | 2) + std::string(1, static_cast<char>(payload.size())) +
         payload;
}

TEST(Response, OfHeadersAndBodiesIsReadAsProtobufWritesIt) {
  ext_proc::BodyResponse message;
  auto* common = message.mutable_response();
  common->set_status(ext_proc::CommonResponse::CONTINUE_AND_REPLACE);
  common->set_clear_route_cache(true);
  FillHeaders(common->mutable_header_mutation());
  common->mutable_body_mutation()->set_body("body");
  const std::string bytes = message.SerializeAsString();
  ResponseView view;
  ASSERT_TRUE(ReadResponse(CALLOUT_REQUEST_BODY_RESPONSE, bytes, &view));
  ExpectHeaders(view.headers);
  EXPECT_TRUE(view.continue_and_replace);
  EXPECT_TRUE(view.clear_route_cache);
  EXPECT_EQ(view.body_mutation, ResponseView::Body::kReplaced);
  EXPECT_EQ(view.body, "body");
}

// Also where a size takes two bytes, or records come in another order, twice or not at all.
TEST(Response, OfHeadersOfAnyFormIsReadAsProtobufReadsIt) {
  std::vector<std::string> headers = {"",
                                      "\x0a\x01k",
                                      "\x1a\x01v",
                                      std::string("\x0a\x00\x1a\x00", 4),
                                      "\x1a\x01v\x0a\x01k",
                                      "\x0a\x01k\x1a\x01v\x1a\x01w",
                                      "\x0a\x01k\x1a\x01v\x0a\x01l",
                                      "\x0a\x01k\x12\x01i\x1a\x01v",
                                      "\x0a\x01k\x1a\x02v",
                                      "\x0a\x01k\x1a",
                                      "\x0a\x04k\x1a\x01v",
                                      "\x0a\x01k\x1b\x01v"};
  for (const size_t key_size : {0, 1, 127, 128}) {
    for (const size_t value_size : {0, 1, 127, 128}) {
      envoy::config::core::v3::HeaderValue header;
      header.set_key(std::string(key_size, 'k'));
      header.set_raw_value(std::string(value_size, 'v'));
      headers.push_back(header.SerializeAsString());
    }
  }
  for (const std::string& header : headers) {
    std::string map;
    AppendBytes(field::HeaderMap::kHeaders, header, &map);
    std::string bytes;
    AppendBytes(field::HttpHeaders::kHeaders, map, &bytes);
    ext_proc::HttpHeaders expected;
    const bool valid = expected.ParseFromString(bytes);
    ResponseView view;
    EXPECT_EQ(ReadHttpHeaders(bytes, &view), valid) << testing::PrintToString(header);
    if (!valid) continue;
    ASSERT_EQ(view.headers.set.size(), 1u);
    EXPECT_EQ(view.headers.set[0].key, expected.headers().headers(0).key());
    EXPECT_EQ(view.headers.set[0].value, expected.headers().headers(0).raw_value());
  }
}

TEST(Response, OfTrailersIsReadAsProtobufWritesIt) {
  ext_proc::TrailersResponse message;
  FillHeaders(message.mutable_header_mutation());
  const std::string bytes = message.SerializeAsString();
  ResponseView view;
  ASSERT_TRUE(ReadResponse(CALLOUT_RESPONSE_TRAILERS_RESPONSE, bytes, &view));
  ExpectHeaders(view.headers);
}

TEST(Response, ImmediateIsReadAsProtobufWritesIt) {
  ext_proc::ImmediateResponse message;
  message.mutable_status()->set_code(envoy::type::v3::Forbidden);
  FillHeaders(message.mutable_headers());
  message.set_body("no");
  message.set_details("why");
  const std::string bytes = message.SerializeAsString();
  ResponseView view;
  ASSERT_TRUE(ReadResponse(CALLOUT_IMMEDIATE_RESPONSE, bytes, &view));
  ExpectHeaders(view.headers);
  EXPECT_EQ(view.body, "no");
}

// --- What no writer does, and protobuf reads all the same ---

// Of a message that comes in two records protobuf joins the two.
TEST(Response, AFlagInTwoRecordsStaysSetIfTheSecondSaysNothing) {
  const std::string option = WithRecord(1, WithRecord(1, "x")) +          // header { key: "x" }
                             WithRecord(2, std::string("\x08\x01", 2)) +  // append { value: true }
                             WithRecord(2, "");                           // append { }
  const std::string payload = WithRecord(1, WithRecord(1, option));
  ext_proc::TrailersResponse message;
  ASSERT_TRUE(message.ParseFromString(payload));
  ResponseView view;
  ASSERT_TRUE(ReadResponse(CALLOUT_REQUEST_TRAILERS_RESPONSE, payload, &view));
  EXPECT_TRUE(view.headers.set[0].append);
}

// Names of headers are left to the guard, which does not see the trailers.
TEST(Response, ANameOfATrailerThatIsNotUtf8IsRefused) {
  const std::string payload = WithRecord(1, WithRecord(4, WithRecord(1, WithRecord(1, "\xba"))));
  ResponseView view;
  EXPECT_FALSE(ReadResponse(CALLOUT_REQUEST_BODY_RESPONSE, payload, &view));
}

TEST(Response, AnEnumHas32Bits) {
  const std::string payload = WithRecord(1, "\x08\x81\x80\x80\x80\x10");  // status: 2^32 + 1
  ext_proc::HeadersResponse message;
  ASSERT_TRUE(message.ParseFromString(payload));
  ASSERT_EQ(message.response().status(), ext_proc::CommonResponse::CONTINUE_AND_REPLACE);
  ResponseView view;
  ASSERT_TRUE(ReadResponse(CALLOUT_REQUEST_HEADERS_RESPONSE, payload, &view));
  EXPECT_TRUE(view.continue_and_replace);
}

TEST(Response, AStatusHas32BitsAsWell) {
  const auto status_of = [](uint64_t code) {
    std::string status, payload;
    AppendVarint(field::HttpStatus::kCode, code, &status);
    AppendBytes(field::ImmediateResponse::kStatus, status, &payload);
    return ReadImmediateStatus(CALLOUT_IMMEDIATE_RESPONSE, payload);
  };
  constexpr uint64_t kOver = uint64_t{1} << 32;
  EXPECT_EQ(status_of(kOver + 404), 404u);
  // Envoy answers with 200 where the status is below.
  EXPECT_EQ(status_of(kOver + 5), 200u);
  EXPECT_EQ(status_of(static_cast<uint64_t>(-1)), 200u);
}

TEST(Response, TheLastMemberOfAOneofTakesThePlaceOfThoseBefore) {
  const std::string streamed = WithRecord(3, WithRecord(1, "a") + std::string("\x10\x01", 2));
  const std::string cleared("\x10\x01", 2);
  const std::string payload =
      WithRecord(1, WithRecord(3, streamed + cleared + WithRecord(3, WithRecord(1, "b"))));
  ext_proc::BodyResponse message;
  ASSERT_TRUE(message.ParseFromString(payload));
  ASSERT_FALSE(message.response().body_mutation().streamed_response().end_of_stream());
  ResponseView view;
  ASSERT_TRUE(ReadResponse(CALLOUT_REQUEST_BODY_RESPONSE, payload, &view));
  EXPECT_EQ(view.body, "b");
  EXPECT_FALSE(view.end_of_stream);
}

TEST(Response, OfAStreamedReplyOnlyTheLastPartCounts) {
  const auto headers = [](const std::string& key) {
    return WithRecord(1, WithRecord(1, WithRecord(1, WithRecord(1, key))));
  };
  const std::string payload = headers("x-first") + WithRecord(2, "") + headers("x-last");
  ext_proc::StreamedImmediateResponse message;
  ASSERT_TRUE(message.ParseFromString(payload));
  ASSERT_EQ(message.headers_response().headers().headers_size(), 1);
  ResponseView view;
  ASSERT_TRUE(ReadResponse(CALLOUT_STREAMED_IMMEDIATE_RESPONSE, payload, &view));
  EXPECT_EQ(view.streamed_part, ResponseView::Streamed::kHeaders);
  ASSERT_EQ(view.headers.set.size(), 1u);
  EXPECT_EQ(view.headers.set[0].key, "x-last");
}

TEST(Response, WithAStringThatIsNotUtf8IsRefused) {
  ResponseView view;
  EXPECT_TRUE(ReadResponse(CALLOUT_IMMEDIATE_RESPONSE, "\x2A\x01x", &view));  // details
  EXPECT_FALSE(ReadResponse(CALLOUT_IMMEDIATE_RESPONSE, "\x2A\x01\xFF", &view));
}

// Protobuf refuses each of them, although another record takes the name's place.
TEST(Response, ANameThatIsNotUtf8IsRefusedIfItIsReplacedToo) {
  const auto key = [](const std::string& text) { return WithRecord(1, text); };
  const auto reply = [](const std::string& header) {
    return WithRecord(1, WithRecord(1, WithRecord(1, header)));
  };
  const std::string two_keys = key("x\xaa") + key("x");
  const auto set = [](const std::string& option) {
    return WithRecord(1, WithRecord(2, WithRecord(1, option)));
  };
  const std::pair<callout_field_t, std::string> rows[] = {
      {CALLOUT_STREAMED_IMMEDIATE_RESPONSE, reply(key(":s\xaa")) + WithRecord(3, "")},
      {CALLOUT_STREAMED_IMMEDIATE_RESPONSE, reply(two_keys)},
      {CALLOUT_REQUEST_HEADERS_RESPONSE, set(WithRecord(1, two_keys))},
      {CALLOUT_REQUEST_HEADERS_RESPONSE,
       set(WithRecord(1, key("x\xaa")) + WithRecord(1, key("x")))},
  };
  for (const auto& [field, payload] : rows) {
    ext_proc::ProcessingResponse message;
    EXPECT_FALSE(message.ParseFromString(WithRecord(static_cast<int>(field), payload)));
    ResponseView view;
    EXPECT_FALSE(ReadResponse(field, payload, &view)) << field;
  }
}

TEST(Response, OfAFieldThatHasNoneIsRefused) {
  ResponseView view;
  EXPECT_FALSE(ReadResponse(CALLOUT_DYNAMIC_METADATA, "", &view));
  EXPECT_FALSE(ReadResponse(0, "", &view));
}

TEST(Response, OfTheHostIsWhatProtobufReads) {
  ext_proc::BodyResponse body;
  ASSERT_TRUE(body.ParseFromString(WriteStreamedBody("chunk", true)));
  EXPECT_EQ(body.response().body_mutation().streamed_response().body(), "chunk");
  EXPECT_TRUE(body.response().body_mutation().streamed_response().end_of_stream());

  ASSERT_TRUE(body.ParseFromString(WriteBodyHeaderSet("x-one", "1")));
  const auto& option = body.response().header_mutation().set_headers(0);
  EXPECT_EQ(option.header().key(), "x-one");
  EXPECT_EQ(option.header().raw_value(), "1");
  EXPECT_EQ(option.append_action(),
            envoy::config::core::v3::HeaderValueOption::OVERWRITE_IF_EXISTS_OR_ADD);

  ASSERT_TRUE(body.ParseFromString(WriteBodyHeaderRemoval("x-two")));
  EXPECT_EQ(body.response().header_mutation().remove_headers(0), "x-two");

  ext_proc::ImmediateResponse immediate;
  ASSERT_TRUE(immediate.ParseFromString(WriteImmediateResponse(503, "overload")));
  EXPECT_EQ(static_cast<int>(immediate.status().code()), 503);
  EXPECT_EQ(immediate.details(), "overload");

  ext_proc::StreamedImmediateResponse end;
  ASSERT_TRUE(end.ParseFromString(WriteStreamedImmediateEnd()));
  EXPECT_TRUE(end.body_response().end_of_stream());
}

TEST(HeadersMessage, TellsWhetherThereIsAContentLength) {
  ext_proc::HttpHeaders message;
  auto* header = message.mutable_headers()->add_headers();
  header->set_key("Content-Length");
  header->set_raw_value("3");
  message.set_end_of_stream(true);
  HeadersMessageView view;
  ASSERT_TRUE(ReadHeadersMessage(message.SerializeAsString(), true, &view));
  EXPECT_TRUE(view.end_of_stream);
  EXPECT_TRUE(view.has_content_length);
  EXPECT_EQ(view.content_length, 3u);
  header->set_raw_value("three");
  view = {};
  ASSERT_TRUE(ReadHeadersMessage(message.SerializeAsString(), true, &view));
  EXPECT_TRUE(view.has_content_length);
  EXPECT_EQ(view.content_length, std::nullopt);
  header->set_key("content-length2");
  view = {};
  ASSERT_TRUE(ReadHeadersMessage(message.SerializeAsString(), true, &view));
  EXPECT_FALSE(view.has_content_length);
}

}  // namespace
}  // namespace callout::host
