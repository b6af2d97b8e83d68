// SPDX-License-Identifier: Apache-2.0

#include "anthropic.h"

#include <array>
#include <string_view>
#include <utility>

namespace ai_gateway {
namespace {

// --- The request ---

// Members that mean the same under another name, or under their own.
constexpr std::array<std::pair<std::string_view, std::string_view>, 4> kSame = {
    {{"model", "model"}, {"temperature", "temperature"}, {"top_p", "top_p"}, {"stream", "stream"}}};

Problem Unsupported(const std::string& member) {
  return {.message = "'" + member + "' is not supported for the provider of this model",
          .param = member,
          .code = "unsupported_parameter"};
}
Problem Wrong(const std::string& member, const std::string& wanted) {
  return {.message = "'" + member + "' must be " + wanted, .param = member};
}

// The text of a message, whole or in parts; a problem for anything else.
std::variant<std::string, Problem> TextOf(const Json& content) {
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array()) return Wrong("messages", "a list of messages with texts");
  std::string text;
  for (const Json& part : content) {
    if (Member(part, "type") != "text" || !Member(part, "text").is_string()) {
      return Unsupported("messages.content");
    }
    text += Member(part, "text").get<std::string>();
  }
  return text;
}

std::optional<Problem> AddMessages(const Json& messages, Json* to) {
  if (!messages.is_array() || messages.empty()) return Wrong("messages", "a list of messages");
  std::string system;
  Json& rest = (*to)["messages"] = Json::array();
  for (const Json& message : messages) {
    if (!message.is_object()) return Wrong("messages", "a list of messages with texts");
    for (const auto& [name, value] : message.items()) {
      const bool is_read = name == "role" || name == "content" || name == "tool_calls";
      if (!is_read && !value.is_null()) {
        return Unsupported("messages." + name);
      }
    }
    if (!Member(message, "tool_calls").is_null()) return Unsupported("messages.tool_calls");
    const Json& role = Member(message, "role");
    std::variant<std::string, Problem> text = TextOf(Member(message, "content"));
    if (Problem* problem = std::get_if<Problem>(&text)) return std::move(*problem);
    if (role == "system" || role == "developer") {
      system += (system.empty() ? "" : "\n\n") + std::get<std::string>(text);
    } else if (role == "user" || role == "assistant") {
      rest.push_back({{"role", role}, {"content", std::get<std::string>(text)}});
    } else {
      return Unsupported("messages.role");
    }
  }
  if (!system.empty()) (*to)["system"] = system;
  return std::nullopt;
}

// One further member of the request.
std::optional<Problem> AddMember(const std::string& name, const Json& value, Json* to) {
  for (const auto& [from, into] : kSame) {
    if (name != from) continue;
    (*to)[std::string(into)] = value;
    return std::nullopt;
  }
  if (name == "max_tokens" || name == "max_completion_tokens") {
    (*to)["max_tokens"] = value;
  } else if (name == "stop") {
    (*to)["stop_sequences"] = value.is_array() ? value : Json::array({value});
  } else if (name == "user") {
    (*to)["metadata"] = {{"user_id", value}};
  } else if (name != "messages" && name != "stream_options" && (name != "n" || value != 1)) {
    return Unsupported(name);
  }
  return std::nullopt;
}

// --- The answer ---

Json FinishReason(const Json& stop_reason) {
  if (stop_reason.is_null()) return nullptr;
  if (stop_reason == "max_tokens") return "length";
  if (stop_reason == "tool_use") return "tool_calls";
  if (stop_reason == "refusal") return "content_filter";
  return "stop";
}

// Tokens read from and written to its cache are prompt as well.
uint64_t PromptTokens(const Json& usage) {
  return Count(Member(usage, "input_tokens")) +
         Count(Member(usage, "cache_creation_input_tokens")) +
         Count(Member(usage, "cache_read_input_tokens"));
}

std::string TextMember(const Json& object, const char* name) {
  const Json& value = Member(object, name);
  return value.is_string() ? value.get<std::string>() : "";
}

Json ErrorOf(const Json& response) {
  const Json& error = Member(response, "error");
  return ErrorJson(TextMember(error, "message"), TextMember(error, "type"));
}

std::string Event(const Json& data) { return "data: " + Dump(data) + "\n\n"; }

}  // namespace

