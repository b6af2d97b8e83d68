// SPDX-License-Identifier: Apache-2.0

// From OpenAI's shape to that of Anthropic's messages, and back. Any thread.
#ifndef CALLOUT_PLUGINS_AI_GATEWAY_ANTHROPIC_H_
#define CALLOUT_PLUGINS_AI_GATEWAY_ANTHROPIC_H_

#include <cstdint>
#include <optional>
#include <string>
#include <variant>

#include "openai.h"
#include "sse.h"

namespace ai_gateway {

// The request's body. System messages become `system`, `max_tokens` is this if the client
// sets none. What has no counterpart (tools, images, n above 1) is a problem, since an answer
// to another question would be worse than none.
std::variant<Json, Problem> ToAnthropic(const Json& request, int64_t max_tokens);

// The answer, also an error; `created_s` is the Unix time. nullopt if it is neither.
struct Translated {
  Json body;
  std::optional<Usage> usage;
};
std::optional<Translated> FromAnthropic(const Json& response, int64_t created_s);

// A stream of Anthropic's events on its way to the client.
class AnthropicStream {
 public:
  // `wants_usage`: the client has asked for it.
  AnthropicStream(bool wants_usage, int64_t created_s)
      : wants_usage_(wants_usage), created_s_(created_s) {}
  // What the client gets for the event.
  std::string Take(const SseEvent& event);
  // What the client gets in place of the rest of a stream that cannot be read.
  static std::string Broken(const std::string& reason);
  const std::optional<Usage>& usage() const { return usage_; }

 private:
  std::string Chunk(Json choices) const;
  std::string Delta(Json delta, Json finish_reason) const;
  std::string End() const;
  void Add(const Json& usage);

  const bool wants_usage_;
  const int64_t created_s_;
  std::string id_;
  std::string model_;
  std::optional<Usage> usage_;
};

}  // namespace ai_gateway

#endif  // CALLOUT_PLUGINS_AI_GATEWAY_ANTHROPIC_H_
