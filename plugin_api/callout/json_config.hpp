// SPDX-License-Identifier: Apache-2.0

// callout/json_config.hpp - a plugin's configuration as a JSON object of which every key has
// to be known. Not part of <callout/plugin.hpp>: it needs nlohmann/json.hpp (Debian's
// nlohmann-json3-dev), a header-only library. CALLOUT_CONFIG_SCHEMA tells others the keys.
//
//   explicit Forwarder(callout::Setup& setup) {
//     JsonConfig config(setup.config());
//     port_ = config.integer("port", {.fallback = 80, .min = 1, .max = 65535});
//     for (const std::string& ip : config.texts("addresses", {})) …
//     config.done();
//   }
//
// Throws std::invalid_argument with what is wrong and what to do, which, thrown by the
// constructor of a plugin's class, is why the host says it does not load the plugin.
// No configuration at all is an object without keys. For one thread.
#ifndef CALLOUT_JSON_CONFIG_HPP_
#define CALLOUT_JSON_CONFIG_HPP_

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace callout {

class JsonConfig {
 public:
  explicit JsonConfig(std::string_view text) : JsonConfig(Parse(text), "") {}

  // The value of `key`, or `fallback`; without one the key is required.
  std::string text(const std::string& key, std::optional<std::string> fallback = std::nullopt) {
    const nlohmann::json* value = find(key, fallback.has_value());
    if (value == nullptr) return *std::move(fallback);
    return check(value->is_string(), key, *value, "a text")->get<std::string>();
  }
  std::optional<std::string> optional_text(const std::string& key) {
    const nlohmann::json* value = find(key, true);
    if (value == nullptr) return std::nullopt;
    return check(value->is_string(), key, *value, "a text")->get<std::string>();
  }
  bool boolean(const std::string& key, bool fallback) {
    const nlohmann::json* value = find(key, true);
    if (value == nullptr) return fallback;
    return check(value->is_boolean(), key, *value, "true or false")->get<bool>();
  }
  struct Range {
    std::optional<int64_t> fallback = std::nullopt;
    int64_t min = 0;
    int64_t max = INT64_MAX;
  };
  int64_t integer(const std::string& key, const Range& range) {
    const nlohmann::json* value = find(key, range.fallback.has_value());
    if (value == nullptr) return *range.fallback;
    const bool fits = value->is_number_integer() && !IsTooLarge(*value) &&
                      value->get<int64_t>() >= range.min && value->get<int64_t>() <= range.max;
    return check(
               fits, key, *value,
               "an integer from " + std::to_string(range.min) + " to " + std::to_string(range.max))
        ->get<int64_t>();
  }
  std::vector<std::string> texts(const std::string& key,
                                 std::optional<std::vector<std::string>> fallback = std::nullopt) {
    const nlohmann::json* value = find(key, fallback.has_value());
    if (value == nullptr) return *std::move(fallback);
    bool fits = value->is_array();
    for (const nlohmann::json& item : *value) fits = fits && item.is_string();
    return check(fits, key, *value, "a list of texts")->get<std::vector<std::string>>();
  }
  // Objects within, to be read (and done) like this one; none if the key is not there.
  std::vector<JsonConfig> objects(const std::string& key) {
    const nlohmann::json* value = find(key, true);
    if (value == nullptr) return {};
    bool fits = value->is_array();
    for (const nlohmann::json& item : *value) fits = fits && item.is_object();
    check(fits, key, *value, "a list of objects");
    std::vector<JsonConfig> items;
    for (size_t i = 0; i < value->size(); ++i) {
      items.push_back(JsonConfig((*value)[i], where_ + key + "[" + std::to_string(i) + "]."));
    }
    return items;
  }

  // A key whose value does not do for a reason of the plugin's own.
  [[noreturn]] void refuse(const std::string& key, const std::string& reason) const {
    throw std::invalid_argument("configuration: \"" + where_ + key + "\" " + reason);
  }

  // To be called once all keys were read.
  void done() const {
    for (const auto& [key, value] : object_.items()) {
      if (is_known(key)) continue;
      for (const std::string& name : known_) {
        if (AreAlike(key, name)) refuse(key, "is not known; did you mean \"" + name + "\"?");
      }
      std::string known;
      for (const std::string& name : known_) known += (known.empty() ? "" : ", ") + name;
      refuse(key, "is not known; there " + (known.empty() ? "are no keys" : "is: " + known));
    }
  }

 private:
  // Lists and objects within each other: values are printed and copied by recursion.
  static constexpr int kDepthMax = 100;

  JsonConfig(nlohmann::json object, std::string where)
      : object_(std::move(object)), where_(std::move(where)) {}

  static nlohmann::json Parse(std::string_view text) {
    if (text.empty()) return nlohmann::json::object();
    bool too_deep = false;
    std::vector<std::set<std::string>> names;  // of the objects that are open
    std::string twice;
    // `depth`: how many are around it.
    const auto keep = [&](int depth, nlohmann::json::parse_event_t event,
                          const nlohmann::json& value) {
      using Event = nlohmann::json::parse_event_t;
      const bool begins = event == Event::object_start || event == Event::array_start;
      too_deep = too_deep || (begins && depth >= kDepthMax);
      if (event == Event::object_start) names.emplace_back();
      if (event == Event::object_end) names.pop_back();
      // The parser would keep the last one, without a word.
      if (event == Event::key && !names.back().insert(value.get<std::string>()).second) {
        if (twice.empty()) twice = value.get<std::string>();
      }
      return !too_deep;
    };
    try {
      nlohmann::json value = nlohmann::json::parse(text, keep);
      if (!twice.empty()) {
        throw std::invalid_argument("configuration: \"" + twice + "\" is there twice");
      }
      if (!too_deep && value.is_object()) return value;
    } catch (const nlohmann::json::parse_error& error) {
      // What was read last is left out: it may be a secret, and this ends up in logs and pages.
      const std::string what = error.what();
      throw std::invalid_argument("configuration: not JSON: " +
                                  what.substr(0, what.find("; last read: ")));
    } catch (const nlohmann::json::exception&) {
      throw std::invalid_argument("configuration: not JSON: a number is out of range");
    }
    if (too_deep) {
      throw std::invalid_argument("configuration: lists and objects are nested more than " +
                                  std::to_string(kDepthMax) + " deep");
    }
    throw std::invalid_argument("configuration: not a JSON object, which begins with {");
  }
  static bool IsTooLarge(const nlohmann::json& value) {
    return value.is_number_unsigned() && value.get<uint64_t>() > uint64_t{INT64_MAX};
  }

  // Whether they differ in two letters that stand together, at most, and are the same in
  // twice as many.
  static bool AreAlike(std::string_view a, std::string_view b) {
    const size_t shorter = std::min(a.size(), b.size());
    size_t begin = 0, end = 0;  // that are the same
    while (begin < shorter && a[begin] == b[begin]) ++begin;
    while (begin + end < shorter && a[a.size() - 1 - end] == b[b.size() - 1 - end]) ++end;
    const size_t different = std::max(a.size(), b.size()) - begin - end;
    return different <= 2 && begin + end >= 2 * different;
  }

  const nlohmann::json* find(const std::string& key, bool optional) {
    known_.push_back(key);
    const auto found = object_.find(key);
    if (found != object_.end()) return &*found;
    if (!optional) refuse_missing(key);
    return nullptr;
  }
  // Keys that are read later are not known yet, hence the question.
  [[noreturn]] void refuse_missing(const std::string& key) const {
    for (const auto& [name, value] : object_.items()) {
      if (is_known(name) || !AreAlike(key, name)) continue;
      refuse(key, "is missing; did you mean it by \"" + name + "\"?");
    }
    refuse(key, "is missing");
  }
  const nlohmann::json* check(bool fits, const std::string& key, const nlohmann::json& value,
                              const std::string& wanted) const {
    if (!fits) refuse(key, "must be " + wanted + ", not " + KindOf(value));
    return &value;
  }
  // A value itself may be a secret.
  static std::string KindOf(const nlohmann::json& value) {
    switch (value.type()) {
      case nlohmann::json::value_t::null:
        return "null";
      case nlohmann::json::value_t::object:
        return "an object";
      case nlohmann::json::value_t::array:
        return "a list";
      case nlohmann::json::value_t::string:
        return "a text";
      case nlohmann::json::value_t::boolean:
        return "true or false";
      default:
        return "a number";
    }
  }
  bool is_known(const std::string& key) const {
    for (const std::string& name : known_) {
      if (name == key) return true;
    }
    return false;
  }

  nlohmann::json object_;
  std::string where_;  // "providers[0]." before the keys of an object within
  std::vector<std::string> known_;
};

}  // namespace callout

#endif  // CALLOUT_JSON_CONFIG_HPP_
