// SPDX-License-Identifier: Apache-2.0

// The fields beside a response, as protobuf writes and reads them.
#include "host/wire/annotations.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "envoy/service/ext_proc/v3/external_processor.pb.h"

namespace callout::host {
namespace {

namespace ext_proc = envoy::service::ext_proc::v3;
using envoy::extensions::filters::http::ext_proc::v3::ProcessingMode;
using google::protobuf::Struct;

Struct Nested(const std::string& outer, const std::string& inner, double number) {
  Struct result;
  (*(*result.mutable_fields())[outer].mutable_struct_value()->mutable_fields())[inner]
      .set_number_value(number);
  return result;
}

TEST(Annotations, MergeStructsDeeply) {
  const Struct earlier = Nested("a", "one", 1);
  Struct later = Nested("a", "two", 2);
  (*later.mutable_fields())["b"].set_string_value("text");
  std::string merged;
  ASSERT_TRUE(MergeStructs(earlier.SerializeAsString(), later.SerializeAsString(), &merged));
  Struct read;
  ASSERT_TRUE(read.ParseFromString(merged));
  EXPECT_EQ(read.fields_size(), 2);
  EXPECT_EQ(read.fields().at("a").struct_value().fields().at("one").number_value(), 1);
  EXPECT_EQ(read.fields().at("a").struct_value().fields().at("two").number_value(), 2);
  EXPECT_EQ(read.fields().at("b").string_value(), "text");
}

TEST(Annotations, ReadWhatProtobufWrites) {
  ext_proc::ProcessingResponse message;
  *message.mutable_dynamic_metadata() = Nested("a", "one", 1);
  message.mutable_mode_override()->set_request_body_mode(ProcessingMode::BUFFERED);
  message.mutable_mode_override()->set_response_trailer_mode(ProcessingMode::SKIP);
  message.mutable_override_message_timeout()->set_seconds(2);
  message.mutable_override_message_timeout()->set_nanos(5'000'000);
  const std::string bytes = message.SerializeAsString();
  EXPECT_TRUE(AnnotationsAreWellFormed(bytes));
  EXPECT_TRUE(NeedsWork(bytes));
  EXPECT_TRUE(HasModeOverride(bytes));
  EXPECT_EQ(ReadTimeoutMs(bytes), 2005u);

  Annotations read = ReadAnnotations(bytes);
  EXPECT_TRUE(read.has_dynamic_metadata);
  EXPECT_EQ(read.rest, "");
  ModeOverride::Modes now;
  now.request_body = CALLOUT_BODY_NONE;
  now.response_body = CALLOUT_BODY_STREAMED;
  read.mode_override.Complete(now);
  ProcessingMode mode;
  ASSERT_TRUE(mode.ParseFromString(read.mode_override.Write()));
  EXPECT_EQ(mode.request_body_mode(), ProcessingMode::BUFFERED);
  EXPECT_EQ(mode.response_body_mode(), ProcessingMode::STREAMED);
  EXPECT_EQ(mode.response_trailer_mode(), ProcessingMode::SKIP);
}

TEST(Annotations, AreRefusedWithTextThatIsNotUtf8) {
  for (const std::string text : {"text", "\xFF"}) {
    // Without protobuf's setters, which check: dynamic_metadata {fields {key, value {string}}}.
    std::string value = "\x1A" + std::string(1, static_cast<char>(text.size())) + text;
    std::string entry = std::string("\x0A\x01k\x12") + static_cast<char>(value.size()) + value;
    std::string fields = std::string("\x0A") + static_cast<char>(entry.size()) + entry;
    std::string record = std::string("\x42") + static_cast<char>(fields.size()) + fields;
    EXPECT_EQ(AnnotationsAreWellFormed(record), text == "text");
  }
}

TEST(Annotations, StringsWithLineEndsOrNulAreFoundHoweverDeep) {
  const auto structs = [](const std::string& text) {
    std::vector<Struct> made(3);
    (*made[0].mutable_fields())["k"].set_string_value(text);
    (*(*made[1].mutable_fields())["k"].mutable_struct_value()->mutable_fields())["k"]
        .set_string_value(text);
    auto* list = (*made[2].mutable_fields())["k"].mutable_list_value();
    list->add_values()->set_number_value(1);
    list->add_values()->mutable_list_value()->add_values()->set_string_value(text);
    return made;
  };
  for (const std::string& text : {std::string("\r"), std::string("a\n"), std::string("\0a", 2)}) {
    for (const Struct& found : structs(text)) {
      EXPECT_TRUE(StructHasControls(found.SerializeAsString()));
    }
  }
  for (const Struct& found : structs("\ta \x7f\xc3\xa9")) {
    EXPECT_FALSE(StructHasControls(found.SerializeAsString()));
  }
  Struct key;
  (*key.mutable_fields())["a\n"].set_string_value("");
  EXPECT_FALSE(StructHasControls(key.SerializeAsString())) << "Envoy writes keys as JSON only";
}

TEST(Annotations, ATimeoutIsWhatProtobufReads) {
  ext_proc::ProcessingResponse message;
  ASSERT_TRUE(message.ParseFromString(WriteTimeoutResponse(2005)));
  EXPECT_EQ(message.override_message_timeout().seconds(), 2);
  EXPECT_EQ(message.override_message_timeout().nanos(), 5'000'000);
}

}  // namespace
}  // namespace callout::host
