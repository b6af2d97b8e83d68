// SPDX-License-Identifier: Apache-2.0

#include "host/tester/envoy_model.h"

#include <fmt/format.h>
#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"

// Envoy 1.40 obeys only the deprecated HeaderValueOption.append.
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

namespace callout::host {
namespace {

using envoy::config::core::v3::HeaderMap;
using envoy::config::core::v3::HeaderValueOption;
using envoy::service::ext_proc::v3::BodyMutation;
using envoy::service::ext_proc::v3::CommonResponse;
using envoy::service::ext_proc::v3::HeaderMutation;
using ProcessingMode = envoy::extensions::filters::http::ext_proc::v3::ProcessingMode;

HeaderList ToList(const HeaderMap& map) {
  HeaderList list;
  for (const auto& header : map.headers()) {
    list.emplace_back(header.key(),
                      header.raw_value().empty() ? header.value() : header.raw_value());
  }
  return list;
}

void Remove(std::string_view name, HeaderList* headers) {
  std::erase_if(*headers, [&](const auto& header) { return header.first == name; });
}

std::string NameOf(std::string_view name) {
  const std::string lower = absl::AsciiStrToLower(std::string(name));
  return lower == "host" ? ":authority" : lower;
}

// Removals first; a set replaces all values unless it appends.
void Apply(const HeaderMutation& mutation, HeaderList* headers) {
  for (const std::string& given : mutation.remove_headers()) {
    const std::string name = absl::AsciiStrToLower(given);
    if (name != "host" && !absl::StartsWith(name, ":")) Remove(name, headers);
  }
  for (const HeaderValueOption& option : mutation.set_headers()) {
    const std::string name = NameOf(option.header().key());
    const std::string& value = option.header().raw_value();
    const auto found = std::find_if(headers->begin(), headers->end(),
                                    [&](const auto& header) { return header.first == name; });
    if (option.append().value() || found == headers->end()) {
      headers->emplace_back(name, value);
      continue;
    }
    found->second = value;
    headers->erase(std::remove_if(found + 1, headers->end(),
                                  [&](const auto& header) { return header.first == name; }),
                   headers->end());
  }
}

nlohmann::json ToJson(const google::protobuf::Message& message) {
  std::string text;
  if (!google::protobuf::util::MessageToJsonString(message, &text).ok()) return nullptr;
  return nlohmann::json::parse(text, nullptr, false);
}

bool IsOfRequest(const ProcessingRequest& request) {
  return request.has_request_headers() || request.has_request_body() ||
         request.has_request_trailers();
}

}  // namespace

EnvoyModel::Side* EnvoyModel::SideOf(const ProcessingRequest& request) {
  return IsOfRequest(request) ? &request_ : &response_;
}

EnvoyModel::Way EnvoyModel::WayOf(const ProcessingRequest& request) const {
  if (!request.has_request_body() && !request.has_response_body()) return Way::kSent;
  const Side& side = request.has_request_body() ? request_ : response_;
  if (side.body_replaced) return Way::kDropped;
  return side.mode == ProcessingMode::NONE ? Way::kPasses : Way::kSent;
}

void EnvoyModel::Pass(const ProcessingRequest& request) {
  Show(request);
  ProcessingResponse unchanged;
  if (request.has_request_body()) unchanged.mutable_request_body();
  if (request.has_response_body()) unchanged.mutable_response_body();
  if (request.has_request_headers()) unchanged.mutable_request_headers();
  if (request.has_response_headers()) unchanged.mutable_response_headers();
  if (request.has_request_trailers()) unchanged.mutable_request_trailers();
  if (request.has_response_trailers()) unchanged.mutable_response_trailers();
  Take(unchanged);
}

void EnvoyModel::Show(const ProcessingRequest& request) {
  if (request.has_protocol_config()) {
    const auto& config = request.protocol_config();
    request_.mode = config.request_body_mode();
    response_.mode = config.response_body_mode();
  }
  Side* const side = SideOf(request);
  side->shown = true;
  if (request.has_request_headers() || request.has_response_headers()) {
    const auto& headers =
        request.has_request_headers() ? request.request_headers() : request.response_headers();
    side->message.headers = ToList(headers.headers());
  } else if (request.has_request_body() || request.has_response_body()) {
    const auto& body =
        request.has_request_body() ? request.request_body() : request.response_body();
    if (side->mode == ProcessingMode::FULL_DUPLEX_STREAMED) return;  // what comes back is the body
    side->chunks.push_back(body.body());
  } else {
    const auto& trailers =
        request.has_request_trailers() ? request.request_trailers() : request.response_trailers();
    side->message.trailers = ToList(trailers.trailers());
  }
  ++owed_;
}

void EnvoyModel::ApplyCommon(const CommonResponse& common, bool is_body, Side* side) {
  Apply(common.header_mutation(), &side->message.headers);
  const BodyMutation& mutation = common.body_mutation();
  if (common.status() == CommonResponse::CONTINUE_AND_REPLACE) {
    side->message.body = mutation.body();
    side->body_replaced = true;
  }
  if (!is_body) return;
  std::string body = side->message.body.value_or("");
  if (mutation.has_streamed_response()) {
    body += mutation.streamed_response().body();
  } else {
    std::string chunk;
    if (!side->chunks.empty()) {
      chunk = std::move(side->chunks.front());
      side->chunks.pop_front();
    }
    if (mutation.has_body()) chunk = mutation.body();
    if (mutation.clear_body()) chunk.clear();
    body += chunk;
  }
  side->message.body = std::move(body);
}

void EnvoyModel::Take(const ProcessingResponse& response) {
  const nlohmann::json metadata = ToJson(response.dynamic_metadata());
  // Envoy takes only structs at the top level, one for each namespace.
  for (const auto& [space, value] : metadata.items()) {
    if (value.is_object()) metadata_[space].update(value);
  }
  if (response.response_case() == ProcessingResponse::RESPONSE_NOT_SET) return;
  if (owed_ > 0) --owed_;
  switch (response.response_case()) {
    case ProcessingResponse::kRequestHeaders:
      return ApplyCommon(response.request_headers().response(), false, &request_);
    case ProcessingResponse::kResponseHeaders:
      return ApplyCommon(response.response_headers().response(), false, &response_);
    case ProcessingResponse::kRequestBody:
      return ApplyCommon(response.request_body().response(), true, &request_);
    case ProcessingResponse::kResponseBody:
      return ApplyCommon(response.response_body().response(), true, &response_);
    case ProcessingResponse::kRequestTrailers:
      return Apply(response.request_trailers().header_mutation(), &request_.message.trailers);
    case ProcessingResponse::kResponseTrailers:
      return Apply(response.response_trailers().header_mutation(), &response_.message.trailers);
    case ProcessingResponse::kImmediateResponse:
      return Reply(response.immediate_response());
    default:
      return Fail(
          absl::UnimplementedError("callout-test knows this kind of response only with --envoy"));
  }
}

void EnvoyModel::End(int http_status) {
  is_over_ = true;
  is_forwarded_ = response_.shown;
  response_.shown = true;
  response_.message = HttpMessage();
  response_.message.headers.emplace_back(":status", std::to_string(http_status));
}

// A local reply with a body has a content type, one without a body has none.
void EnvoyModel::Reply(const envoy::service::ext_proc::v3::ImmediateResponse& reply) {
  End(reply.status().code());
  HttpMessage& message = response_.message;
  Apply(reply.headers(), &message.headers);
  if (reply.body().empty()) return Remove("content-type", &message.headers);
  message.body = reply.body();
  if (ValuesOf(message.headers, "content-type").empty()) {
    message.headers.emplace_back("content-type", "text/plain");
  }
}

void EnvoyModel::Fail(const absl::Status& status) {
  End(500);
  error_ =
      fmt::format("{}: {}", absl::StatusCodeToString(status.code()), std::string(status.message()));
}

Outcome EnvoyModel::TakeOutcome() {
  Outcome outcome;
  if (request_.shown && is_forwarded_) outcome.request = std::move(request_.message);
  if (response_.shown) outcome.response = std::move(response_.message);
  outcome.metadata = std::move(metadata_);
  outcome.error = std::move(error_);
  return outcome;
}

}  // namespace callout::host
