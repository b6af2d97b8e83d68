// SPDX-License-Identifier: Apache-2.0

// A configuration file, YAML or JSON, as values that can be looked up by the names of
// its schema, each with its path in the file.
//
//   absl::StatusOr<std::vector<nlohmann::json>> documents = ParseDocuments(text);
//   const Place filter = Place::Root(documents->front()).Get("static_resources");
//   filter.Get("message_timeout").path();   // "static_resources.message_timeout", there or not
//
// A scalar of YAML is a text here, whatever it looks like; readers take both.
//
// Plain functions and values; any thread. A Place refers to its document.
//
// Tested by tests/host/deploy/config_document_test.cc.
#ifndef CALLOUT_HOST_DEPLOY_CONFIG_DOCUMENT_H_
#define CALLOUT_HOST_DEPLOY_CONFIG_DOCUMENT_H_

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace callout::host {

// Of one file, with what YAML's aliases repeat.
inline constexpr size_t kDocumentBytesMax = size_t{64} << 20;
inline constexpr size_t kDocumentValuesMax = 2'000'000;
inline constexpr int kDocumentDepthMax = 100;

// INVALID_ARGUMENT says what is wrong and in which line. Documents without content are left out.
absl::StatusOr<std::vector<nlohmann::json>> ParseDocuments(const std::string& text);

class Place {
 public:
  static Place Root(const nlohmann::json& document, std::string path = "") {
    return {&document, std::move(path)};
  }

  const std::string& path() const { return path_; }
  bool there() const { return value_ != nullptr && !value_->is_null(); }
  bool IsObject() const { return there() && value_->is_object(); }
  bool IsArray() const { return there() && value_->is_array(); }

  // A field by its name in snake_case, which protobuf's JSON also writes in camelCase.
  Place Get(std::string_view snake_name) const;
  // By exactly this name.
  Place At(const std::string& name) const;
  // "a.b.c", as Get.
  Place Find(std::string_view dotted) const;
  // Elements of an array, or values of an object; none of anything else.
  std::vector<Place> Children() const;

  // A scalar's text; "" if it is none.
  std::string Text() const;
  // What to show of it: "not set", a scalar, or the kind and size of what it is.
  std::string Shown() const;
  // As YAML 1.1 writes it, which Envoy and Kubernetes read: true, yes, on, y, and their opposites,
  // small, with a capital, or in capitals.
  std::optional<bool> Bool() const;
  std::optional<uint64_t> Number() const;
  // "0.5s", "500ms", "1m30s".
  std::optional<uint64_t> DurationMs() const;
  // "1048576", "1Mi", "2M".
  std::optional<uint64_t> Quantity() const;
  std::vector<std::string> Texts() const;  // of an array of scalars

 private:
  Place(const nlohmann::json* value, std::string path) : value_(value), path_(std::move(path)) {}

  const nlohmann::json* value_;  // null: not there
  std::string path_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_DEPLOY_CONFIG_DOCUMENT_H_
