// SPDX-License-Identifier: Apache-2.0

#include <callout/struct.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <callout/answer.hpp>
#include <callout/view.hpp>
#include <string>

#include "tests/plugin_api/random_messages.h"

namespace callout {
namespace {

using google::protobuf::util::MessageDifferencer;

// --- From the plugin's views to protobuf and back ---

void CopyStruct(const Struct& from, google::protobuf::Struct* to);

void CopyValue(const Value& from, google::protobuf::Value* to) {
  to->Clear();
  if (from.is_null()) to->set_null_value(google::protobuf::NULL_VALUE);
  if (from.is_number()) to->set_number_value(from.number());
  if (from.is_text()) to->set_string_value(std::string(from.text()));
  if (from.is_boolean()) to->set_bool_value(from.boolean());
  if (from.is_object()) CopyStruct(from.object(), to->mutable_struct_value());
  if (from.is_list()) {
    to->mutable_list_value();
    for (Value item : from.list()) CopyValue(item, to->mutable_list_value()->add_values());
  }
}

void CopyStruct(const Struct& from, google::protobuf::Struct* to) {
  for (auto [key, value] : from) CopyValue(value, &(*to->mutable_fields())[std::string(key)]);
}

void WriteStruct(const google::protobuf::Struct& from, callout_writer_t* to);

void WriteValue(const google::protobuf::Value& from, callout_bytes_t key, callout_writer_t* to) {
  switch (from.kind_case()) {
    case google::protobuf::Value::kNullValue:
      return callout_write_null(to, key);
    case google::protobuf::Value::kNumberValue:
      return callout_write_real(to, key, from.number_value());
    case google::protobuf::Value::kStringValue:
      return callout_write_string(to, key, to_bytes(from.string_value()));
    case google::protobuf::Value::kBoolValue:
      return callout_write_bool(to, key, from.bool_value());
    case google::protobuf::Value::kStructValue:
      callout_write_struct(to, key);
      WriteStruct(from.struct_value(), to);
      return callout_write_close(to);
    case google::protobuf::Value::kListValue:
      callout_write_list(to, key);
      for (const auto& item : from.list_value().values()) WriteValue(item, CALLOUT_ITEM, to);
      return callout_write_close(to);
    default:
      callout_write_value(to, key);
      return callout_write_close(to);
  }
}

void WriteStruct(const google::protobuf::Struct& from, callout_writer_t* to) {
  for (const auto& [key, value] : from.fields()) WriteValue(value, to_bytes(key), to);
}

TEST(Struct, IsReadAsProtobufReadsIt) {
  Random random;
  for (int i = 0; i < 1000; ++i) {
    google::protobuf::Struct oracle;
    FillStruct(&random, 4, &oracle);
    const std::string bytes = oracle.SerializeAsString();
    const Struct view(bytes);
    google::protobuf::Struct copy;
    CopyStruct(view, &copy);
    ASSERT_TRUE(MessageDifferencer::Equals(copy, oracle)) << oracle.DebugString();
    for (const auto& [key, value] : oracle.fields()) {
      google::protobuf::Value found;
      CopyValue(view[key], &found);
      ASSERT_TRUE(MessageDifferencer::Equals(found, value));
    }
    ASSERT_FALSE(view["no field has this name"]);
  }
}

TEST(Struct, IsWrittenAsProtobufReadsIt) {
  Random random;
  for (int i = 0; i < 1000; ++i) {
    google::protobuf::Struct oracle;
    FillStruct(&random, 4, &oracle);
    StructWriter writer;
    WriteStruct(oracle, writer.raw());
    ASSERT_EQ(writer.status(), CALLOUT_OK);
    google::protobuf::Struct parsed;
    ASSERT_TRUE(parsed.ParseFromString(std::string(writer.message())));
    ASSERT_TRUE(MessageDifferencer::Equals(parsed, oracle)) << oracle.DebugString();
  }
}

TEST(Struct, ThatIsDamagedIsNeverReadOutsideItsBytes) {
  Random random;
  for (int i = 0; i < 5000; ++i) {
    google::protobuf::Struct oracle;
    FillStruct(&random, 3, &oracle);
    std::string bytes = oracle.SerializeAsString();
    if (bytes.empty()) continue;
    if (random.Chance(50)) {
      bytes.resize(random.Below(bytes.size()));
    } else {
      bytes[random.Below(bytes.size())] = static_cast<char>(random.Below(256));
    }
    // On the heap at its exact size; what is found does not matter here.
    const std::vector<char> exact(bytes.begin(), bytes.end());
    google::protobuf::Struct copy;
    CopyStruct(Struct(std::string_view(exact.data(), exact.size())), &copy);
  }
}

TEST(Struct, HasTheLastOfTwoFieldsOfOneName) {
  StructWriter writer;
  writer.set("a", 1).set("a", 2);
  EXPECT_EQ(Struct(writer.message())["a"].number(), 2);
}

TEST(Struct, FindsNothingInMalformedBytes) {
  StructWriter writer;
  writer.set("a", 1);
  const std::string bytes = std::string(writer.message()) + "\x0a\x7f";
  EXPECT_FALSE(Struct(bytes)["a"]);
}

TEST(Value, OfAnotherKindIsTheDefault) {
  StructWriter writer;
  writer.set("text", "7").set("number", 7).set("bool", true).set("null", nullptr);
  const Struct fields(writer.message());
  EXPECT_EQ(fields["text"].number(3), 3);
  EXPECT_EQ(fields["number"].text("none"), "none");
  EXPECT_FALSE(fields["null"].boolean());
  EXPECT_TRUE(fields["null"].is_null() && fields["null"]);
  EXPECT_FALSE(fields["absent"]["deeper"]["still"].list().begin() != List::End());
}

TEST(StructWriter, TellsTextFromBool) {
  StructWriter writer;
  writer.set("literal", "text").set("string", std::string("text")).set("flag", true);
  const Struct fields(writer.message());
  EXPECT_EQ(fields["literal"].text(), "text");
  EXPECT_EQ(fields["string"].text(), "text");
  EXPECT_TRUE(fields["flag"].is_boolean());
}

TEST(StructWriter, RefusesItemsInStructsAndKeysInLists) {
  StructWriter item;
  item.add(1);
  EXPECT_EQ(item.status(), CALLOUT_INVALID_ARGUMENT);
  StructWriter key;
  key.open_list("list").set("key", 1).close();
  EXPECT_EQ(key.status(), CALLOUT_INVALID_ARGUMENT);
  StructWriter open;
  open.open("never closed");
  EXPECT_EQ(open.status(), CALLOUT_FAILED_PRECONDITION);
  EXPECT_EQ(open.message(), "");
}

TEST(Attributes, AreTheLaterOfTwoDirections) {
  envoy::service::ext_proc::v3::ProcessingRequest first;
  auto& request = (*first.mutable_attributes())["envoy.filters.http.ext_proc"];
  (*request.mutable_fields())["request.path"].set_string_value("/a");
  (*request.mutable_fields())["request.size"].set_number_value(3);
  envoy::service::ext_proc::v3::ProcessingRequest second;
  auto& response = (*second.mutable_attributes())["envoy.filters.http.ext_proc"];
  (*response.mutable_fields())["request.size"].set_number_value(5);
  const std::string both = first.SerializeAsString() + second.SerializeAsString();

  const auto find = [&](const char* name) {
    callout_value_t value = {};
    callout_find_attribute(to_bytes(both), callout_text(name), &value);
    return Value(value);
  };
  EXPECT_EQ(find("request.path").text(), "/a");
  EXPECT_EQ(find("request.size").number(), 5);
  EXPECT_FALSE(find("source.address"));
}

TEST(Metadata, IsFoundByNamespaceAndKey) {
  envoy::config::core::v3::Metadata oracle;
  auto& fields = *(*oracle.mutable_filter_metadata())["my.ns"].mutable_fields();
  fields["user"].set_string_value("ada");
  (*oracle.mutable_filter_metadata())["other.ns"];
  (*oracle.mutable_typed_filter_metadata())["typed"];
  const std::string bytes = oracle.SerializeAsString();
  const Metadata metadata(bytes);
  EXPECT_EQ(metadata["my.ns"]["user"].text(), "ada");
  EXPECT_FALSE(metadata["other.ns"]["user"]);
  EXPECT_FALSE(metadata["no.ns"]["user"]);
  callout_value_t value;
  EXPECT_TRUE(
      callout_find_metadata(to_bytes(bytes), callout_text("my.ns"), callout_text("user"), &value));
  int namespaces = 0;
  for (auto [name, content] : metadata) {
    namespaces += name == "my.ns" || name == "other.ns";
  }
  EXPECT_EQ(namespaces, 2);
}

}  // namespace
}  // namespace callout
