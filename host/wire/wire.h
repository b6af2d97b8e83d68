// SPDX-License-Identifier: Apache-2.0

// Protobuf's wire format (protobuf.dev/programming-guides/encoding): a reader that gives views and
// trusts no byte, and functions that append to a string.
//
//   message := record*        record := tag value
//   tag     := varint of (field number << 3 | wire type)
//   value   := varint (type 0) | 8 bytes (1) | length bytes (2) | 4 bytes (5)
//
// Groups (types 3 and 4) are malformed here: no message of ext_proc has ever had one.
#ifndef CALLOUT_HOST_WIRE_WIRE_H_
#define CALLOUT_HOST_WIRE_WIRE_H_

#include <callout/plugin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace callout::host {

inline callout_bytes_t ToBytes(std::string_view text) { return {text.data(), text.size()}; }
inline std::string_view ToView(callout_bytes_t bytes) {
  return bytes.data == nullptr ? std::string_view() : std::string_view(bytes.data, bytes.size);
}

class WireReader {
 public:
  explicit WireReader(std::string_view message)
      : cursor_(message.data()), end_(message.data() + message.size()) {}

  // Steps to the next record; false at the end or where the bytes are malformed.
  [[gnu::always_inline]] bool Next() {
    if (cursor_ == end_) return false;
    record_ = cursor_;
    // The common case: a field number below 16, and a text of less than 128 bytes or a number below
    // 128.
    const auto tag = static_cast<unsigned char>(cursor_[0]);
    if (tag < 0x80 && (tag & 5) == 0 && tag > 7 && end_ - cursor_ > 1 &&
        static_cast<unsigned char>(cursor_[1]) < 0x80) {
      number_ = tag >> 3;
      type_ = tag & 7;
      const auto value = static_cast<unsigned char>(cursor_[1]);
      cursor_ += 2;
      if (type_ == 0) {
        varint_ = value;
        return true;
      }
      if (value > end_ - cursor_) return Fail();
      bytes_ = {cursor_, value};
      cursor_ += value;
      return true;
    }
    return NextOfAnyKind();
  }

  // False once malformed bytes were met.
  bool ok() const { return ok_; }

  // Of the current record.
  uint32_t number() const { return number_; }
  bool Is(uint32_t number) const { return number_ == number && type_ == 2; }
  bool IsVarint(uint32_t number) const { return number_ == number && type_ == 0; }
  bool IsFixed64(uint32_t number) const { return number_ == number && type_ == 1; }
  std::string_view bytes() const { return bytes_; }  // where Is()
  uint64_t varint() const { return varint_; }        // where IsVarint()
  uint64_t fixed64() const {                         // where IsFixed64()
    uint64_t value;
    std::memcpy(&value, bytes_.data(), sizeof(value));
    return value;
  }
  std::string_view record() const {  // tag and value
    return {record_, static_cast<size_t>(cursor_ - record_)};
  }

 private:
  [[gnu::noinline]] bool NextOfAnyKind() {
    uint64_t tag;
    if (!ReadVarint(&tag, kShortBytes) || tag > UINT32_MAX || (tag >> 3) == 0) return Fail();
    number_ = static_cast<uint32_t>(tag >> 3);
    type_ = static_cast<uint32_t>(tag & 7);
    switch (type_) {
      case 0:
        return ReadVarint(&varint_, kVarintBytes) || Fail();
      case 1:
        return Skip(8);
      case 2: {
        uint64_t size;
        // Two bytes of length, as a message with the usual headers has.
        const auto* const at = reinterpret_cast<const unsigned char*>(cursor_);
        if (end_ - cursor_ > 1 && at[0] >= 0x80 && at[1] < 0x80) {
          cursor_ += 2;
          return Skip((at[0] & 0x7fu) | static_cast<uint64_t>(at[1]) << 7);
        }
        return (ReadVarint(&size, kShortBytes) && Skip(size)) || Fail();
      }
      case 5:
        return Skip(4);
      default:
        return Fail();
    }
  }

  [[gnu::noinline]] bool Fail() {
    ok_ = false;
    cursor_ = end_;
    return false;
  }

  bool Skip(uint64_t size) {
    if (size > static_cast<uint64_t>(end_ - cursor_)) return Fail();
    bytes_ = {cursor_, static_cast<size_t>(size)};
    cursor_ += size;
    return true;
  }

  // The maximum size of a varint; less in tags and lengths, as in protobuf.
  static constexpr unsigned kVarintBytes = 10;
  static constexpr unsigned kShortBytes = 5;

