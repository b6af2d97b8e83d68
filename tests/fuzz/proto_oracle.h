// SPDX-License-Identifier: Apache-2.0

// The generated classes as what the host's own readers are compared with.
#ifndef CALLOUT_TESTS_FUZZ_PROTO_ORACLE_H_
#define CALLOUT_TESTS_FUZZ_PROTO_ORACLE_H_

#include <google/protobuf/message.h>

#include <string_view>
#include <vector>

namespace callout::host {

// Protobuf says on standard error what it cannot parse; here that is no news.
template <class Message>
bool ParsesAs(std::string_view bytes, Message* message) {
  static const google::protobuf::LogHandler* const silenced =
      reinterpret_cast<google::protobuf::LogHandler*>(google::protobuf::SetLogHandler(nullptr));
  (void)silenced;
  return message->ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
}

// Whether a group is among the unknown fields at any depth: protobuf passes over groups,
// and the host refuses them.
inline bool HasGroup(const google::protobuf::Message& message) {
  const auto* reflection = message.GetReflection();
  const auto& unknown = reflection->GetUnknownFields(message);
  for (int i = 0; i < unknown.field_count(); ++i) {
    if (unknown.field(i).type() == google::protobuf::UnknownField::TYPE_GROUP) return true;
  }
  std::vector<const google::protobuf::FieldDescriptor*> fields;
  reflection->ListFields(message, &fields);
  for (const auto* field : fields) {
    if (field->cpp_type() != google::protobuf::FieldDescriptor::CPPTYPE_MESSAGE) continue;
    if (!field->is_repeated()) {
      if (HasGroup(reflection->GetMessage(message, field))) return true;
      continue;
    }
    for (int i = 0; i < reflection->FieldSize(message, field); ++i) {
      if (HasGroup(reflection->GetRepeatedMessage(message, field, i))) return true;
    }
  }
  return false;
}

// Whether there may be a tag of five bytes with more than 32 bits, of which protobuf drops
// those that are too many. The host refuses such a message, which nobody writes.
inline bool MayHaveWideTag(std::string_view bytes) {
  int continued = 0;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80 && continued >= 4 && byte > 0x0f) return true;
    continued = byte < 0x80 ? 0 : continued + 1;
  }
  return false;
}

}  // namespace callout::host

#endif  // CALLOUT_TESTS_FUZZ_PROTO_ORACLE_H_
