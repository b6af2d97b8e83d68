#include "host/wire/response.h"

#include "host/base/utf8.h"
#include "host/wire/wire.h"

namespace callout::host {

namespace {

// Field numbers of envoy/service/ext_proc/v3 and envoy/config/core/v3, as of
// Envoy 1.40. Repeated records of an embedded message merge, so that reading
// each into the same view is what protobuf does.

// HeaderValue: key 1, value 2, raw_value 3.
bool ReadHeaderValue(std::string_view bytes, HeaderSet* header) {
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.Is(1)) {
      header->key = reader.bytes();
    } else if (reader.Is(2)) {
      if (!IsUtf8(reader.bytes())) return false;
    } else if (reader.Is(3)) {
      header->value = reader.bytes();
    }
  }
  return reader.ok();
}

// BoolValue: value 1.
bool ReadBoolValue(std::string_view bytes, bool* value) {
  WireReader reader(bytes);
  *value = false;
  while (reader.Next()) {
    if (reader.IsVarint(1)) *value = reader.varint() != 0;
  }
  return reader.ok();
}

// HeaderValueOption: header 1, append 2 (BoolValue).
bool ReadHeaderSet(std::string_view bytes, HeaderSet* header) {
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.Is(1)) {
      if (!ReadHeaderValue(reader.bytes(), header)) return false;
    } else if (reader.Is(2)) {
      if (!ReadBoolValue(reader.bytes(), &header->append)) return false;
    }
  }
  return reader.ok();
}

// HeaderMutation: set_headers 1, remove_headers 2.
bool ReadHeaderMutation(std::string_view bytes, HeaderMutationView* mutation) {
  mutation->present = true;
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.Is(1)) {
      mutation->set.emplace_back();
      if (!ReadHeaderSet(reader.bytes(), &mutation->set.back())) return false;
    } else if (reader.Is(2)) {
      mutation->remove.push_back(reader.bytes());
    }
  }
  return reader.ok();
}

// StreamedBodyResponse: body 1, end_of_stream 2.
bool ReadStreamedBody(std::string_view bytes, ResponseView* view) {
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.Is(1)) {
      view->body = reader.bytes();
    } else if (reader.IsVarint(2)) {
      view->end_of_stream = reader.varint() != 0;
    }
  }
  return reader.ok();
}

// BodyMutation: oneof body 1, clear_body 2, streamed_response 3.
bool ReadBodyMutation(std::string_view bytes, ResponseView* view) {
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.Is(1)) {
      view->body_mutation = ResponseView::Body::kReplaced;
      view->body = reader.bytes();
    } else if (reader.IsVarint(2)) {
      view->body_mutation =
          reader.varint() != 0 ? ResponseView::Body::kCleared : ResponseView::Body::kUnchanged;
      view->body = {};
    } else if (reader.Is(3)) {
      if (view->body_mutation != ResponseView::Body::kStreamed) view->body = {};
      view->body_mutation = ResponseView::Body::kStreamed;
      if (!ReadStreamedBody(reader.bytes(), view)) return false;
    }
  }
  return reader.ok();
}

// HeaderMap: headers 1.
bool ReadHeaderMap(std::string_view bytes, ResponseView* view) {
  WireReader reader(bytes);
  while (reader.Next()) {
    if (!reader.Is(1)) continue;
    view->headers.set.emplace_back();
    if (!ReadHeaderValue(reader.bytes(), &view->headers.set.back())) return false;
  }
  return reader.ok();
}

// CommonResponse: status 1, header_mutation 2, body_mutation 3, trailers 4,
// clear_route_cache 5.
bool ReadCommonResponse(std::string_view bytes, ResponseView* view) {
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.IsVarint(1)) {
      view->continue_and_replace = reader.varint() == 1;
    } else if (reader.Is(2)) {
      if (!ReadHeaderMutation(reader.bytes(), &view->headers)) return false;
    } else if (reader.Is(3)) {
      if (!ReadBodyMutation(reader.bytes(), view)) return false;
    } else if (reader.Is(4)) {
      ResponseView trailers;
      if (!ReadHeaderMap(reader.bytes(), &trailers)) return false;
    } else if (reader.IsVarint(5)) {
      view->clear_route_cache = reader.varint() != 0;
    }
  }
  return reader.ok();
}

// HeadersResponse and BodyResponse: response 1.
bool ReadHeadersOrBodyResponse(std::string_view bytes, ResponseView* view) {
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.Is(1) && !ReadCommonResponse(reader.bytes(), view)) return false;
  }
  return reader.ok();
}

// TrailersResponse: header_mutation 1.
bool ReadTrailersResponse(std::string_view bytes, ResponseView* view) {
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.Is(1) && !ReadHeaderMutation(reader.bytes(), &view->headers)) return false;
  }
  return reader.ok();
}

// ImmediateResponse: status 1, headers 2, body 3, grpc_status 4, details 5.
bool ReadImmediate(std::string_view bytes, ResponseView* view) {
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.Is(2)) {
      if (!ReadHeaderMutation(reader.bytes(), &view->headers)) return false;
    } else if (reader.Is(3)) {
      view->body = reader.bytes();
    } else if (reader.Is(1) || reader.Is(4)) {
      if (!IsWellFormed(reader.bytes())) return false;
    } else if (reader.Is(5)) {
      if (!IsUtf8(reader.bytes())) return false;
      view->has_details = !reader.bytes().empty();
    }
  }
  return reader.ok();
}

// HttpHeaders: attributes 2, which have no place in an answer.
bool HasAttributes(std::string_view bytes) {
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.Is(2)) return true;
  }
  return false;
}

