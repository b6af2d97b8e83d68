// SPDX-License-Identifier: Apache-2.0

// The generated classes as what the host's own readers are compared with.
#ifndef CALLOUT_TESTS_FUZZ_PROTO_ORACLE_H_
#define CALLOUT_TESTS_FUZZ_PROTO_ORACLE_H_

#include <google/protobuf/descriptor.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/message.h>
#include <google/protobuf/wire_format_lite.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace callout::host {

// Protobuf says on standard error what it cannot parse; here that is no news.
template <class Message>
bool ParsesAs(std::string_view bytes, Message* message) {
  static const bool silenced = [] {
    google::protobuf::SetLogHandler(nullptr);
    return true;
  }();
  (void)silenced;
  return message->ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
}

// As bytes, with the entries of maps in one order: SerializeAsString may write them in any.
inline std::string InOrder(const google::protobuf::Message& message) {
  std::string bytes;
  google::protobuf::io::StringOutputStream stream(&bytes);
  google::protobuf::io::CodedOutputStream out(&stream);
  out.SetSerializationDeterministic(true);
  message.SerializeToCodedStream(&out);
  out.Trim();
  return bytes;
}

// Whether `is_wanted(field, wire_type)` holds for a record at any depth of a message of this type,
// also within a member of a oneof that another one replaces later. `field` is null for one that the
// type does not have.
template <class Predicate>
bool HasRecord(std::string_view bytes, const google::protobuf::Descriptor& type,
               const Predicate& is_wanted) {
  using google::protobuf::internal::WireFormatLite;
  google::protobuf::io::CodedInputStream input(reinterpret_cast<const uint8_t*>(bytes.data()),
                                               static_cast<int>(bytes.size()));
  for (uint32_t tag = input.ReadTag(); tag != 0; tag = input.ReadTag()) {
    const auto wire_type = WireFormatLite::GetTagWireType(tag);
    const auto* field = type.FindFieldByNumber(WireFormatLite::GetTagFieldNumber(tag));
    if (is_wanted(field, wire_type)) return true;
    if (wire_type != WireFormatLite::WIRETYPE_LENGTH_DELIMITED) {
      if (!WireFormatLite::SkipField(&input, tag)) return false;
      continue;
    }
    uint32_t size = 0;
    std::string payload;
    if (!input.ReadVarint32(&size) || !input.ReadString(&payload, static_cast<int>(size))) {
      return false;
    }
    if (field != nullptr && field->message_type() != nullptr &&
        HasRecord(payload, *field->message_type(), is_wanted)) {
      return true;
    }
  }
  return false;
}

// Protobuf passes over groups that it does not know, and the host refuses them.
inline bool HasGroup(std::string_view bytes, const google::protobuf::Message& message) {
  using google::protobuf::internal::WireFormatLite;
  return HasRecord(bytes, *message.GetDescriptor(), [](const auto*, auto wire_type) {
    return wire_type == WireFormatLite::WIRETYPE_START_GROUP;
  });
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
