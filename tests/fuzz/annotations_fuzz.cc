// SPDX-License-Identifier: Apache-2.0

// What stands beside a response: any records, held against the generated classes; and two
// Structs, merged by the host and by a model on the generated classes.
//
// Readers: host/wire/annotations.cc
#include <google/protobuf/util/message_differencer.h>

#include <algorithm>
#include <string>

#include "envoy/service/ext_proc/v3/external_processor.pb.h"
#include "host/wire/annotations.h"
#include "host/wire/envelope.h"
#include "host/wire/wire.h"
#include "tests/fuzz/proto_oracle.h"
#include "tests/fuzz/target.h"

namespace callout::host {
namespace {

namespace ext_proc = envoy::service::ext_proc::v3;
using google::protobuf::Struct;
using google::protobuf::Value;

void FillStruct(Choices& choices, int depth, Struct* into);

void FillValue(Choices& choices, int depth, Value* value) {
  switch (choices.Next(6)) {
    case 0:
      value->set_number_value(choices.Next(4));
      break;
    case 1:
      value->set_string_value(choices.OneIn(4) ? "s\n" : "s");
      break;
    case 2:
      value->set_bool_value(true);
      break;
    case 3:
      if (depth > 0) FillValue(choices, depth - 1, value->mutable_list_value()->add_values());
      break;
    default:
      if (depth > 0) FillStruct(choices, depth - 1, value->mutable_struct_value());
  }
}

void FillStruct(Choices& choices, int depth, Struct* into) {
  for (unsigned i = choices.Next(4); i > 0; --i) {
    const std::string key(1, static_cast<char>('a' + choices.Next(3)));
    FillValue(choices, depth, &(*into->mutable_fields())[key]);
  }
}

bool HasControls(const Struct& checked);

bool HasControls(const Value& value) {
  if (value.has_struct_value()) return HasControls(value.struct_value());
  const auto& items = value.list_value().values();
  return value.string_value() == "s\n" ||
         std::any_of(items.begin(), items.end(),
                     [](const Value& item) { return HasControls(item); });
}

bool HasControls(const Struct& checked) {
  const auto& fields = checked.fields();
  return std::any_of(fields.begin(), fields.end(),
                     [](const auto& field) { return HasControls(field.second); });
}

void MergeModel(const Struct& later, Struct* into) {
  for (const auto& [key, value] : later.fields()) {
    Value& old = (*into->mutable_fields())[key];
    if (old.has_struct_value() && value.has_struct_value()) {
      MergeModel(value.struct_value(), old.mutable_struct_value());
    } else {
      old = value;
    }
  }
}

std::string MergeTwo(Choices& choices) {
  Struct earlier;
  Struct later;
  FillStruct(choices, 5, &earlier);
  FillStruct(choices, 5, &later);
  std::string merged;
  if (!MergeStructs(earlier.SerializeAsString(), later.SerializeAsString(), &merged)) {
    return "two Structs cannot be merged";
  }
  Struct read;
  if (!ParsesAs(merged, &read)) return "what was merged is no Struct";
  MergeModel(later, &earlier);
  if (StructHasControls(merged) != HasControls(earlier)) return "controls are seen, or are not";
  return google::protobuf::util::MessageDifferencer::Equals(read, earlier)
             ? ""
             : "merged " + read.ShortDebugString() + "\n  not " + earlier.ShortDebugString();
}

std::string ReadRecords(const std::string& records) {
  Response response;
  std::string annotations;
  if (!SplitResponse(records, &response, &annotations)) return "";
  (void)HasModeOverride(annotations);
  (void)NeedsWork(annotations);
  if (!AnnotationsAreWellFormed(annotations)) return "";
  ext_proc::ProcessingResponse expected;
  if (!ParsesAs(annotations, &expected)) return "what protobuf refuses is called well formed";

  Annotations read = ReadAnnotations(annotations);
  std::string out = read.rest;
  if (read.has_dynamic_metadata) AppendBytes(CALLOUT_DYNAMIC_METADATA, read.dynamic_metadata, &out);
  const auto mode = static_cast<callout_body_mode_t>(records.size() % 5);
  ModeOverride::Modes now;
  now.request_body = mode;
  now.response_body = CALLOUT_BODY_BUFFERED;
  now.response_trailers = static_cast<uint32_t>(records.size() % 3);
  read.mode_override.Keep(~uint64_t{0}, now);
  read.mode_override.Complete(now);
  AppendBytes(CALLOUT_MODE_OVERRIDE, read.mode_override.Write(), &out);
  ext_proc::ProcessingResponse written;
  if (!ParsesAs(out, &written)) return "what the host writes of them cannot be parsed";
  if (written.has_dynamic_metadata() != expected.has_dynamic_metadata()) {
    return "dynamic metadata got lost, or came from nowhere";
  }
  const uint64_t timeout_ms = ReadTimeoutMs(annotations);
  ext_proc::ProcessingResponse timeout;
  if (!ParsesAs(WriteTimeoutResponse(timeout_ms), &timeout)) return "a timeout cannot be parsed";
  const auto& duration = timeout.override_message_timeout();
  const auto ms = static_cast<uint64_t>(duration.seconds()) * 1000 +
                  static_cast<uint64_t>(duration.nanos()) / 1000000;
  return ms == timeout_ms ? "" : "a timeout is written as another";
}

FUZZ_TARGET(annotations, .rounds = 20000, .bytes = 24) {
  return choices.Next(2) == 0 ? MergeTwo(choices) : ReadRecords(choices.Rest());
}

}  // namespace
}  // namespace callout::host
