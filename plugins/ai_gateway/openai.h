// SPDX-License-Identifier: Apache-2.0

// The shape that clients speak: OpenAI's chat completions. Plain functions; any thread.
#ifndef CALLOUT_PLUGINS_AI_GATEWAY_OPENAI_H_
#define CALLOUT_PLUGINS_AI_GATEWAY_OPENAI_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "sse.h"

namespace ai_gateway {

using Json = nlohmann::json;

// nullopt: not JSON, or nested deeper than 64.
std::optional<Json> ParseBody(std::string_view text);
// nullopt also for what is no object, or names a member twice: the provider might take the
// other `model`.
std::optional<Json> ParseRequest(std::string_view text);
// A member that a provider may read another way than this plugin, which chooses by "model" and
// counts tokens by "stream" and "include_usage": one in other letters, as a server in Go takes it,
// or a "stream" that is neither true nor false. Null: there is none. An object.
const char* FindAmbiguous(const Json& body);
// The member, or null if `object` is no object or has none.
const Json& Member(const Json& object, const char* name);
std::string Dump(const Json& value);

// What a completion cost, as its answer says.
struct Usage {
  uint64_t prompt_tokens = 0;
  uint64_t completion_tokens = 0;
};
// Of the member `usage`; nullopt if it is no object.
std::optional<Usage> ReadUsage(const Json& usage);
Json UsageJson(const Usage& usage);
// A count of tokens; 0 for what is none.
uint64_t Count(const Json& number);

// Why a request cannot be served.
struct Problem {
  uint32_t status = 400;
  std::string message;
  Json param = nullptr;  // the member of the request that is wrong
  Json code = nullptr;
};
std::string ErrorBody(const Problem& problem);
// An error of a provider, in the shape of the client.
Json ErrorJson(const std::string& message, const std::string& type);

// `text` is the body of a request, `body` the same parsed. A stream says what it cost only
// if it is asked to: so it is. Otherwise the body stays as it is, byte for byte.
std::string AskForUsage(std::string_view text, const Json& body);
bool WantsUsage(const Json& body);

// A stream of an OpenAI-style provider on its way to the client.
class OpenaiStream {
 public:
  // `wants_usage`: the client has asked for it itself.
  explicit OpenaiStream(bool wants_usage) : wants_usage_(wants_usage) {}
  // What the client gets for the event. Nothing for the one that only tells the usage, if the
  // client does not expect it.
  std::string Take(const SseEvent& event);
  const std::optional<Usage>& usage() const { return usage_; }

 private:
  const bool wants_usage_;
  std::optional<Usage> usage_;
};

}  // namespace ai_gateway

#endif  // CALLOUT_PLUGINS_AI_GATEWAY_OPENAI_H_
