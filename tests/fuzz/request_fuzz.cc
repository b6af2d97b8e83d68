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
  if (more.HasContentType("text/plain") && !more.HasContentType("text/*")) {
    return "a type is none of its kind";
  }
  ResponseView open;
  if (!ReadHttpHeaders(WithoutEndOfStream(message), &open) || open.end_of_stream ||
      open.headers.set.size() != view.headers.set.size()) {
    return "headers before a body are others";
  }
  // A search finds what protobuf has written.
  const std::string written = expected.SerializeAsString();
  (void)SearchHeader(message, "x");
  if (!FindHeader(written, "x").empty() && SearchHeader(written, "x").empty()) {
    return "a search finds nothing";
  }
  return "";
}

std::string CompareBody(std::string_view message, const ext_proc::HttpBody& expected) {
  std::string_view body;
  bool end_of_stream = false;
  if (!ReadBodyMessage(message, &body, &end_of_stream)) return "a body is refused";
  const bool same = body == expected.body() && end_of_stream == expected.end_of_stream();
  if (!same) return "a body differs";
  const std::string again = WriteBodyMessage(message, "b", !end_of_stream);
  bool again_ends = false;
  if (!ReadBodyMessage(again, &body, &again_ends) || body != "b" || again_ends == end_of_stream) {
    return "a body that is replaced differs";
  }
  return "";
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
  if (host::MessageOf(bytes, view.phase) != view.message) return "the message is another one";
  ext_proc::ProcessingRequest again;
  if (!ParsesAs(ReplaceMessage(bytes, view.phase, view.message), &again) ||
      InOrder(MessageOf(again)) != InOrder(MessageOf(expected))) {
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

// A ProcessingResponse, taken apart and put together.
std::string Split(const std::string& bytes) {
  Response response;
  std::string beside;
  ext_proc::ProcessingResponse expected, read;
  const bool parses = ParsesAs(bytes, &expected) && !MayHaveWideTag(bytes);
  if (!SplitResponse(bytes, &response, &beside)) {
    return parses && !HasGroup(bytes, expected) ? "a response that protobuf reads is refused" : "";
  }
  if (!parses || HasGroup(bytes, expected)) return "";
  const int field = static_cast<int>(response.field);
  if (expected.response_case() != 0 && field != expected.response_case()) {
    return "the part of a response differs";
  }
  std::string whole = beside;
  if (field != 0) AppendRecord(response.field, response.payload(), &whole);
  // Views cannot join two records of one message, as protobuf does.
  if (!ParsesAs(whole, &read)) return "what was taken apart cannot be parsed";
  return read.response_case() == expected.response_case() ? "" : "a part of a response is lost";
}

// Reasons of the host's own, which protobuf does not have.
bool IsStricter(const absl::Status& status) {
  const std::string text(status.message());
  return absl::IsResourceExhausted(status) || text.find("occurs twice") != text.npos ||
         text.find("the phase's message") != text.npos;
}

FUZZ_TARGET(request, .rounds = 30000, .bytes = 24) {
  const unsigned first = choices.Next(256);
  const size_t fields_max = 1 + first % 200;
  const std::string bytes = choices.Rest();
  if (first >= 240) return Split(bytes);
  const absl::StatusOr<RequestView> view = ParseRequest(bytes, fields_max);
  ext_proc::ProcessingRequest expected;
  const bool parses = ParsesAs(bytes, &expected) && !MayHaveWideTag(bytes);
  if (!view.ok()) {
    const bool agrees = !parses || IsStricter(view.status()) || HasGroup(bytes, expected);
    return agrees ? "" : "protobuf reads it, the host does not: " + view.status().ToString();
  }
  static const StreamMatch all = {.path_prefixes = {"/"},
                                  .hosts = {"a"},
                                  .methods = {"GET"},
                                  .headers = {"x"},
                                  .attributes = {{"request.id", "7"}}};
  StreamMatch inner, outer, named;
  inner.path_prefixes = {"/api/"};
  outer.path_prefixes = {"/api"};
  named.attributes = {{"request.id", "7"}};
  const StreamFacts stream(*view);
  if (stream.Match(inner) && !stream.Match(outer)) return "a path is within another, and is not";
  if (stream.Match(all) && !stream.Match(named)) return "an attribute is there, and is not";
  // The host reads no further than it needs: what it does not look into may be malformed.
  return parses && !HasGroup(bytes, expected) ? Compare(bytes, *view, expected) : "";
}

}  // namespace
}  // namespace callout::host
