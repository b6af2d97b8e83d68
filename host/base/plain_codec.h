// SPDX-License-Identifier: Apache-2.0

// Encodes values for another process of the same program on the same machine, and decodes them.
// Simple values are copied as they are in memory; strings and lists follow their length.
//
//   struct Point { uint32_t x, y; std::string name; };
//   template <class Archive> void VisitFields(Archive& archive, Point& point) {
//     archive(point.x, point.y, point.name);
//   }
//   const std::string bytes = Encode(point);
//   std::optional<Point> again = Decode<Point>(bytes);
//
// Supports numbers, enums, strings, vectors, maps, optionals, and structs with a VisitFields.
// Decode is safe with any bytes, and accepts only what Encode produces for a value of the same
// type. It does not check whether the number of an enum is a known one.
//
// Tested by tests/host/workers/worker_messages_test.cc.
#ifndef CALLOUT_HOST_BASE_PLAIN_CODEC_H_
#define CALLOUT_HOST_BASE_PLAIN_CODEC_H_

#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace callout::host {

class PlainEncoder {
 public:
  template <class... T>
  void operator()(T&... values) {
    (Put(values), ...);
  }

  std::string Take() { return std::move(bytes_); }

 private:
  template <class T>
  void Put(T& value) {
    if constexpr (std::is_arithmetic_v<T> || std::is_enum_v<T>) {
      bytes_.append(reinterpret_cast<const char*>(&value), sizeof(value));
    } else {
      VisitFields(*this, value);
    }
  }
  void PutSize(uint64_t size) { Put(size); }
  void Put(std::string& text) {
    PutSize(text.size());
    bytes_ += text;
  }
  template <class T>
  void Put(std::vector<T>& values) {
    PutSize(values.size());
    for (T& value : values) Put(value);
  }
  template <class Key, class T>
  void Put(std::map<Key, T>& values) {
    PutSize(values.size());
    for (auto& [key, value] : values) {
      Put(const_cast<Key&>(key));  // only read
      Put(value);
    }
  }
  template <class T>
  void Put(std::optional<T>& value) {
    PutSize(value.has_value() ? 1 : 0);
    if (value.has_value()) Put(*value);
  }

  std::string bytes_;
};

class PlainDecoder {
 public:
  explicit PlainDecoder(std::string_view bytes) : rest_(bytes) {}

  template <class... T>
  void operator()(T&... values) {
    (Get(values), ...);
  }

  // Whether the bytes were exactly those of the values.
  bool complete() const { return good_ && rest_.empty(); }

 private:
  template <class T>
  void Get(T& value) {
    if constexpr (std::is_same_v<T, bool>) {
      uint8_t byte = 0;
      Get(byte);
      good_ = good_ && byte <= 1;
      value = byte != 0;
    } else if constexpr (std::is_arithmetic_v<T> || std::is_enum_v<T>) {
      const std::string_view bytes = Cut(sizeof(value));
      if (good_) std::memcpy(&value, bytes.data(), sizeof(value));
    } else {
      VisitFields(*this, value);
    }
  }
  std::string_view Cut(uint64_t size) {
    good_ = good_ && size <= rest_.size();
    if (!good_) return {};
    const std::string_view bytes = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return bytes;
  }
  // The number of elements that follow. Each takes at least one byte.
  uint64_t GetSize() {
    uint64_t size = 0;
    Get(size);
    good_ = good_ && size <= rest_.size();
    return good_ ? size : 0;
  }
  void Get(std::string& text) { text = Cut(GetSize()); }
  template <class T>
  void Get(std::vector<T>& values) {
    values.clear();
    for (uint64_t left = GetSize(); left > 0 && good_; --left) Get(values.emplace_back());
  }
  template <class Key, class T>
  void Get(std::map<Key, T>& values) {
    values.clear();
    for (uint64_t left = GetSize(); left > 0 && good_; --left) {
      Key key{};
      Get(key);
      good_ = good_ && (values.empty() || values.rbegin()->first < key);
      if (good_) Get(values[std::move(key)]);
    }
  }
  template <class T>
  void Get(std::optional<T>& value) {
    value.reset();
    const uint64_t count = GetSize();
    good_ = good_ && count <= 1;
    if (count != 0) Get(value.emplace());
  }

  std::string_view rest_;
  bool good_ = true;
};

template <class T>
std::string Encode(T value) {
  PlainEncoder encoder;
  encoder(value);
  return encoder.Take();
}

template <class T>
std::optional<T> Decode(std::string_view bytes) {
  PlainDecoder decoder(bytes);
  T value{};
  decoder(value);
  if (!decoder.complete()) return std::nullopt;
  return value;
}

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_PLAIN_CODEC_H_
