// SPDX-License-Identifier: Apache-2.0

#include "openai.h"

#include <initializer_list>

#include "support/header_name.hpp"
#include "support/limited_json.hpp"

namespace ai_gateway {

std::optional<Json> ParseBody(std::string_view text) {
  return callout::plugins::ParseJson<Json>(text, {.depth = 64});
}

std::optional<Json> ParseRequest(std::string_view text) {
  std::optional<Json> body =
      callout::plugins::ParseJson<Json>(text, {.depth = 64, .unique_names = true});
  if (body.has_value() && !body->is_object()) return std::nullopt;
  return body;
}

const Json& Member(const Json& object, const char* name) {
  static const Json kNone;
  const auto found = object.find(name);  // the end in what is no object
  return found == object.end() ? kNone : *found;
}

namespace {

constexpr std::string_view kLongS = "\xc5\xbf";       // U+017F
constexpr std::string_view kKelvin = "\xe2\x84\xaa";  // U+212A

// As a server in Go compares names: without case, and with the letters outside ASCII whose other
// case is inside it.
std::string Folded(std::string_view name) {
  std::string folded;
  for (size_t i = 0; i < name.size(); ++i) {
    const std::string_view rest = name.substr(i);
    if (rest.substr(0, kLongS.size()) == kLongS) {
      folded += 's';
      i += kLongS.size() - 1;
    } else if (rest.substr(0, kKelvin.size()) == kKelvin) {
      folded += 'k';
      i += kKelvin.size() - 1;
    } else {
      folded += callout::plugins::LowerAscii(name[i]);
    }
  }
  return folded;
}

// Which of the names is there in another writing; null: none.
const char* FindOtherWriting(const Json& object, std::initializer_list<const char*> names) {
  if (!object.is_object()) return nullptr;
  for (const auto& [name, value] : object.items()) {
    for (const char* known : names) {
      if (name != known && Folded(name) == known) return known;
    }
  }
  return nullptr;
}

}  // namespace

const char* FindAmbiguous(const Json& body) {
  const Json& stream = Member(body, "stream");
  if (!stream.is_null() && !stream.is_boolean()) return "stream";
  const char* wrong = FindOtherWriting(body, {"model", "stream", "stream_options"});
  if (wrong != nullptr) return wrong;
  return FindOtherWriting(Member(body, "stream_options"), {"include_usage"});
}

std::string Dump(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

uint64_t Count(const Json& number) {
  return number.is_number_unsigned() ? number.get<uint64_t>() : 0;
}

std::optional<Usage> ReadUsage(const Json& usage) {
  if (!usage.is_object()) return std::nullopt;
  return Usage{Count(Member(usage, "prompt_tokens")), Count(Member(usage, "completion_tokens"))};
}

Json UsageJson(const Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens}};
}

std::string ErrorBody(const Problem& problem) {
  Json error = ErrorJson(problem.message, "invalid_request_error");
  error["error"]["param"] = problem.param;
  error["error"]["code"] = problem.code;
  return Dump(error);
}

Json ErrorJson(const std::string& message, const std::string& type) {
  return {{"error", {{"message", message}, {"type", type}, {"param", nullptr}, {"code", nullptr}}}};
}

bool WantsUsage(const Json& body) {
  return Member(Member(body, "stream_options"), "include_usage") == true;
}

std::string AskForUsage(std::string_view text, const Json& body) {
  if (Member(body, "stream") != true || WantsUsage(body)) return std::string(text);
  if (!body.contains("stream_options")) {
    const size_t inside = text.find('{') + 1;
    return std::string(text.substr(0, inside))
        .append(R"("stream_options":{"include_usage":true},)")
        .append(text.substr(inside));
  }
  Json changed = body;
  Json& options = changed["stream_options"];
  if (!options.is_object()) options = Json::object();
  options["include_usage"] = true;
  return Dump(changed);
}

std::string OpenaiStream::Take(const SseEvent& event) {
  // Only what may tell the usage is looked into.
  if (event.data.find("\"usage\"") == std::string::npos) return event.raw;
  const std::optional<Json> chunk = ParseBody(event.data);
  if (!chunk.has_value()) return event.raw;
  const std::optional<Usage> usage = ReadUsage(Member(*chunk, "usage"));
  if (!usage.has_value()) return event.raw;
  usage_ = usage;
  const Json& choices = Member(*chunk, "choices");
  const bool is_only_usage = choices.is_array() && choices.empty();
  return is_only_usage && !wants_usage_ ? std::string() : event.raw;
}

}  // namespace ai_gateway
