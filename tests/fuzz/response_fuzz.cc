// SPDX-License-Identifier: Apache-2.0

// What plugins give back, through reader and guard: what passes is what Envoy can parse
// and takes, and the host has read it as Envoy will. Envoy's rules are written here once
// more, with the generated classes.
//
// Readers: host/wire/response.cc host/stream/guard.cc
#include <string>

#include "envoy/service/ext_proc/v3/external_processor.pb.h"
#include "host/stream/guard.h"
#include "host/wire/annotations.h"
#include "host/wire/envelope.h"
#include "host/wire/response.h"
#include "tests/fuzz/proto_oracle.h"
#include "tests/fuzz/target.h"

namespace callout::host {
namespace {

namespace ext_proc = envoy::service::ext_proc::v3;
using Expected = ext_proc::ProcessingResponse;
using Body = ResponseView::Body;

constexpr int kEntriesMax = 100;

// A name by RFC 9110, a value by what Envoy's codecs let through.
bool IsName(std::string name) {
  if (!name.empty() && name[0] == ':') name.erase(0, 1);
  const std::string others = "!#$%&'*+-.^_`|~";
  for (const char c : name) {
    const bool alphanumeric =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (!alphanumeric && others.find(c) == others.npos) return false;
  }
  return !name.empty();
}
bool IsValue(const std::string& value) {
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && c != '\t') || byte == 0x7f) return false;
  }
  return true;
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
std::string CompareMutation(const HeaderMutationView& view,
                            const ext_proc::HeaderMutation& expected) {
  if (static_cast<int>(view.set.size()) != expected.set_headers_size() ||
      static_cast<int>(view.remove.size()) != expected.remove_headers_size()) {
    return "the number of changed headers differs";
  }
  if (expected.set_headers_size() > kEntriesMax || expected.remove_headers_size() > kEntriesMax) {
    return "more than 100 entries pass the guard";
  }
  for (int i = 0; i < expected.set_headers_size(); ++i) {
    const auto& option = expected.set_headers(i);
    const HeaderSet& read = view.set[static_cast<size_t>(i)];
    if (read.key != option.header().key() || read.value != option.header().raw_value() ||
        read.append != option.append().value()) {
      return "a header that is set differs";
    }
    if (!IsName(option.header().key()) || !IsValue(option.header().raw_value())) {
      return "an illegal header passes the guard";
    }
  }
  for (int i = 0; i < expected.remove_headers_size(); ++i) {
    const std::string& name = expected.remove_headers(i);
    if (view.remove[static_cast<size_t>(i)] != name) return "a header that is removed differs";
    if (!IsName(name)) return "an illegal name passes the guard";
  }
  return "";
}
#pragma GCC diagnostic pop

std::string CompareHeaderMap(const HeaderMutationView& view,
                             const envoy::config::core::v3::HeaderMap& expected) {
  if (static_cast<int>(view.set.size()) != expected.headers_size()) {
    return "the number of headers differs";
  }
  for (int i = 0; i < expected.headers_size(); ++i) {
    const HeaderSet& read = view.set[static_cast<size_t>(i)];
    const auto& header = expected.headers(i);
    if (read.key != header.key() || read.value != header.raw_value()) return "a header differs";
    if (!IsName(header.key()) || !IsValue(header.raw_value())) {
      return "an illegal header passes the guard";
    }
  }
  return "";
}

std::string CompareStreamed(const ResponseView& view,
                            const ext_proc::StreamedBodyResponse& expected) {
  const bool same = view.body == expected.body() && view.end_of_stream == expected.end_of_stream();
  return same ? "" : "a streamed body differs";
}

std::string CompareCommon(const ResponseView& view, const ext_proc::CommonResponse& expected,
                          const Situation& situation) {
  if (view.continue_and_replace !=
      (expected.status() == ext_proc::CommonResponse::CONTINUE_AND_REPLACE)) {
    return "CONTINUE_AND_REPLACE differs";
  }
  if (view.clear_route_cache != expected.clear_route_cache()) return "clear_route_cache differs";
  const auto& mutation = expected.body_mutation();
  switch (mutation.mutation_case()) {
    case ext_proc::BodyMutation::kBody:
      if (view.body_mutation != Body::kReplaced || view.body != mutation.body()) {
        return "a replaced body differs";
      }
      break;
    case ext_proc::BodyMutation::kClearBody:
      if (view.body_mutation != (mutation.clear_body() ? Body::kCleared : Body::kUnchanged)) {
        return "clear_body differs";
      }
      break;
    case ext_proc::BodyMutation::kStreamedResponse: {
      if (view.body_mutation != Body::kStreamed) return "streamed_response is not seen";
      const bool is_body =
          situation.phase == CALLOUT_REQUEST_BODY || situation.phase == CALLOUT_RESPONSE_BODY;
      if (!is_body || situation.body_mode != CALLOUT_BODY_FULL_DUPLEX_STREAMED) {
        return "streamed_response passes the guard where Envoy refuses it";
      }
      if (std::string error = CompareStreamed(view, mutation.streamed_response()); !error.empty()) {
        return error;
      }
      break;
    }
    default:
      if (view.body_mutation != Body::kUnchanged) return "a body mutation comes from nowhere";
  }
  return CompareMutation(view.headers, expected.header_mutation());
}

