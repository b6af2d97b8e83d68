// SPDX-License-Identifier: Apache-2.0

#include "host/client/messages.h"

#include <fmt/format.h>
#include <google/protobuf/util/json_util.h>

#include <string_view>
#include <utility>

#include "host/base/json_text.h"
#include "host/base/status_text.h"

namespace callout::host {
namespace {

using envoy::extensions::filters::http::ext_proc::v3::ProcessingMode;
using nlohmann::json;

template <class Request>
absl::StatusOr<Request> ParseOne(const json& value, size_t number) {
  Request message;
  const google::protobuf::util::Status status =
      google::protobuf::util::JsonStringToMessage(value.dump(), &message);
  if (status.ok()) return message;
  return absl::InvalidArgumentError(
      fmt::format("message {} is not a {}: {}", number, Request::descriptor()->name(),
                  std::string_view(status.message().data(), status.message().size())));
}

template <class Request>
absl::StatusOr<std::vector<Request>> ParseAll(const std::string& text) {
  absl::StatusOr<json> parsed = ParseJsonText(text);
  if (!parsed.ok()) {
    return absl::InvalidArgumentError(fmt::format("invalid JSON: {}", MessageOf(parsed.status())));
  }
  if (!parsed->is_array()) parsed = json::array({*std::move(parsed)});
  std::vector<Request> messages;
  for (const json& value : *parsed) {
    absl::StatusOr<Request> message = ParseOne<Request>(value, messages.size() + 1);
    if (!message.ok()) return message.status();
    messages.push_back(*std::move(message));
  }
  return messages;
}

bool IsFullDuplex(ProcessingMode::BodySendMode mode) {
  return mode == ProcessingMode::FULL_DUPLEX_STREAMED;
}

}  // namespace

absl::StatusOr<std::vector<ProcessingRequest>> ParseMessages(const std::string& text) {
  return ParseAll<ProcessingRequest>(text);
}

absl::StatusOr<std::vector<CheckRequest>> ParseChecks(const std::string& text) {
  return ParseAll<CheckRequest>(text);
}

absl::StatusOr<std::vector<RateLimitRequest>> ParseRateLimits(const std::string& text) {
  return ParseAll<RateLimitRequest>(text);
}

absl::StatusOr<std::vector<NetworkRequest>> ParseNetworkMessages(const std::string& text) {
  return ParseAll<NetworkRequest>(text);
}

std::string PrintAnswer(const google::protobuf::Message& answer) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string text;
  const auto status = google::protobuf::util::MessageToJsonString(answer, &text, options);
  if (status.ok()) return text;
  // An Any of a type that is not linked in, say. The text form can show everything.
  return json{{"text", answer.ShortDebugString()}}.dump(-1, ' ', false,
                                                        json::error_handler_t::replace);
}

size_t AnswersDue(const std::vector<ProcessingRequest>& messages) {
  size_t due = 0;
  if (messages.empty()) return due;
  const auto& config = messages.front().protocol_config();
  for (const ProcessingRequest& message : messages) {
    const bool chunk = (message.has_request_body() && IsFullDuplex(config.request_body_mode())) ||
                       (message.has_response_body() && IsFullDuplex(config.response_body_mode()));
    if (!message.observability_mode() && !chunk) ++due;
  }
  return due;
}

}  // namespace callout::host
