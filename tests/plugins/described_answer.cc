// SPDX-License-Identifier: Apache-2.0

#include "described_answer.h"

#include <google/protobuf/util/json_util.h>

#include <utility>

namespace callout::tests {
namespace {

// "callout_NAME" of one of the plugins here.
bool IsPluginName(std::string_view details) {
  for (const std::string_view name :
       {"add_custom_response", "ai_gateway", "jwt_auth", "metadata_check", "redirect"}) {
    if (details == "callout_" + std::string(name)) return true;
  }
  return false;
}

namespace ext_proc = envoy::service::ext_proc::v3;
using envoy::config::core::v3::HeaderValueOption;

// Each Take… adds the lines of what it knows, and clears it.

std::string_view ActionOf(const HeaderValueOption& option) {
  if (option.append_action() == HeaderValueOption::OVERWRITE_IF_EXISTS_OR_ADD) return "set ";
  if (option.append_action() == HeaderValueOption::APPEND_IF_EXISTS_OR_ADD &&
      option.append().value()) {
    return "append ";
  }
  return "";
}

void TakeHeaders(ext_proc::HeaderMutation* mutation, Lines* lines) {
  google::protobuf::RepeatedPtrField<HeaderValueOption> unknown;
  for (const HeaderValueOption& option : mutation->set_headers()) {
    const std::string_view action = ActionOf(option);
    if (action.empty()) {
      *unknown.Add() = option;
    } else {
      lines->push_back(std::string(action) + option.header().key() + ": " +
                       option.header().raw_value());
    }
  }
  *mutation->mutable_set_headers() = unknown;
  for (const std::string& name : mutation->remove_headers()) lines->push_back("remove " + name);
  mutation->clear_remove_headers();
}

void TakeBody(ext_proc::BodyMutation* mutation, Lines* lines) {
  if (mutation->has_body()) lines->push_back("body \"" + mutation->body() + '"');
  // Without the const it would be the function that clears `body`.
  if (std::as_const(*mutation).clear_body()) lines->push_back("clear body");
  if (mutation->has_streamed_response()) {
    const ext_proc::StreamedBodyResponse& chunk = mutation->streamed_response();
    lines->push_back((chunk.end_of_stream() ? "last chunk \"" : "chunk \"") + chunk.body() + '"');
  }
  mutation->clear_mutation();
}

// An empty message says nothing either.
template <class Message>
bool IsEmpty(const Message& message) {
  return message.ByteSizeLong() == 0;
}

void TakeCommon(ext_proc::CommonResponse* response, Lines* lines) {
  TakeHeaders(response->mutable_header_mutation(), lines);
  if (IsEmpty(response->header_mutation())) response->clear_header_mutation();
  if (response->has_body_mutation()) {
    TakeBody(response->mutable_body_mutation(), lines);
    response->clear_body_mutation();
  }
  if (response->clear_route_cache()) lines->push_back("clear route cache");
  response->clear_clear_route_cache();
}

template <class PhaseResponse>
void TakePhase(const char* phase, PhaseResponse* response, Lines* lines) {
  lines->push_back(phase);
  TakeCommon(response->mutable_response(), lines);
  if (IsEmpty(response->response())) response->clear_response();
}

void TakeTrailers(const char* phase, ext_proc::TrailersResponse* response, Lines* lines) {
  lines->push_back(phase);
  TakeHeaders(response->mutable_header_mutation(), lines);
  if (IsEmpty(response->header_mutation())) response->clear_header_mutation();
}

void TakeImmediate(ext_proc::ImmediateResponse* response, Lines* lines) {
  lines->push_back("immediate " + std::to_string(response->status().code()));
  response->clear_status();
  TakeHeaders(response->mutable_headers(), lines);
  if (IsEmpty(response->headers())) response->clear_headers();
  if (!response->body().empty()) lines->push_back("body \"" + response->body() + '"');
  response->clear_body();
  // What the host puts there for a plugin that gives none is left out.
  const bool by_host = IsPluginName(response->details());
  if (!response->details().empty() && !by_host) {
    lines->push_back("details " + response->details());
  }
  response->clear_details();
  if (response->has_grpc_status()) {
    lines->push_back("grpc status " + std::to_string(response->grpc_status().status()));
  }
  response->clear_grpc_status();
}

void TakeAnswer(ext_proc::ProcessingResponse* response, Lines* lines) {
  using Response = ext_proc::ProcessingResponse;
  switch (response->response_case()) {
    case Response::kRequestHeaders:
      return TakePhase("request_headers", response->mutable_request_headers(), lines);
    case Response::kResponseHeaders:
      return TakePhase("response_headers", response->mutable_response_headers(), lines);
    case Response::kRequestBody:
      return TakePhase("request_body", response->mutable_request_body(), lines);
    case Response::kResponseBody:
      return TakePhase("response_body", response->mutable_response_body(), lines);
    case Response::kRequestTrailers:
      return TakeTrailers("request_trailers", response->mutable_request_trailers(), lines);
    case Response::kResponseTrailers:
      return TakeTrailers("response_trailers", response->mutable_response_trailers(), lines);
    case Response::kImmediateResponse:
      return TakeImmediate(response->mutable_immediate_response(), lines);
    default:
      lines->push_back("no phase");
  }
}

// What is empty once it is described.
bool NothingIsLeft(const ext_proc::ProcessingResponse& response) {
  ext_proc::ProcessingResponse empty;
  using Response = ext_proc::ProcessingResponse;
  switch (response.response_case()) {
    case Response::kRequestHeaders:
      empty.mutable_request_headers();
      break;
    case Response::kResponseHeaders:
      empty.mutable_response_headers();
      break;
    case Response::kRequestBody:
      empty.mutable_request_body();
      break;
    case Response::kResponseBody:
      empty.mutable_response_body();
      break;
    case Response::kRequestTrailers:
      empty.mutable_request_trailers();
      break;
    case Response::kResponseTrailers:
      empty.mutable_response_trailers();
      break;
    case Response::kImmediateResponse:
      empty.mutable_immediate_response();
      break;
    default:
      break;
  }
  return response.SerializeAsString() == empty.SerializeAsString();
}

}  // namespace

Lines DescribeAnswer(const ext_proc::ProcessingResponse& response) {
  Lines lines;
  ext_proc::ProcessingResponse rest = response;
  TakeAnswer(&rest, &lines);
  if (rest.has_dynamic_metadata()) {
    std::string json;
    (void)google::protobuf::util::MessageToJsonString(rest.dynamic_metadata(), &json);
    lines.push_back("metadata " + json);
    rest.clear_dynamic_metadata();
  }
  if (!NothingIsLeft(rest)) lines.push_back(rest.ShortDebugString());
  return lines;
}

}  // namespace callout::tests
