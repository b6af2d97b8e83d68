// SPDX-License-Identifier: Apache-2.0

// callout/view.hpp - what a call brings, as C++ views: header fields, and
// google.protobuf.Struct with its values. Include <callout/plugin.hpp>.
//
//     for (callout::Header header : call.headers()) ...
//     for (std::string_view cookie : call.headers().all("cookie")) ...
//     std::string_view path = call.attribute("request.path").text();
//
// Views point into the call's message: they live until the hook returns or, if the
// call is deferred, until it is finished. Nothing here allocates or throws.
#ifndef CALLOUT_VIEW_HPP_
#define CALLOUT_VIEW_HPP_

#if __cplusplus < 201703L
#error "callout's C++ headers need C++17: compile with -std=c++17, or write the plugin in C"
#endif

#include <callout/message.h>

#include <cstddef>
#include <optional>
#include <string_view>

namespace callout {

inline std::string_view to_view(callout_bytes_t bytes) { return {bytes.data, bytes.size}; }
inline callout_bytes_t to_bytes(std::string_view view) {
  return callout_make_bytes(view.data(), view.size());
}

struct Header {
  std::string_view key;
  std::string_view value;
};

namespace internal {

// A forward range over a cursor: a class with `Item` and `bool next(Item*)`.
template <class Cursor>
class Range {
 public:
  using Item = typename Cursor::Item;
  struct End {};
  class Iterator {
   public:
    explicit Iterator(Cursor cursor) : cursor_(cursor) { ++*this; }
    const Item& operator*() const { return item_; }
    const Item* operator->() const { return &item_; }
    Iterator& operator++() {
      has_item_ = cursor_.next(&item_);
      return *this;
    }
    friend bool operator!=(const Iterator& it, End) { return it.has_item_; }

   private:
    Cursor cursor_;
    Item item_{};
    bool has_item_ = false;
  };

  explicit Range(Cursor cursor) : cursor_(cursor) {}
  Iterator begin() const { return Iterator(cursor_); }
  End end() const { return {}; }

 private:
  Cursor cursor_;
};

struct HeaderCursor {
  using Item = Header;
  callout_headers_t headers;
  bool next(Header* item) {
    callout_header_t header;
    if (!callout_headers_next(&headers, &header)) return false;
    *item = {to_view(header.key), to_view(header.value)};
    return true;
  }
};

struct HeaderValueCursor {
  using Item = std::string_view;
  callout_headers_t headers;
  std::string_view key;
  bool next(std::string_view* item) {
    callout_bytes_t value;
    if (!callout_headers_next_of(&headers, to_bytes(key), &value)) return false;
    *item = to_view(value);
    return true;
  }
};

}  // namespace internal

// The fields of HttpHeaders or HttpTrailers, in order. Names compare without case;
// values are raw_value or, where that is empty, value.
class Headers : public internal::Range<internal::HeaderCursor> {
 public:
  // `message` is a serialized HttpHeaders or HttpTrailers.
  explicit Headers(std::string_view message)
      : Range({callout_read_headers(to_bytes(message))}), message_(to_bytes(message)) {}

  // The first value of `key`.
  std::optional<std::string_view> get(std::string_view key) const {
    callout_bytes_t value;
    if (!callout_headers_first(message_, to_bytes(key), &value)) return std::nullopt;
    return to_view(value);
  }
  std::string_view get(std::string_view key, std::string_view otherwise) const {
    return get(key).value_or(otherwise);
  }
  // All values of `key`, in order; `key` has to live as long as the result.
  internal::Range<internal::HeaderValueCursor> all(std::string_view key) const {
    return internal::Range<internal::HeaderValueCursor>({callout_read_headers(message_), key});
  }
  bool contains(std::string_view key) const {
    return callout_headers_contain(message_, to_bytes(key), nullptr) != 0;
  }
  // Whether one of the values of `key` is exactly `value`.
  bool contains(std::string_view key, std::string_view value) const {
    const callout_bytes_t bytes = to_bytes(value);
    return callout_headers_contain(message_, to_bytes(key), &bytes) != 0;
  }

 private:
  callout_bytes_t message_;
};

class Struct;
class List;

// One google.protobuf.Value, or none. Asking for another kind than it is gives the
// empty one, so that a look-up needs no test:
//     if (call.metadata("my.ns", "level").number() > 3) ...
class Value {
 public:
  Value() = default;
  explicit Value(const callout_value_t& value) : value_(value) {}

