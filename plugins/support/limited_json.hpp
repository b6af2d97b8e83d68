// SPDX-License-Identifier: Apache-2.0

// JSON from strangers, read within limits: values nested too deep would overflow the stack of
// whoever walks through them.
//
//   std::optional<nlohmann::json> body = ParseJson<nlohmann::json>(text, {.depth = 32});
//
// Of two members with one name the later counts, unless they are refused. Any thread; throws
// nothing but bad_alloc.
#ifndef CALLOUT_PLUGINS_SUPPORT_LIMITED_JSON_HPP_
#define CALLOUT_PLUGINS_SUPPORT_LIMITED_JSON_HPP_

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace callout::plugins {

struct JsonLimits {
  size_t depth = 32;          // objects and arrays within each other
  size_t members = SIZE_MAX;  // of all objects together; in an ordered_json each is looked for
                              // among those before it
  // Integers beyond 64 bits become binary values with their digits, which no text of JSON
  // gives, instead of the nearest double.
  bool keep_digits = false;
  // Two members with one name are no JSON: for texts that somebody else reads as well, and
  // perhaps another way.
  bool unique_names = false;
};

namespace internal {

// Makes the value while the text is read; false from a function ends the reading.
template <class Json>
class JsonBuilder : public nlohmann::json_sax<Json> {
 public:
  explicit JsonBuilder(const JsonLimits& limits) : limits_(limits) {}

  bool null() override { return Add(nullptr); }
  bool boolean(bool value) override { return Add(value); }
  bool number_integer(typename Json::number_integer_t value) override { return Add(value); }
  bool number_unsigned(typename Json::number_unsigned_t value) override { return Add(value); }
  bool number_float(typename Json::number_float_t value, const std::string& text) override {
    const bool is_integer = text.find_first_of(".eE") == std::string::npos;
    if (!is_integer || !limits_.keep_digits) return Add(value);
    return Add(Json::binary({text.begin(), text.end()}));
  }
  bool string(std::string& value) override { return Add(std::move(value)); }
  bool binary(typename Json::binary_t&) override { return false; }
  bool start_object(std::size_t) override { return Open(Json::object()); }
  bool key(std::string& name) override {
    name_ = std::move(name);
    if (limits_.unique_names && open_.back()->contains(name_)) return false;
    return ++members_ <= limits_.members;
  }
  bool end_object() override { return Close(); }
  bool start_array(std::size_t) override { return Open(Json::array()); }
  bool end_array() override { return Close(); }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override {
    return false;
  }

  Json Take() { return std::move(root_); }

 private:
  Json& Put(Json value) {
    if (open_.empty()) return root_ = std::move(value);
    Json& around = *open_.back();
    if (around.is_object()) return around[name_] = std::move(value);
    around.push_back(std::move(value));
    return around.back();
  }
  bool Add(Json value) {
    Put(std::move(value));
    return true;
  }
  bool Open(Json value) {
    if (open_.size() == limits_.depth) return false;
    open_.push_back(&Put(std::move(value)));
    return true;
  }
  bool Close() {
    open_.pop_back();
    return true;
  }

  const JsonLimits limits_;
  Json root_;
  std::vector<Json*> open_;  // what is around grows only after what is within is closed
  std::string name_;
  size_t members_ = 0;
};

}  // namespace internal

// nullopt: not JSON (RFC 8259), not UTF-8, over a limit, or a number beyond a double.
template <class Json>
std::optional<Json> ParseJson(std::string_view text, const JsonLimits& limits) {
  internal::JsonBuilder<Json> builder(limits);
  if (!Json::sax_parse(text.begin(), text.end(), &builder)) return std::nullopt;
  return builder.Take();
}

}  // namespace callout::plugins

#endif  // CALLOUT_PLUGINS_SUPPORT_LIMITED_JSON_HPP_