std::variant<Json, Problem> ToAnthropic(const Json& request, int64_t max_tokens) {
  Json body = {{"max_tokens", max_tokens}};
  if (std::optional<Problem> problem = AddMessages(Member(request, "messages"), &body)) {
    return *std::move(problem);
  }
  for (const auto& [name, value] : request.items()) {
    if (value.is_null()) continue;
    if (std::optional<Problem> problem = AddMember(name, value, &body)) return *std::move(problem);
  }
  return body;
}

std::optional<Translated> FromAnthropic(const Json& response, int64_t created_s) {
  if (Member(response, "type") == "error") return Translated{ErrorOf(response), std::nullopt};
  const Json& content = Member(response, "content");
  if (Member(response, "type") != "message" || !content.is_array()) return std::nullopt;
  std::string text;
  for (const Json& part : content) text += TextMember(part, "text");
  const Json& counts = Member(response, "usage");
  const Usage usage{PromptTokens(counts), Count(Member(counts, "output_tokens"))};
  const Json choice = {{"index", 0},
                       {"message", {{"role", "assistant"}, {"content", text}}},
                       {"finish_reason", FinishReason(Member(response, "stop_reason"))}};
  return Translated{{{"id", TextMember(response, "id")},
                     {"object", "chat.completion"},
                     {"created", created_s},
                     {"model", TextMember(response, "model")},
                     {"choices", Json::array({choice})},
                     {"usage", UsageJson(usage)}},
                    usage};
}

std::string AnthropicStream::Take(const SseEvent& event) {
  if (event.data.empty()) return "";
  const std::optional<Json> data = ParseBody(event.data);
  if (!data.has_value()) return "";
  const Json& type = Member(*data, "type");
  if (type == "message_start") {
    const Json& message = Member(*data, "message");
    id_ = TextMember(message, "id");
    model_ = TextMember(message, "model");
    Add(Member(message, "usage"));
    return Delta({{"role", "assistant"}, {"content", ""}}, nullptr);
  }
  if (type == "content_block_delta") {
    const Json& delta = Member(*data, "delta");
    if (Member(delta, "type") != "text_delta") return "";
    return Delta({{"content", TextMember(delta, "text")}}, nullptr);
  }
  if (type == "message_delta") {
    Add(Member(*data, "usage"));
    return Delta(Json::object(), FinishReason(Member(Member(*data, "delta"), "stop_reason")));
  }
  if (type == "message_stop") return End();
  if (type == "error") return Event(ErrorOf(*data));
  return "";  // a ping, or an event of later times
}

std::string AnthropicStream::Broken(const std::string& reason) {
  return Event(ErrorJson(reason, "api_error"));
}

std::string AnthropicStream::Chunk(Json choices) const {
  Json chunk = {{"id", id_},
                {"object", "chat.completion.chunk"},
                {"created", created_s_},
                {"model", model_},
                {"choices", std::move(choices)}};
  if (chunk["choices"].empty()) chunk["usage"] = UsageJson(usage_.value_or(Usage()));
  return Event(chunk);
}

std::string AnthropicStream::Delta(Json delta, Json finish_reason) const {
  return Chunk(Json::array(
      {{{"index", 0}, {"delta", std::move(delta)}, {"finish_reason", std::move(finish_reason)}}}));
}

std::string AnthropicStream::End() const {
  return (wants_usage_ ? Chunk(Json::array()) : "") + "data: [DONE]\n\n";
}

// Each event tells the sums so far, of what it knows.
void AnthropicStream::Add(const Json& usage) {
  if (!usage.is_object()) return;
  Usage sums = usage_.value_or(Usage());
  if (usage.contains("input_tokens")) sums.prompt_tokens = PromptTokens(usage);
  if (usage.contains("output_tokens")) sums.completion_tokens = Count(usage.at("output_tokens"));
  usage_ = sums;
}

}  // namespace ai_gateway
