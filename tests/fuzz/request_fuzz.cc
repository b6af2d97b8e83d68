// SPDX-License-Identifier: Apache-2.0

// What Envoy sends: any bytes as a ProcessingRequest, read by the host and by the
// generated classes, which have to agree.
//
// Readers: host/wire/envelope.cc host/wire/header_facts.cc host/plugin/match.cc
#include <string>

#include "envoy/service/ext_proc/v3/external_processor.pb.h"
#include "host/plugin/match.h"
#include "host/wire/envelope.h"
#include "host/wire/header_facts.h"
#include "host/wire/mutation.h"
#include "host/wire/response.h"
#include "tests/fuzz/proto_oracle.h"
#include "tests/fuzz/target.h"

namespace callout::host {
namespace {

namespace ext_proc = envoy::service::ext_proc::v3;

// The message of the oneof.
const google::protobuf::Message& MessageOf(const ext_proc::ProcessingRequest& request) {
  switch (request.request_case()) {
    case ext_proc::ProcessingRequest::kRequestHeaders:
      return request.request_headers();
    case ext_proc::ProcessingRequest::kResponseHeaders:
      return request.response_headers();
    case ext_proc::ProcessingRequest::kRequestBody:
      return request.request_body();
    case ext_proc::ProcessingRequest::kResponseBody:
      return request.response_body();
    case ext_proc::ProcessingRequest::kRequestTrailers:
      return request.request_trailers();
    default:
      return request.response_trailers();
  }
}

std::string CompareHeaders(std::string_view message, const ext_proc::HttpHeaders& expected) {
  ResponseView view;
  if (!ReadHttpHeaders(message, &view)) return "headers that protobuf reads are refused";
  if (view.end_of_stream != expected.end_of_stream()) return "end_of_stream of headers differs";
  if (static_cast<int>(view.headers.set.size()) != expected.headers().headers_size()) {
    return "the number of headers differs";
  }
  for (int i = 0; i < expected.headers().headers_size(); ++i) {
    const auto& header = expected.headers().headers(i);
    const HeaderSet& read = view.headers.set[static_cast<size_t>(i)];
    if (read.key != header.key() || read.value != header.raw_value()) return "a header differs";
  }
  HeadersMessageView facts;
  if (!ReadHeadersMessage(message, true, &facts)) return "the facts of headers are refused";
  const HeaderFacts more = ReadHeaderFacts(message);
  if (facts.has_content_length != more.HasHeader("content-length")) return "content-length differs";
  if (facts.has_content_encoding != more.HasHeader("content-encoding")) {
    return "content-encoding differs";
  }
  return "";
}

std::string CompareBody(std::string_view message, const ext_proc::HttpBody& expected) {
  std::string_view body;
  bool end_of_stream = false;
  if (!ReadBodyMessage(message, &body, &end_of_stream)) return "a body is refused";
  const bool same = body == expected.body() && end_of_stream == expected.end_of_stream();
  return same ? "" : "a body differs";
}

// Both have read it.
std::string Compare(std::string_view bytes, const RequestView& view,
                    const ext_proc::ProcessingRequest& expected) {
  if (view.phase != static_cast<callout_phase_t>(expected.request_case())) {
    return "the phase differs";
  }
  if (view.observability_mode != expected.observability_mode()) return "observability_mode differs";
  if (view.has_protocol_config != expected.has_protocol_config()) return "protocol_config differs";
  const auto& config = expected.protocol_config();
  if (static_cast<int>(view.protocol_config.request_body_mode) != config.request_body_mode() ||
      static_cast<int>(view.protocol_config.response_body_mode) != config.response_body_mode() ||
      view.protocol_config.send_body_without_waiting !=
          config.send_body_without_waiting_for_header_response()) {
    return "a field of protocol_config differs";
  }
  if (view.phase == 0) return "";
  ext_proc::ProcessingRequest again;
  if (!ParsesAs(ReplaceMessage(bytes, view.phase, view.message), &again) ||
      MessageOf(again).SerializeAsString() != MessageOf(expected).SerializeAsString()) {
    return "the message differs";
  }
  if (expected.has_request_headers()) {
    return CompareHeaders(view.message, expected.request_headers());
  }
  if (expected.has_response_headers()) {
    return CompareHeaders(view.message, expected.response_headers());
  }
  if (expected.has_request_body()) return CompareBody(view.message, expected.request_body());
  if (expected.has_response_body()) return CompareBody(view.message, expected.response_body());
  return "";
}

// Reasons of the host's own, which protobuf does not have.
bool IsStricter(const absl::Status& status) {
  const std::string text(status.message());
  return absl::IsResourceExhausted(status) || text.find("occurs twice") != text.npos ||
         text.find("the phase's message") != text.npos;
}

FUZZ_TARGET(request, .rounds = 30000, .bytes = 24) {
  const size_t fields_max = 1 + choices.Next(200);
  const std::string bytes = choices.Rest();
  const absl::StatusOr<RequestView> view = ParseRequest(bytes, fields_max);
  ext_proc::ProcessingRequest expected;
  const bool parses = ParsesAs(bytes, &expected) && !MayHaveWideTag(bytes);
  if (!view.ok()) {
    const bool agrees = !parses || IsStricter(view.status()) || HasGroup(bytes, expected);
    return agrees ? "" : "protobuf reads it, the host does not: " + view.status().ToString();
  }
  static const StreamMatch match = {.path_prefixes = {"/"},
                                    .hosts = {"a"},
                                    .methods = {"GET"},
                                    .headers = {"x"},
                                    .attributes = {{"request.id", "7"}}};
  (void)StreamFacts(*view).Match(match);
  // The host reads no further than it needs: what it does not look into may be malformed.
  return parses && !HasGroup(bytes, expected) ? Compare(bytes, *view, expected) : "";
}

}  // namespace
}  // namespace callout::host