std::string CompareStreamedImmediate(const ResponseView& view,
                                     const ext_proc::StreamedImmediateResponse& expected) {
  using Part = ResponseView::Streamed;
  switch (expected.response_case()) {
    case ext_proc::StreamedImmediateResponse::kHeadersResponse:
      if (view.streamed_part != Part::kHeaders) return "the part of a streamed reply differs";
      if (view.end_of_stream != expected.headers_response().end_of_stream()) {
        return "end_of_stream of a streamed reply differs";
      }
      return CompareHeaderMap(view.headers, expected.headers_response().headers());
    case ext_proc::StreamedImmediateResponse::kBodyResponse:
      if (view.streamed_part != Part::kBody) return "the part of a streamed reply differs";
      return CompareStreamed(view, expected.body_response());
    case ext_proc::StreamedImmediateResponse::kTrailersResponse:
      if (view.streamed_part != Part::kTrailers) return "the part of a streamed reply differs";
      return CompareHeaderMap(view.headers, expected.trailers_response());
    default:
      return view.streamed_part == Part::kNone ? "" : "a part of a streamed reply from nowhere";
  }
}

std::string Compare(const ResponseView& view, const Expected& expected,
                    const Situation& situation) {
  switch (expected.response_case()) {
    case Expected::kRequestHeaders:
      return CompareCommon(view, expected.request_headers().response(), situation);
    case Expected::kResponseHeaders:
      return CompareCommon(view, expected.response_headers().response(), situation);
    case Expected::kRequestBody:
      return CompareCommon(view, expected.request_body().response(), situation);
    case Expected::kResponseBody:
      return CompareCommon(view, expected.response_body().response(), situation);
    case Expected::kRequestTrailers:
      return CompareMutation(view.headers, expected.request_trailers().header_mutation());
    case Expected::kResponseTrailers:
      return CompareMutation(view.headers, expected.response_trailers().header_mutation());
    case Expected::kImmediateResponse:
      if (view.body != expected.immediate_response().body()) return "an immediate body differs";
      if (view.has_details != !expected.immediate_response().details().empty()) {
        return "details of an immediate response differ";
      }
      return CompareMutation(view.headers, expected.immediate_response().headers());
    case Expected::kStreamedImmediateResponse:
      return CompareStreamedImmediate(view, expected.streamed_immediate_response());
    default:
      return "the guard lets through what is no response";
  }
}

// The host refuses them in a response, where they have no place.
bool HasAttributes(const std::string& response) {
  return HasRecord(response, *Expected::descriptor(), [](const auto* field, auto) {
    return field != nullptr &&
           field->full_name() == "envoy.service.ext_proc.v3.HttpHeaders.attributes";
  });
}

FUZZ_TARGET(response, .rounds = 30000, .bytes = 24) {
  const Situation situation = {CALLOUT_REQUEST_HEADERS + choices.Next(6), choices.Next(5)};
  const callout_field_t field = 1 + choices.Next(12);
  const std::string payload = choices.Rest();
  ResponseView view;
  const bool reads = ReadResponse(field, payload, &view);

  Response record;
  BuildRecord(field, payload, &record);
  if (record.payload() != payload) return "a record does not hold its payload";
  Expected expected;
  const bool parses = ParsesAs(record.record, &expected);
  const bool known = parses && expected.response_case() == static_cast<int>(field);
  if (!reads) {
    const bool agrees = !known || MayHaveWideTag(payload) || HasGroup(record.record, expected) ||
                        HasAttributes(record.record);
    return agrees ? "" : "protobuf reads a response that the host refuses";
  }
  if (!CheckResponse(situation, field, view).ok()) return "";
  if (!parses) return "what protobuf refuses passes the guard";
  return Compare(view, expected, situation);
}

}  // namespace
}  // namespace callout::host
