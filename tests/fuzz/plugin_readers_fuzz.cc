// SPDX-License-Identifier: Apache-2.0

// What plugins are given to read and write messages with: wire.h, headers.h and struct.h against
// the generated classes, and the configuration helper against the JSON library.
//
// Readers: plugin_api/callout/wire.h plugin_api/callout/headers.h
// plugin_api/callout/struct.h plugin_api/callout/json_config.hpp
#include <callout/message.h>
#include <callout/struct.h>

#include <callout/json_config.hpp>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "envoy/service/ext_proc/v3/external_processor.pb.h"
#include "host/wire/wire.h"
#include "tests/fuzz/proto_oracle.h"
#include "tests/fuzz/target.h"

namespace callout::host {
namespace {

namespace ext_proc = envoy::service::ext_proc::v3;
using google::protobuf::Struct;
using google::protobuf::Value;

std::string ReadHeaders(const std::string& bytes) {
  callout_headers_t headers = callout_read_headers(ToBytes(bytes));
  std::vector<std::pair<std::string, std::string>> found;
  callout_header_t header;
  while (callout_headers_next(&headers, &header)) {
    found.emplace_back(ToView(header.key), ToView(header.value));
  }
  callout_bytes_t value = {};
  const bool first = callout_headers_first(ToBytes(bytes), callout_text("x"), &value) != 0;
  const size_t all = callout_headers_all(ToBytes(bytes), callout_text("x"), nullptr, 0);
  if (first != (all > 0)) return "the first of a header's values differs from all";
  if (first != (callout_headers_contain(ToBytes(bytes), callout_text("x"), nullptr) != 0) ||
      (first && !callout_headers_contain(ToBytes(bytes), callout_text("X"), &value))) {
    return "a header that is there is not contained";
  }

  callout_headers_t map = callout_read_header_map(ToBytes(bytes));
  while (callout_headers_next(&map, &header)) {
  }
  ext_proc::HttpHeaders expected;
  if (!ParsesAs(bytes, &expected) || HasGroup(bytes, expected) || MayHaveWideTag(bytes)) return "";
  if (headers.malformed) return "headers that protobuf reads are called malformed";
  if (static_cast<int>(found.size()) != expected.headers().headers_size()) {
    return "the number of headers differs";
  }
  for (int i = 0; i < expected.headers().headers_size(); ++i) {
    const auto& wanted = expected.headers().headers(i);
    const auto& [name, text] = found[static_cast<size_t>(i)];
    if (name != wanted.key()) return "a header's name differs";
    if (text != (wanted.raw_value().empty() ? wanted.value() : wanted.raw_value())) {
      return "a header's value differs";
    }
  }
  return "";
}

std::string ReadBody(const std::string& bytes) {
  callout_body_t body;
  const bool reads = callout_read_body(ToBytes(bytes), &body) != 0;
  const bool contains = callout_body_contains(ToBytes(bytes), callout_text("ab")) != 0;
  ext_proc::HttpBody expected;
  if (!ParsesAs(bytes, &expected) || HasGroup(bytes, expected) || MayHaveWideTag(bytes)) return "";
  if (!reads) return "a body that protobuf reads is called malformed";
  if (contains != (expected.body().find("ab") != std::string::npos))
    return "a text is found, or not";
  const bool same = ToView(body.bytes) == expected.body() &&
                    (body.end_of_stream != 0) == expected.end_of_stream();
  return same ? "" : "a body differs";
}

std::string CompareStruct(callout_bytes_t bytes, const Struct& expected, int depth);

std::string CompareValue(const callout_value_t& value, const Value& expected, int depth) {
  if (value.kind != static_cast<callout_value_kind_t>(expected.kind_case())) {
    return "the kind of a value differs";
  }
  switch (expected.kind_case()) {
    case Value::kNumberValue: {
      const double number = expected.number_value();
      return value.number == number || (std::isnan(value.number) && std::isnan(number))
                 ? ""
                 : "a number differs";
    }
    case Value::kStringValue:
      return ToView(value.bytes) == expected.string_value() ? "" : "a text differs";
    case Value::kBoolValue:
      return (value.boolean != 0) == expected.bool_value() ? "" : "a truth differs";
    case Value::kStructValue:
      return CompareStruct(value.bytes, expected.struct_value(), depth + 1);
    case Value::kListValue: {
      callout_reader_t list = callout_read_list(value.bytes);
      callout_value_t item;
      for (const Value& wanted : expected.list_value().values()) {
        if (!callout_list_next(&list, &item)) return "a list is shorter";
        if (std::string error = CompareValue(item, wanted, depth + 1); !error.empty()) return error;
      }
      return callout_list_next(&list, &item) ? "a list is longer" : "";
    }
    default:
      return "";
  }
}

std::string CompareStruct(callout_bytes_t bytes, const Struct& expected, int depth) {
  for (const auto& [key, wanted] : expected.fields()) {
    callout_value_t value;
    if (!callout_struct_find(bytes, ToBytes(key), &value)) return "a field is not found";
    if (std::string error = CompareValue(value, wanted, depth); !error.empty()) return error;
  }
  callout_map_t fields = callout_read_struct(bytes);
  callout_bytes_t key;
  callout_value_t value;
  while (callout_struct_next(&fields, &key, &value)) {
    if (expected.fields().count(std::string(ToView(key))) == 0) return "a field from nowhere";
  }
  return "";
}

// Views cannot join two records of one message, as protobuf does: what is compared is what
// protobuf writes.
std::string ReadStruct(const std::string& bytes) {
  Struct expected;
  const bool parses = ParsesAs(bytes, &expected) && !HasGroup(bytes, expected);
  callout_value_t value;
  (void)callout_find_attribute(ToBytes(bytes), callout_text("a"), &value);
  (void)callout_find_metadata(ToBytes(bytes), callout_text("a"), callout_text("b"), &value);
  callout_map_t metadata = callout_read_metadata(ToBytes(bytes));
  callout_bytes_t key;
  while (callout_map_next(&metadata, &key, &value.bytes)) {
  }
  callout_map_t fields = callout_read_struct(ToBytes(bytes));
  while (callout_struct_next(&fields, &key, &value)) {
    callout_reader_t list = callout_read_list(value.bytes);
    callout_value_t item;
    while (callout_list_next(&list, &item)) {
    }
  }
  if (!parses) return "";
  const std::string written = expected.SerializeAsString();
  return CompareStruct(ToBytes(written), expected, 0);
}

// Writes values and makes the same of the generated classes.
class StructWriter {
 public:
  StructWriter(Choices& choices, callout_writer_t* writer) : choices_(choices), writer_(writer) {}

