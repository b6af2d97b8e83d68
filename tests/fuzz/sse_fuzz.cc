// SPDX-License-Identifier: Apache-2.0

// What ai_gateway reads of clients and providers: server-sent events in any pieces, which
// come to the same as all at once, and requests.
//
// Readers: plugins/ai_gateway/sse.cc plugins/ai_gateway/openai.cc
#include <string>
#include <vector>

#include "ai_gateway/openai.h"
#include "ai_gateway/sse.h"
#include "tests/fuzz/target.h"

namespace callout::host {
namespace {

constexpr size_t kEventMax = 200;

struct Events {
  std::vector<std::string> data;
  std::string raw;
  bool good = true;
};

Events ReadPieces(const std::string& bytes, size_t piece) {
  Events events;
  ai_gateway::SseReader reader(kEventMax);
  for (size_t at = 0; at < bytes.size() && events.good; at += piece) {
    events.good = reader.Read(std::string_view(bytes).substr(at, piece), [&](const auto& event) {
      events.data.push_back(event.name + "=" + event.data);
      events.raw += event.raw;
    });
  }
  events.raw += reader.pending();
  return events;
}

std::string ReadEvents(Choices& choices) {
  const size_t piece = 1 + choices.Next(64);
  const std::string bytes = choices.Rest();
  const Events at_once = ReadPieces(bytes, bytes.size() + 1);
  const Events in_pieces = ReadPieces(bytes, piece);
  if (at_once.good != in_pieces.good) return "an event is too large, or not, by how it was cut";
  if (!at_once.good) return "";
  if (at_once.data != in_pieces.data) return "events differ by how they were cut";
  return at_once.raw == bytes && in_pieces.raw == bytes ? "" : "bytes got lost";
}

// What the client is told by the plugin itself.
std::string Tell(Choices& choices) {
  const ai_gateway::Usage usage = {.prompt_tokens = choices.Next(256),
                                   .completion_tokens = choices.Next(256)};
  const auto read = ai_gateway::ReadUsage(ai_gateway::UsageJson(usage));
  if (!read.has_value() || read->prompt_tokens != usage.prompt_tokens ||
      read->completion_tokens != usage.completion_tokens) {
    return "a usage is read as another";
  }
  const std::string message = choices.Rest();
  const std::string body = ai_gateway::ErrorBody({.message = message, .param = "model"});
  const auto error = ai_gateway::ParseRequest(body);
  if (!error.has_value()) return "an error is no JSON: " + body;
  const ai_gateway::Json& told = ai_gateway::Member(*error, "error");
  return ai_gateway::Member(told, "param") == "model" ? "" : "an error says something else";
}

std::string ReadRequest(const std::string& text) {
  const std::optional<ai_gateway::Json> request = ai_gateway::ParseRequest(text);
  (void)ai_gateway::ParseBody(text);
  if (!request.has_value()) return "";
  if (!request->is_object()) return "what is no object is taken for a request";
  const char* const ambiguous = ai_gateway::FindAmbiguous(*request);
  if (ambiguous == nullptr) {
    for (const auto& [name, value] : request->items()) {
      if (name == "Model" || name == "STREAM")
        return "a member that a server may read is overlooked";
    }
  }
  const std::string asked = ai_gateway::AskForUsage(text, *request);
  const auto again = ai_gateway::ParseRequest(asked);
  if (!again.has_value()) return "a request that asks for usage is none";
  ai_gateway::OpenaiStream stream(ai_gateway::WantsUsage(*request));
  (void)stream.Take({"", text, "data: " + text + "\n\n"});
  return "";
}

FUZZ_TARGET(sse, .rounds = 20000, .bytes = 40) {
  switch (choices.Next(8)) {
    case 0:
    case 2:
    case 4:
    case 6:
      return ReadEvents(choices);
    case 7:
      return Tell(choices);
    default:
      return ReadRequest(choices.Rest());
  }
}

}  // namespace
}  // namespace callout::host