  callout_value_kind_t kind() const { return value_.kind; }  // CALLOUT_VALUE_*
  explicit operator bool() const { return value_.kind != CALLOUT_VALUE_ABSENT; }
  bool is_null() const { return value_.kind == CALLOUT_VALUE_NULL; }
  bool is_number() const { return value_.kind == CALLOUT_VALUE_NUMBER; }
  bool is_text() const { return value_.kind == CALLOUT_VALUE_STRING; }
  bool is_boolean() const { return value_.kind == CALLOUT_VALUE_BOOL; }
  bool is_object() const { return value_.kind == CALLOUT_VALUE_STRUCT; }
  bool is_list() const { return value_.kind == CALLOUT_VALUE_LIST; }

  std::string_view text(std::string_view otherwise = {}) const {
    return is_text() ? to_view(value_.bytes) : otherwise;
  }
  double number(double otherwise = 0) const { return is_number() ? value_.number : otherwise; }
  bool boolean(bool otherwise = false) const {
    return is_boolean() ? value_.boolean != 0 : otherwise;
  }
  Struct object() const;
  List list() const;
  // A field of an object, however deep: value["a"]["b"].
  Value operator[](std::string_view key) const;

 private:
  callout_value_t value_{};
};

struct Field {
  std::string_view key;
  Value value;
};

namespace internal {

struct FieldCursor {
  using Item = Field;
  callout_map_t fields;
  bool next(Field* item) {
    callout_bytes_t key;
    callout_value_t value;
    if (!callout_struct_next(&fields, &key, &value)) return false;
    *item = {to_view(key), Value(value)};
    return true;
  }
};

struct ItemCursor {
  using Item = Value;
  callout_reader_t list;
  bool next(Value* item) {
    callout_value_t value;
    if (!callout_list_next(&list, &value)) return false;
    *item = Value(value);
    return true;
  }
};

}  // namespace internal

// The fields of a google.protobuf.Struct, as on the wire.
class Struct : public internal::Range<internal::FieldCursor> {
 public:
  Struct() : Struct(std::string_view()) {}
  // `message` is a serialized Struct.
  explicit Struct(std::string_view message)
      : Range({callout_read_struct(to_bytes(message))}), message_(to_bytes(message)) {}

  // The field `key`, or an absent Value.
  Value operator[](std::string_view key) const {
    callout_value_t value;
    return callout_struct_find(message_, to_bytes(key), &value) ? Value(value) : Value();
  }
  std::string_view message() const { return to_view(message_); }

 private:
  callout_bytes_t message_;
};

// The items of a google.protobuf.ListValue.
class List : public internal::Range<internal::ItemCursor> {
 public:
  explicit List(std::string_view message = {}) : Range({callout_read_list(to_bytes(message))}) {}
};

inline Struct Value::object() const {
  return Struct(is_object() ? to_view(value_.bytes) : std::string_view());
}
inline Value Value::operator[](std::string_view key) const { return object()[key]; }
inline List Value::list() const {
  return List(is_list() ? to_view(value_.bytes) : std::string_view());
}

namespace internal {

struct NamespaceItem {
  std::string_view name;
  Struct fields;
};

struct NamespaceCursor {
  using Item = NamespaceItem;
  callout_map_t map;
  bool next(NamespaceItem* item) {
    callout_bytes_t name;
    callout_bytes_t fields;
    if (!callout_map_next(&map, &name, &fields)) return false;
    *item = {to_view(name), Struct(to_view(fields))};
    return true;
  }
};

}  // namespace internal

// What other filters left: for (auto [name, fields] : call.metadata()) ...
class Metadata : public internal::Range<internal::NamespaceCursor> {
 public:
  // `message` is a serialized envoy.config.core.v3.Metadata.
  explicit Metadata(std::string_view message)
      : Range({callout_read_metadata(to_bytes(message))}), message_(to_bytes(message)) {}

  // The fields of one namespace; none if it is not there.
  Struct operator[](std::string_view name) const {
    callout_bytes_t fields;
    if (!callout_map_find(message_, 1, to_bytes(name), &fields)) return Struct();
    return Struct(to_view(fields));
  }

 private:
  callout_bytes_t message_;
};

}  // namespace callout

#endif  // CALLOUT_VIEW_HPP_