  void Fields(Struct* into, int depth) {
    for (unsigned i = choices_.Next(4); i > 0; --i) {
      const std::string key(1, static_cast<char>('a' + choices_.Next(3)));
      Value& value = (*into->mutable_fields())[key];
      value.Clear();
      Write(ToBytes(key), &value, depth);
    }
  }
  // A key in a list, or none in a struct; an end of nothing.
  bool misused() const { return misused_; }

 private:
  void Items(google::protobuf::ListValue* into, int depth) {
    for (unsigned i = choices_.Next(4); i > 0; --i) {
      Write(CALLOUT_ITEM, into->add_values(), depth);
    }
  }
  void Write(callout_bytes_t key, Value* value, int depth) {
    switch (choices_.Next(depth > 0 ? 8 : 4)) {
      case 0:
        value->set_null_value(google::protobuf::NULL_VALUE);
        return callout_write_null(writer_, key);
      case 1:
        value->set_number_value(choices_.Next(256) / 8.0);
        return callout_write_real(writer_, key, value->number_value());
      case 2:
        // At times longer than one byte says.
        value->set_string_value(std::string(choices_.Next(200), 's'));
        return callout_write_string(writer_, key, ToBytes(value->string_value()));
      case 3:
        value->set_bool_value(choices_.Next(2) == 0);
        return callout_write_bool(writer_, key, value->bool_value());
      case 4:
      case 5:
        callout_write_struct(writer_, key);
        Fields(value->mutable_struct_value(), depth - 1);
        return callout_write_close(writer_);
      case 6:
        callout_write_list(writer_, key);
        Items(value->mutable_list_value(), depth - 1);
        return callout_write_close(writer_);
      default:
        misused_ = true;
        if (choices_.Next(2) == 0) {
          while (writer_->depth > 0 && writer_->status == CALLOUT_OK) callout_write_close(writer_);
          return callout_write_close(writer_);
        }
        return callout_write_null(writer_, key.size == SIZE_MAX ? ToBytes("k") : CALLOUT_ITEM);
    }
  }

