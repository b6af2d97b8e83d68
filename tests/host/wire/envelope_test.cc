// SPDX-License-Identifier: Apache-2.0

// ProcessingRequests as protobuf writes them, and ProcessingResponses taken apart.
#include "host/wire/envelope.h"

#include <gtest/gtest.h>

#include <string>

#include "envoy/service/ext_proc/v3/external_processor.pb.h"
#include "host/wire/response.h"
#include "host/wire/wire.h"

namespace callout::host {
namespace {

namespace ext_proc = envoy::service::ext_proc::v3;
using envoy::extensions::filters::http::ext_proc::v3::ProcessingMode;

TEST(Envelope, ReadsARequestAsProtobufWritesIt) {
  ext_proc::ProcessingRequest message;
  message.mutable_request_body()->set_body("body");
  (*message.mutable_attributes())["a"];
  message.mutable_metadata_context();
  message.set_observability_mode(true);
  message.mutable_protocol_config()->set_request_body_mode(ProcessingMode::STREAMED);
  message.mutable_protocol_config()->set_response_body_mode(ProcessingMode::BUFFERED);
  message.mutable_protocol_config()->set_send_body_without_waiting_for_header_response(true);
  const std::string bytes = message.SerializeAsString();
  const auto view = ParseRequest(bytes);
  ASSERT_TRUE(view.ok());
  EXPECT_EQ(view->phase, static_cast<callout_phase_t>(CALLOUT_REQUEST_BODY));
  EXPECT_EQ(view->message, message.request_body().SerializeAsString());
  EXPECT_EQ(view->attribute_records.size(), 1u);
  EXPECT_TRUE(view->observability_mode);
  EXPECT_TRUE(view->has_protocol_config);
  EXPECT_EQ(view->protocol_config.request_body_mode,
            static_cast<callout_body_mode_t>(CALLOUT_BODY_STREAMED));
  EXPECT_EQ(view->protocol_config.response_body_mode,
            static_cast<callout_body_mode_t>(CALLOUT_BODY_BUFFERED));
  EXPECT_TRUE(view->protocol_config.send_body_without_waiting);
  EXPECT_FALSE(view->has_unknown_field);
}

TEST(Envelope, RefusesTheSameMessageTwice) {
  ext_proc::ProcessingRequest message;
  message.mutable_request_headers();
  const std::string once = message.SerializeAsString();
  EXPECT_TRUE(ParseRequest(once).ok());
  EXPECT_EQ(ParseRequest(once + once).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(Envelope, OfTwoMessagesTheLastOneCounts) {
  const std::string first("\x12\x00", 2), other("\x3a\x00", 2), last("\x12\x02\x20\x01", 4);
  const std::string bytes = first + other + last;
  const auto view = ParseRequest(bytes);
  ASSERT_TRUE(view.ok()) << view.status();
  EXPECT_EQ(view->message, last.substr(2));
  EXPECT_EQ(MessageOf(bytes, CALLOUT_REQUEST_HEADERS), last.substr(2));
}

TEST(Envelope, TakesAResponseApart) {
  ext_proc::ProcessingResponse message;
  message.mutable_immediate_response()->set_body("no");
  message.mutable_dynamic_metadata();
  Response response;
  std::string annotations;
  ASSERT_TRUE(SplitResponse(message.SerializeAsString(), &response, &annotations));
  EXPECT_EQ(response.field, static_cast<callout_field_t>(CALLOUT_IMMEDIATE_RESPONSE));
  EXPECT_EQ(response.payload(), message.immediate_response().SerializeAsString());
  EXPECT_EQ(annotations, std::string("\x42\x00", 2));
}

std::string Records(uint32_t field, size_t count) {
  std::string records;
  for (size_t i = 0; i < count; ++i) AppendBytes(field, "", &records);
  return records;
}

std::string Wrapped(uint32_t field, const std::string& inner) {
  std::string outer;
  AppendBytes(field, inner, &outer);
  return outer;
}

// Two bytes of a message make one, and 48 bytes of a list.
TEST(Envelope, AMessageHasSoManyHeadersAndNoMore) {
  for (const callout_phase_t phase : {CALLOUT_REQUEST_HEADERS, CALLOUT_RESPONSE_TRAILERS}) {
    const auto with = [&](size_t count) { return Wrapped(phase, Wrapped(1, Records(1, count))); };
    EXPECT_TRUE(ParseRequest(with(99), 100).ok()) << "the list itself counts";
    EXPECT_EQ(ParseRequest(with(100), 100).status().code(), absl::StatusCode::kResourceExhausted);
  }
  const std::string spread = Wrapped(CALLOUT_REQUEST_HEADERS, Records(1, 5000));
  EXPECT_FALSE(ParseRequest(spread).ok()) << "lists are merged, so they are counted together";
  EXPECT_TRUE(ParseRequest(Wrapped(CALLOUT_REQUEST_BODY, std::string(100000, 0)), 100).ok());
}

TEST(Envelope, AMessageHasSoManyAttributesAndNoMore) {
  const std::string phase = Wrapped(CALLOUT_REQUEST_HEADERS, "");
  EXPECT_TRUE(ParseRequest(Records(9, 100) + phase, 100).ok());
  EXPECT_FALSE(ParseRequest(Records(9, 101) + phase, 100).ok());
  const auto in_one = [&](size_t count) {
    return Wrapped(9, Wrapped(2, Records(1, count))) + phase;
  };
  EXPECT_TRUE(ParseRequest(in_one(98), 100).ok());
  EXPECT_FALSE(ParseRequest(in_one(101), 100).ok());
}

TEST(HeadersMessage, ContentLengthIsFoundWithoutAList) {
  const auto has = [](const std::string& list) {
    HeadersMessageView view;
    EXPECT_TRUE(ReadHeadersMessage(Wrapped(1, list), true, &view));
    return view.has_content_length;
  };
  EXPECT_TRUE(has(Wrapped(1, Wrapped(1, "a")) + Wrapped(1, Wrapped(1, "Content-Length"))));
  EXPECT_FALSE(has(Records(1, 100)));
  HeadersMessageView view;
  EXPECT_FALSE(ReadHeadersMessage(Wrapped(1, Wrapped(1, "\x0a\x7f")), true, &view));
}

}  // namespace
}  // namespace callout::host
