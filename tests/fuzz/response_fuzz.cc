// SPDX-License-Identifier: Apache-2.0

// What plugins give back, through reader and guard: what passes is what Envoy can parse
// and takes, and the host has read it as Envoy will. Envoy's rules are written here once
// more, with the generated classes.
//
// Readers: host/wire/response.cc host/stream/guard.cc
#include <algorithm>
#include <string>

#include "envoy/service/ext_proc/v3/external_processor.pb.h"
#include "host/stream/guard.h"
#include "host/wire/annotations.h"
#include "host/wire/envelope.h"
#include "host/wire/mutation.h"
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

// What the host reads of it beside the view, against the classes.
std::string CompareStatus(callout_field_t field, const std::string& payload,
                          const Expected& expected) {
  const uint32_t status = ReadImmediateStatus(field, payload);
  if (field != CALLOUT_IMMEDIATE_RESPONSE) return "";
  const int code = expected.immediate_response().status().code();
  return status == static_cast<uint32_t>(std::max(code, 200)) ? "" : "a status differs";
}

// Headers of a message, with what a response does to them.
std::string CheckLimits(Choices& choices, const HeaderMutationView& mutation) {
  ext_proc::HttpHeaders message;
  for (unsigned i = choices.Next(4); i > 0; --i) {
    auto* const header = message.mutable_headers()->add_headers();
    header->set_key("x-" + std::to_string(i));
    header->set_raw_value("value");
  }
  const size_t count_max = 1 + choices.Next(4), bytes_max = 8 + choices.Next(64);
  const std::string bytes = message.SerializeAsString();
  const HeaderSize before = MeasureHeaders(bytes);
  const HeaderSize after = MeasureHeaders(ApplyHeaderMutation(bytes, mutation));
  const bool is_over = (after.count > count_max && before.count <= count_max) ||
                       (after.bytes > bytes_max && before.bytes <= bytes_max);
  const Finding found = CheckHeaderLimits(bytes, mutation, count_max, bytes_max);
  return found.ok() != (is_over && !mutation.set.empty()) ? "" : "a limit of headers is not held";
}

// What the host writes itself, read as the payload of `field`, which `view` looks into.
std::string ReadOwn(callout_field_t field, const std::string& payload, ResponseView* view) {
  Expected expected;
  Response record;
  BuildRecord(field, payload, &record);
  if (!ParsesAs(record.record, &expected)) return "what the host writes cannot be parsed";
  return ReadResponse(field, payload, view) ? "" : "what the host writes cannot be read";
}

std::string Write(Choices& choices) {
  const bool end_of_stream = choices.Next(2) == 0;
  const int status = 200 + static_cast<int>(choices.Next(250));
  const std::string text(choices.Next(4), static_cast<char>('a' + choices.Next(26)));
  ResponseView body;
  const std::string streamed = WriteStreamedBody(text, end_of_stream);
  if (auto e = ReadOwn(CALLOUT_REQUEST_BODY_RESPONSE, streamed, &body); !e.empty()) return e;
  if (body.body_mutation != Body::kStreamed || body.body != text ||
      body.end_of_stream != end_of_stream) {
    return "a streamed body is read as another";
  }
  ResponseView immediate;
  const std::string details = end_of_stream ? text : "";
  std::string denial = WriteImmediateResponse(status, details);
  if (details.empty()) denial += WriteImmediateDetails(text);
  if (auto e = ReadOwn(CALLOUT_IMMEDIATE_RESPONSE, denial, &immediate); !e.empty()) return e;
  if (immediate.has_details != !text.empty() ||
      ReadImmediateStatus(CALLOUT_IMMEDIATE_RESPONSE, denial) != static_cast<uint32_t>(status)) {
    return "a denial is read as another";
  }
  ResponseView end;
  const std::string last = WriteStreamedImmediateEnd();
  if (auto e = ReadOwn(CALLOUT_STREAMED_IMMEDIATE_RESPONSE, last, &end); !e.empty()) return e;
  if (!end.end_of_stream) return "the end of a streamed reply is none";
  ResponseView headers;
  const std::string both = WriteBodyHeaderSet("x-a", text) + WriteBodyHeaderRemoval("x-b");
  if (auto e = ReadOwn(CALLOUT_RESPONSE_BODY_RESPONSE, both, &headers); !e.empty()) return e;
  const bool same = headers.headers.set.size() == 1 && headers.headers.set[0].value == text &&
                    headers.headers.remove.size() == 1 && headers.headers.remove[0] == "x-b";
  return same ? "" : "headers of a body are read as others";
}

// What hooks look for in the message before them.
std::string ReadMessage(const std::string& bytes) {
  HeadersMessageView view;
  const bool reads = ReadHeadersMessage(bytes, true, &view);
  std::string_view body;
  bool ends = false;
  (void)ReadBodyMessage(bytes, &body, &ends);
  ext_proc::HttpHeaders expected;
  if (!ParsesAs(bytes, &expected) || MayHaveWideTag(bytes)) return "";
  if (HasRecord(bytes, *ext_proc::HttpHeaders::descriptor(), [](const auto*, auto wire_type) {
        return wire_type == google::protobuf::internal::WireFormatLite::WIRETYPE_START_GROUP;
      })) {
    return "";
  }
  if (!reads) return "headers that protobuf reads are refused";
  if (view.end_of_stream != expected.end_of_stream()) return "the end of headers differs";
  const auto& headers = expected.headers().headers();
  const auto first = std::find_if(headers.begin(), headers.end(), [](const auto& header) {
    return header.key() == "x" && !header.raw_value().empty();
  });
  const std::string_view found = FindHeader(bytes, "x");
  if (first != headers.end() && found.empty()) return "a header is not found";
  return view.content_length.has_value() && !view.has_content_length ? "a length from nowhere" : "";
}

// Dynamic metadata: what passes has no control character that ends a header.
std::string ReadMetadata(const std::string& payload) {
  google::protobuf::Struct expected;
  std::string records;
  AppendRecord(CALLOUT_DYNAMIC_METADATA, payload, &records);
  const Finding found = CheckMetadata(records, CALLOUT_DYNAMIC_METADATA);
  if (found.ok() != CheckMetadataStruct(payload).ok()) return "metadata differ by where they stand";
  if (!found.ok() || MayHaveWideTag(payload) || !ParsesAs(payload, &expected)) return "";
  for (const auto& [key, value] : expected.fields()) {
    const std::string& text = value.string_value();
    if (text.find_first_of(std::string("\r\n\0", 3)) != text.npos) return "metadata with CR or LF";
  }
  return "";
}

FUZZ_TARGET(response, .rounds = 30000, .bytes = 24) {
  const Situation situation = {CALLOUT_REQUEST_HEADERS + choices.Next(6), choices.Next(5)};
  // Beyond the fields of a response: what the host writes itself, and metadata.
  const unsigned kind = choices.Next(15);
  if (kind == 14) return ReadMessage(choices.Rest());
  if (kind == 12) return Write(choices);
  if (kind == 13) return ReadMetadata(choices.Rest());
  const callout_field_t field = 1 + kind;
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
  (void)FindIgnored(situation.phase, view);
  Choices more(reinterpret_cast<const uint8_t*>(payload.data()), payload.size());
  if (std::string error = CheckLimits(more, view.headers); !error.empty()) return error;
  if (std::string error = CompareStatus(field, payload, expected); !error.empty()) return error;
  return Compare(view, expected, situation);
}

}  // namespace
}  // namespace callout::host
