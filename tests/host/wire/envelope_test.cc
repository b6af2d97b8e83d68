// ProcessingRequests as protobuf writes them, and ProcessingResponses taken apart.
#include "host/wire/envelope.h"

#include <gtest/gtest.h>

#include <string>

#include "envoy/service/ext_proc/v3/external_processor.pb.h"

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

}  // namespace
}  // namespace callout::host