  Choices& choices_;
  callout_writer_t* const writer_;
  bool misused_ = false;
};

std::string WriteStruct(Choices& choices) {
  char buffer[64];
  callout_writer_t writer;
  const bool has_buffer = choices.Next(2) == 0;
  const int depth = choices.OneIn(4) ? 3 * CALLOUT_WRITER_DEPTH_MAX : 4;
  callout_writer_init(&writer, has_buffer ? buffer : nullptr, has_buffer ? sizeof(buffer) : 0);
  std::string error;
  // The second time over what the first has written.
  for (int i = 0; i < 2 && error.empty(); ++i) {
    Struct expected, read;
    StructWriter values(choices, &writer);
    values.Fields(&expected, depth);
    const callout_status_t status = callout_writer_status(&writer);
    const callout_bytes_t bytes = callout_writer_bytes(&writer);
    if (values.misused()) {
      if (status == CALLOUT_OK) error = "what is misused reports no error";
    } else if (status == CALLOUT_OK) {
      if (!ParsesAs(ToView(bytes), &read)) error = "what was written cannot be parsed";
      if (error.empty() && read.SerializeAsString().size() != expected.ByteSizeLong()) {
        error = "what was written is something else";
      }
      if (error.empty()) error = CompareStruct(bytes, expected, 0);
    } else if (depth < CALLOUT_WRITER_DEPTH_MAX) {
      error = "what is not deep cannot be written";
    }
    if (status != CALLOUT_OK && bytes.size != 0) error = "an error leaves bytes";
    callout_writer_clear(&writer);
  }
  callout_writer_free(&writer);
  return error;
}

std::string ReadRecords(const std::string& bytes) {
  WireReader host(bytes);
  callout_reader_t plugin = callout_read(ToBytes(bytes));
  while (host.Next()) {
    if (!callout_reader_next(&plugin)) return "a plugin reads fewer records than the host";
    if (plugin.field != host.number()) return "a record's field differs";
    if (host.Is(host.number()) && ToView(plugin.bytes) != host.bytes()) {
      return "a record's bytes differ";
    }
    if (host.IsVarint(host.number()) && plugin.number != host.varint()) {
      return "a record's number differs";
    }
  }
  return "";
}

std::string ReadConfig(const std::string& text) {
  try {
    callout::JsonConfig config(text);
    if (!text.empty() && !nlohmann::json::accept(text)) return "what is no JSON is taken";
    (void)config.text("text", "");
    (void)config.optional_text("maybe");
    const int64_t number = config.integer("n", {.fallback = 1, .min = 0, .max = 9});
    if (number < 0 || number > 9) return "a number is out of its range";
    (void)config.boolean("flag", false);
    (void)config.texts("texts", std::vector<std::string>());
    for (callout::JsonConfig& item : config.objects("objects")) {
      (void)item.text("text");
      item.done();
    }
    config.done();
  } catch (const std::invalid_argument&) {
  }
  return "";
}

FUZZ_TARGET(plugin_readers, .rounds = 20000, .bytes = 24) {
  const unsigned kind = choices.Next(6);
  if (kind == 5) return WriteStruct(choices);
  const std::string bytes = choices.Rest();
  switch (kind) {
    case 0:
      return ReadHeaders(bytes);
    case 1:
      return ReadBody(bytes);
    case 2:
      return ReadStruct(bytes);
    case 3:
      return ReadRecords(bytes);
    default:
      return ReadConfig(bytes);
  }
}

}  // namespace
}  // namespace callout::host