// StreamedImmediateResponse: oneof headers_response 1, body_response 2,
// trailers_response 3.
bool ReadStreamedImmediate(std::string_view bytes, ResponseView* view) {
  using Part = ResponseView::Streamed;
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.Is(1)) {
      view->streamed_part = Part::kHeaders;
      if (!ReadHttpHeaders(reader.bytes(), view) || HasAttributes(reader.bytes())) return false;
    } else if (reader.Is(2)) {
      view->streamed_part = Part::kBody;
      if (!ReadStreamedBody(reader.bytes(), view)) return false;
    } else if (reader.Is(3)) {
      view->streamed_part = Part::kTrailers;
      if (!ReadHeaderMap(reader.bytes(), view)) return false;
    }
  }
  return reader.ok();
}

// A BodyResponse payload with nothing but `mutation`, a HeaderMutation.
std::string WrapBodyHeaders(const std::string& mutation) {
  std::string common;
  AppendBytes(2, mutation, &common);
  std::string payload;
  AppendBytes(1, common, &payload);
  return payload;
}

}  // namespace

// HttpHeaders: headers 1, end_of_stream 3.
bool ReadHttpHeaders(std::string_view bytes, ResponseView* view) {
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.Is(1)) {
      if (!ReadHeaderMap(reader.bytes(), view)) return false;
    } else if (reader.IsVarint(3)) {
      view->end_of_stream = reader.varint() != 0;
    }
  }
  return reader.ok();
}

bool ReadResponse(callout_field_t field, std::string_view payload, ResponseView* view) {
  switch (field) {
    case CALLOUT_REQUEST_HEADERS_RESPONSE:
    case CALLOUT_RESPONSE_HEADERS_RESPONSE:
    case CALLOUT_REQUEST_BODY_RESPONSE:
    case CALLOUT_RESPONSE_BODY_RESPONSE:
      return ReadHeadersOrBodyResponse(payload, view);
    case CALLOUT_REQUEST_TRAILERS_RESPONSE:
    case CALLOUT_RESPONSE_TRAILERS_RESPONSE:
      return ReadTrailersResponse(payload, view);
    case CALLOUT_IMMEDIATE_RESPONSE:
      return ReadImmediate(payload, view);
    case CALLOUT_STREAMED_IMMEDIATE_RESPONSE:
      return ReadStreamedImmediate(payload, view);
    default:
      return false;
  }
}

bool ReadHeadersMessage(std::string_view message, bool find_content_length,
                        HeadersMessageView* view) {
  WireReader reader(message);
  while (reader.Next()) {
    if (reader.IsVarint(3)) {
      view->end_of_stream = reader.varint() != 0;
    } else if (find_content_length && reader.Is(1)) {
      ResponseView headers;
      if (!ReadHeaderMap(reader.bytes(), &headers)) return false;
      for (const HeaderSet& header : headers.headers.set) {
        if (EqualsIgnoreCase(header.key, "content-length")) view->has_content_length = true;
      }
    }
  }
  return reader.ok();
}

bool ReadBodyMessage(std::string_view message, std::string_view* body, bool* end_of_stream) {
  ResponseView view;
  if (!ReadStreamedBody(message, &view)) return false;
  *body = view.body;
  *end_of_stream = view.end_of_stream;
  return true;
}

std::string ToLowerAscii(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = ToLowerAscii(c);
  return lower;
}

bool EqualsIgnoreCase(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (ToLowerAscii(a[i]) != ToLowerAscii(b[i])) return false;
  }
  return true;
}

std::string WriteStreamedBody(std::string_view body, bool end_of_stream) {
  // BodyResponse.response.body_mutation.streamed_response, inside out.
  std::string streamed;
  streamed.reserve(body.size() + 32);
  const size_t eos_size = end_of_stream ? 2 : 0;
  const size_t body_size = body.empty() ? 0 : BytesSize(1, body.size());
  const size_t streamed_size = body_size + eos_size;
  const size_t mutation_size = BytesSize(3, streamed_size);
  const size_t common_size = BytesSize(3, mutation_size);
  AppendBytesHead(1, common_size, &streamed);
  AppendBytesHead(3, mutation_size, &streamed);
  AppendBytesHead(3, streamed_size, &streamed);
  if (!body.empty()) AppendBytes(1, body, &streamed);
  if (end_of_stream) AppendVarint(2, 1, &streamed);
  return streamed;
}

std::string WriteImmediateResponse(int http_status, std::string_view details) {
  std::string status;
  AppendVarint(1, static_cast<uint64_t>(http_status), &status);
  std::string payload;
  AppendBytes(1, status, &payload);
  if (!details.empty()) AppendBytes(5, details, &payload);
  return payload;
}

std::string WriteImmediateDetails(std::string_view details) {
  std::string field;
  AppendBytes(5, details, &field);
  return field;
}

std::string WriteStreamedImmediateEnd() {
  std::string body;
  AppendVarint(2, 1, &body);
  std::string payload;
  AppendBytes(2, body, &payload);
  return payload;
}

std::string WriteBodyHeaderSet(std::string_view key, std::string_view value) {
  std::string header;
  AppendBytes(1, key, &header);
  AppendBytes(3, value, &header);
  std::string option;
  AppendBytes(1, header, &option);
  AppendVarint(3, 2, &option);  // append_action: OVERWRITE_IF_EXISTS_OR_ADD
  std::string mutation;
  AppendBytes(1, option, &mutation);
  return WrapBodyHeaders(mutation);
}

std::string WriteBodyHeaderRemoval(std::string_view key) {
  std::string mutation;
  AppendBytes(2, key, &mutation);
  return WrapBodyHeaders(mutation);
}

}  // namespace callout::host
