// SPDX-License-Identifier: Apache-2.0

// callout/testing_trace.hpp - what a plugin has added to the spans of its calls, for unit tests.
// Include <callout/testing.hpp>.
//
//     stream.request_headers({{":path", "/"}});
//     assert(std::get<int64_t>(stream.span(CALLOUT_REQUEST_HEADERS).attributes.at("rule")) == 7);
//
// Every call is recorded, unless set_recorded(false) says that the exchange is not sampled.
#ifndef CALLOUT_TESTING_TRACE_HPP_
#define CALLOUT_TESTING_TRACE_HPP_

#include <callout/trace.h>

#include <callout/view.hpp>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace callout::testing {

using TraceValue = std::variant<std::string, int64_t, double, bool>;
using TraceAttributes = std::map<std::string, TraceValue>;

struct TraceEvent {
  std::string name;
  TraceAttributes attributes;
};

// What was added to the span of one call, within the host's default limits.
struct AddedToSpan {
  callout_phase_t phase = 0;
  TraceAttributes attributes;
  std::vector<TraceEvent> events;
};

namespace internal {

// As of RFC 3629.
inline bool is_utf8(std::string_view text) {
  static constexpr uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  for (size_t i = 0; i < text.size();) {
    const auto first = static_cast<unsigned char>(text[i]);
    const size_t size = first < 0x80   ? 1
                        : first < 0xc0 ? 0
                        : first < 0xe0 ? 2
                        : first < 0xf0 ? 3
                                       : 4;
    if (size == 0 || first > 0xf4 || size > text.size() - i) return false;
    uint32_t character = size == 1 ? first : first & (0x7fu >> size);
    for (size_t k = 1; k < size; ++k) {
      const auto next = static_cast<unsigned char>(text[i + k]);
      if ((next & 0xc0) != 0x80) return false;
      character = character << 6 | (next & 0x3f);
    }
    if (character < kSmallest[size] || character > 0x10ffff ||
        (character >= 0xd800 && character <= 0xdfff)) {
      return false;
    }
    i += size;
  }
  return true;
}

// The spans of one stream.
class FakeSpans {
 public:
  void begin(callout_phase_t phase) { spans_.emplace_back().phase = phase; }
  const std::vector<AddedToSpan>& all() const { return spans_; }

  callout_status_t set(const callout_trace_attribute_t& attribute) {
    TraceAttributes& attributes = spans_.back().attributes;
    if (!is_legal(attribute)) return CALLOUT_INVALID_ARGUMENT;
    const std::string key(to_view(attribute.key));
    const bool is_new = attributes.count(key) == 0;
    if ((is_new && attributes.size() >= kCountMax) || !take(size_of(attribute))) {
      return CALLOUT_RESOURCE_EXHAUSTED;
    }
    attributes[key] = value_of(attribute);
    return CALLOUT_OK;
  }
  callout_status_t add(callout_bytes_t name, const callout_trace_attribute_t* attributes,
                       size_t count) {
    if (!is_name(to_view(name))) return CALLOUT_INVALID_ARGUMENT;
    size_t bytes = kEventBytes + name.size;
    for (size_t i = 0; i < count; ++i) {
      if (!is_legal(attributes[i])) return CALLOUT_INVALID_ARGUMENT;
      if (i < kCountMax) bytes += size_of(attributes[i]);
    }
    std::vector<TraceEvent>& events = spans_.back().events;
    if (events.size() >= kCountMax || !take(bytes)) return CALLOUT_RESOURCE_EXHAUSTED;
    TraceEvent& event = events.emplace_back();
    event.name.assign(to_view(name));
    for (size_t i = 0; i < count && i < kCountMax; ++i) {
      event.attributes[std::string(to_view(attributes[i].key))] = value_of(attributes[i]);
    }
    return CALLOUT_OK;
  }

 private:
  // The defaults of the host.
  static constexpr size_t kCountMax = 128;
  static constexpr size_t kTextBytesMax = 1024;
  static constexpr size_t kBytesMax = 65536;
  // As the host counts.
  static constexpr size_t kAttributeBytes = 96;
  static constexpr size_t kEventBytes = 96;

  static bool is_name(std::string_view name) {
    return !name.empty() && name.size() <= CALLOUT_TRACE_KEY_BYTES_MAX && is_utf8(name);
  }
  static bool is_legal(const callout_trace_attribute_t& attribute) {
    const std::string_view key = to_view(attribute.key);
    if (!is_name(key) || key == "http.response.status_code" || key.substr(0, 8) == "callout.") {
      return false;
    }
    switch (attribute.type) {
      case CALLOUT_TRACE_TEXT:
        return is_utf8(to_view(attribute.text));
      case CALLOUT_TRACE_FLAG:
        return attribute.integer == 0 || attribute.integer == 1;
      default:
        return attribute.type == CALLOUT_TRACE_INTEGER || attribute.type == CALLOUT_TRACE_REAL;
    }
  }
  static std::string_view cut(std::string_view text) {
    if (text.size() <= kTextBytesMax) return text;
    size_t size = kTextBytesMax;
    while ((static_cast<unsigned char>(text[size]) & 0xc0) == 0x80) --size;
    return text.substr(0, size);
  }
  static size_t size_of(const callout_trace_attribute_t& attribute) {
    const bool is_text = attribute.type == CALLOUT_TRACE_TEXT;
    return kAttributeBytes + attribute.key.size +
           (is_text ? cut(to_view(attribute.text)).size() : 0);
  }
  static TraceValue value_of(const callout_trace_attribute_t& attribute) {
    switch (attribute.type) {
      case CALLOUT_TRACE_TEXT:
        return std::string(cut(to_view(attribute.text)));
      case CALLOUT_TRACE_INTEGER:
        return attribute.integer;
      case CALLOUT_TRACE_REAL:
        return attribute.real;
      default:
        return attribute.integer != 0;
    }
  }
  bool take(size_t bytes) {
    if (bytes > kBytesMax - bytes_) return false;
    bytes_ += bytes;
    return true;
  }

  std::vector<AddedToSpan> spans_;
  size_t bytes_ = 0;  // of the exchange
};

}  // namespace internal
}  // namespace callout::testing

#endif  // CALLOUT_TESTING_TRACE_HPP_