  bool ReadVarint(uint64_t* value, unsigned bytes_max) {
    uint64_t result = 0;
    for (unsigned shift = 0; shift < 7 * bytes_max; shift += 7) {
      if (cursor_ == end_) return false;
      const auto byte = static_cast<unsigned char>(*cursor_++);
      result |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) {
        *value = result;
        return true;
      }
    }
    return false;
  }

  const char* cursor_;
  const char* const end_;
  const char* record_ = nullptr;
  uint32_t number_ = 0;
  uint32_t type_ = 0;
  uint64_t varint_ = 0;
  std::string_view bytes_;
  bool ok_ = true;
};

// The text of the first record of `message` if that is field `number`, below 16, with a text of 1
// to 127 bytes; else nothing. What WireReader would find, for loops over many short records.
inline std::string_view ShortText(std::string_view message, uint32_t number) {
  if (message.size() < 2) return {};
  const auto tag = static_cast<unsigned char>(message[0]);
  const auto size = static_cast<unsigned char>(message[1]);
  if (tag != (number << 3 | 2) || size >= 0x80 || size > message.size() - 2) return {};
  return {message.data() + 2, size};
}

// Whether all of `message` is well-formed records.
inline bool IsWellFormed(std::string_view message) {
  WireReader reader(message);
  while (reader.Next()) {
  }
  return reader.ok();
}

// The number of records up to the first malformed one.
inline size_t CountRecords(std::string_view message) {
  size_t count = 0;
  // Not char, which has a sign on some machines and none on others.
  const auto* const bytes = reinterpret_cast<const unsigned char*>(message.data());
  size_t begin = 0;
  // The common case, as in WireReader::Next: short texts.
  while (begin + 1 < message.size()) {
    const unsigned tag = bytes[begin];
    const unsigned size = bytes[begin + 1];
    const size_t end = begin + 2 + size;
    if ((tag & 0x87) != 2 || tag < 8 || size >= 0x80 || end > message.size()) break;
    begin = end;
    ++count;
  }
  WireReader rest(message.substr(begin));
  while (rest.Next()) ++count;
  return count;
}

inline size_t VarintSize(uint64_t value) {
  size_t size = 1;
  for (; value >= 0x80; value >>= 7) ++size;
  return size;
}

// The size of a length-delimited record with a payload of `size` bytes.
inline size_t BytesSize(uint32_t number, size_t size) {
  return VarintSize(uint64_t{number} << 3) + VarintSize(size) + size;
}

// The size of a record with a varint.
inline size_t VarintFieldSize(uint32_t number, uint64_t value) {
  return VarintSize(uint64_t{number} << 3) + VarintSize(value);
}

// Writes records to where there is room for them.
class WireWriter {
 public:
  explicit WireWriter(char* to) : to_(to) {}
  void Varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) *to_++ = static_cast<char>(value | 0x80);
    *to_++ = static_cast<char>(value);
  }
  // Tag and length of a record whose `size` bytes of payload follow.
  void Head(uint32_t number, size_t size) {
    Varint(uint64_t{number} << 3 | 2);
    Varint(size);
  }
  void Bytes(std::string_view bytes) {
    if (!bytes.empty()) std::memcpy(to_, bytes.data(), bytes.size());
    to_ += bytes.size();
  }
  void Byte(char byte) { *to_++ = byte; }

 private:
  char* to_;
};

// Up to two varints, which are appended together: a string checks its room each time.
class VarintBuffer {
 public:
  VarintBuffer& Add(uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_[size_++] = static_cast<char>(value | 0x80);
    bytes_[size_++] = static_cast<char>(value);
    return *this;
  }
  void AppendTo(std::string* out) const { out->append(bytes_, size_); }

 private:
  char bytes_[20];
  size_t size_ = 0;
};

inline void AppendRawVarint(uint64_t value, std::string* out) {
  VarintBuffer().Add(value).AppendTo(out);
}

inline void AppendVarint(uint32_t number, uint64_t value, std::string* out) {
  VarintBuffer().Add(uint64_t{number} << 3).Add(value).AppendTo(out);
}

// Tag and length of a record whose `size` bytes of payload follow.
inline void AppendBytesHead(uint32_t number, size_t size, std::string* out) {
  VarintBuffer().Add(uint64_t{number} << 3 | 2).Add(size).AppendTo(out);
}

inline void AppendBytes(uint32_t number, std::string_view payload, std::string* out) {
  AppendBytesHead(number, payload.size(), out);
  out->append(payload);
}

}  // namespace callout::host

#endif  // CALLOUT_HOST_WIRE_WIRE_H_
