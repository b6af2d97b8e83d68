// SPDX-License-Identifier: Apache-2.0

// Server-sent events, read piece by piece (WHATWG HTML, 9.2).
//
//   SseReader reader(1 << 20);
//   bool good = reader.Read(chunk, [&](const SseEvent& event) { … });
//
// For one thread.
#ifndef CALLOUT_PLUGINS_AI_GATEWAY_SSE_H_
#define CALLOUT_PLUGINS_AI_GATEWAY_SSE_H_

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

namespace ai_gateway {

struct SseEvent {
  std::string name;  // of its `event` field
  std::string data;  // of its `data` fields, one line each; empty for a mere comment
  std::string raw;   // as it came, with its blank line; all of them make up the stream
};

class SseReader {
 public:
  // An event of more bytes than that is refused.
  explicit SseReader(size_t event_bytes_max) : max_(event_bytes_max) {}

  // Takes the next piece, however it was cut, and calls `take` for each event that is
  // complete. False, now and from here on, if an event is too large.
  bool Read(std::string_view piece, const std::function<void(const SseEvent&)>& take);
  // All that came after the last event that was complete.
  const std::string& pending() const { return event_.raw; }

 private:
  void EndLine(const std::function<void(const SseEvent&)>& take);

  const size_t max_;
  SseEvent event_;
  std::string line_;
  bool has_data_ = false;
  bool after_cr_ = false;  // a line feed belongs to the line's end
  bool failed_ = false;
};

}  // namespace ai_gateway

#endif  // CALLOUT_PLUGINS_AI_GATEWAY_SSE_H_
