// SPDX-License-Identifier: Apache-2.0

#include "host/wire/response.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <system_error>

#include "host/base/ascii.h"
#include "host/base/utf8.h"
#include "host/wire/field_numbers.h"
#include "host/wire/short_pair.h"
#include "host/wire/wire.h"

namespace callout::host {

namespace {

std::optional<uint64_t> ReadNumber(std::string_view text) {
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

// What Envoy and most plugins write.
bool ReadPlainHeader(std::string_view bytes, HeaderSet* header) {
  return ReadShortPair<field::HeaderValue::kKey, field::HeaderValue::kRawValue>(bytes, &header->key,
                                                                                &header->value);
}

// Protobuf refuses a message for a name that is not UTF-8 even if a later record replaces it. The
// guard checks those that are not replaced.
bool MayReplace(const HeaderSet& header) { return header.key.empty() || IsUtf8(header.key); }

bool MayDrop(const HeaderMutationView& headers) {
  return std::all_of(headers.set.begin(), headers.set.end(), MayReplace);
}

// Protobuf merges repeated records of an embedded message, so all of them are read into one view.
bool ReadHeaderValue(std::string_view bytes, HeaderSet* header) {
  if (!MayReplace(*header)) return false;
  if (ReadPlainHeader(bytes, header)) return true;
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.Is(field::HeaderValue::kKey)) {
      if (!MayReplace(*header)) return false;
      header->key = reader.bytes();
    } else if (reader.Is(field::HeaderValue::kValue)) {
      if (!IsUtf8(reader.bytes())) return false;
      header->only_value = header->value.empty() && !reader.bytes().empty();
    } else if (reader.Is(field::HeaderValue::kRawValue)) {
      header->value = reader.bytes();
      header->only_value = false;
    }
  }
  return reader.ok();
}

bool ReadBoolValue(std::string_view bytes, bool* value) {
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.IsVarint(field::BoolValue::kValue)) *value = reader.varint() != 0;
  }
  return reader.ok();
}

bool IsOtherAction(uint64_t action) {
  constexpr uint64_t kAddIfAbsent = 1;
  constexpr uint64_t kOverwriteIfExists = 3;
  return action == kAddIfAbsent || action == kOverwriteIfExists;
}

// A plain header and at most what to do where there is one already, in this order, which is what
// plugins write by the helper library; false, with nothing read, for any other.
bool ReadPlainSet(std::string_view bytes, HeaderSet* header) {
  constexpr unsigned char kHeaderTag = field::HeaderValueOption::kHeader << 3 | 2;
  constexpr unsigned char kActionTag = field::HeaderValueOption::kAppendAction << 3;
  constexpr size_t kHeadBytes = 2;
  constexpr size_t kActionBytes = 2;
  if (bytes.size() < kHeadBytes) return false;
  const auto* const at = reinterpret_cast<const unsigned char*>(bytes.data());
  const size_t size = at[1];
  const size_t end = kHeadBytes + size;
  if (at[0] != kHeaderTag || size >= 0x80 || end > bytes.size()) return false;
  const bool has_action = bytes.size() == end + kActionBytes && at[end] == kActionTag;
  const unsigned action = has_action ? at[end + 1] : 0;
  if ((!has_action && bytes.size() != end) || action >= 0x80) return false;
  if (!ReadPlainHeader(bytes.substr(kHeadBytes, size), header)) return false;
  header->other_action = IsOtherAction(action);
  return true;
}

bool ReadHeaderSet(std::string_view bytes, HeaderSet* header) {
  if (ReadPlainSet(bytes, header)) return true;
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.Is(field::HeaderValueOption::kHeader)) {
      if (!ReadHeaderValue(reader.bytes(), header)) return false;
    } else if (reader.Is(field::HeaderValueOption::kAppend)) {
      if (!ReadBoolValue(reader.bytes(), &header->append)) return false;
    } else if (reader.IsVarint(field::HeaderValueOption::kAppendAction)) {
      header->other_action = IsOtherAction(reader.varint());
    }
  }
  return reader.ok();
}

}  // namespace

bool ReadHeaderMutation(std::string_view bytes, HeaderMutationView* mutation) {
  mutation->present = true;
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.Is(field::HeaderMutation::kSetHeaders)) {
      mutation->set.emplace_back();
      if (!ReadHeaderSet(reader.bytes(), &mutation->set.back())) return false;
    } else if (reader.Is(field::HeaderMutation::kRemoveHeaders)) {
      mutation->remove.push_back(reader.bytes());
    }
  }
  return reader.ok();
}

namespace {

bool ReadStreamedBody(std::string_view bytes, ResponseView* view) {
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.Is(field::StreamedBodyResponse::kBody)) {
      view->body = reader.bytes();
    } else if (reader.IsVarint(field::StreamedBodyResponse::kEndOfStream)) {
      view->end_of_stream = reader.varint() != 0;
    }
  }
  return reader.ok();
}

bool ReadBodyMutation(std::string_view bytes, ResponseView* view) {
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.Is(field::BodyMutation::kBody)) {
      view->body_mutation = ResponseView::Body::kReplaced;
      view->body = reader.bytes();
    } else if (reader.IsVarint(field::BodyMutation::kClearBody)) {
      view->body_mutation =
          reader.varint() != 0 ? ResponseView::Body::kCleared : ResponseView::Body::kUnchanged;
      view->body = {};
    } else if (reader.Is(field::BodyMutation::kStreamedResponse)) {
      if (view->body_mutation != ResponseView::Body::kStreamed) {
        view->body = {};
        view->end_of_stream = false;
      }
      view->body_mutation = ResponseView::Body::kStreamed;
      if (!ReadStreamedBody(reader.bytes(), view)) return false;
    }
  }
  return reader.ok();
}

bool ReadHeaderMap(std::string_view bytes, ResponseView* view) {
  WireReader reader(bytes);
  while (reader.Next()) {
    if (!reader.Is(field::HeaderMap::kHeaders)) continue;
    view->headers.set.emplace_back();
    if (!ReadHeaderValue(reader.bytes(), &view->headers.set.back())) return false;
  }
  return reader.ok();
}

bool ReadCommonResponse(std::string_view bytes, ResponseView* view) {
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.IsVarint(field::CommonResponse::kStatus)) {
      // Protobuf keeps 32 bits of an enum.
      view->continue_and_replace = static_cast<uint32_t>(reader.varint()) == 1;
    } else if (reader.Is(field::CommonResponse::kHeaderMutation)) {
      if (!ReadHeaderMutation(reader.bytes(), &view->headers)) return false;
    } else if (reader.Is(field::CommonResponse::kBodyMutation)) {
      if (!ReadBodyMutation(reader.bytes(), view)) return false;
    } else if (reader.Is(field::CommonResponse::kTrailers)) {
      ResponseView trailers;
      if (!ReadHeaderMap(reader.bytes(), &trailers)) return false;
      if (!MayDrop(trailers.headers)) return false;  // the guard does not see these
      view->may_have_rest = true;
    } else if (reader.IsVarint(field::CommonResponse::kClearRouteCache)) {
      view->clear_route_cache = reader.varint() != 0;
    } else {
      view->may_have_rest = true;
    }
  }
  return reader.ok();
}

// The content of a message's only record, if that is field `number` with 1 to 127 bytes; else "".
std::string_view OnlyShortText(std::string_view message, uint32_t number) {
  const std::string_view text = ShortText(message, number);
  return text.size() + 2 == message.size() ? text : std::string_view();
}

// Both have their CommonResponse in the same field.
static_assert(field::HeadersResponse::kResponse == field::BodyResponse::kResponse);
bool ReadHeadersOrBodyResponse(std::string_view bytes, ResponseView* view) {
  // Most responses change a few headers, and nothing else.
  const std::string_view common = OnlyShortText(bytes, field::BodyResponse::kResponse);
  const std::string_view mutation = OnlyShortText(common, field::CommonResponse::kHeaderMutation);
  if (!mutation.empty()) return ReadHeaderMutation(mutation, &view->headers);
  WireReader reader(bytes);
  while (reader.Next()) {
    if (!reader.Is(field::BodyResponse::kResponse)) {
      view->may_have_rest = true;
    } else if (!ReadCommonResponse(reader.bytes(), view)) {
      return false;
    }
  }
  return reader.ok();
}

bool ReadTrailersResponse(std::string_view bytes, ResponseView* view) {
  WireReader reader(bytes);
  while (reader.Next()) {
    if (!reader.Is(field::TrailersResponse::kHeaderMutation)) {
      view->may_have_rest = true;
    } else if (!ReadHeaderMutation(reader.bytes(), &view->headers)) {
      return false;
    }
  }
  return reader.ok();
}

bool ReadImmediate(std::string_view bytes, ResponseView* view) {
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.Is(field::ImmediateResponse::kHeaders)) {
      if (!ReadHeaderMutation(reader.bytes(), &view->headers)) return false;
    } else if (reader.Is(field::ImmediateResponse::kBody)) {
      view->body = reader.bytes();
    } else if (reader.Is(field::ImmediateResponse::kStatus) ||
               reader.Is(field::ImmediateResponse::kGrpcStatus)) {
      if (!IsWellFormed(reader.bytes())) return false;
    } else if (reader.Is(field::ImmediateResponse::kDetails)) {
      if (!IsUtf8(reader.bytes())) return false;
      view->has_details = !reader.bytes().empty();
    }
  }
  return reader.ok();
}

// Attributes have no place in a response.
bool HasAttributes(std::string_view bytes) {
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.Is(field::HttpHeaders::kAttributes)) return true;
  }
  return false;
}

// As in every oneof, another member takes the place of the one before. False if that one makes the
// message invalid all the same.
bool BeginPart(ResponseView::Streamed part, ResponseView* view) {
  if (view->streamed_part == part) return true;
  if (!MayDrop(view->headers)) return false;
  view->Clear();
  view->streamed_part = part;
  return true;
}

bool ReadStreamedImmediate(std::string_view bytes, ResponseView* view) {
  using Part = ResponseView::Streamed;
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.Is(field::StreamedImmediateResponse::kHeadersResponse)) {
      if (!BeginPart(Part::kHeaders, view) || !ReadHttpHeaders(reader.bytes(), view) ||
          HasAttributes(reader.bytes())) {
        return false;
      }
    } else if (reader.Is(field::StreamedImmediateResponse::kBodyResponse)) {
      if (!BeginPart(Part::kBody, view) || !ReadStreamedBody(reader.bytes(), view)) return false;
    } else if (reader.Is(field::StreamedImmediateResponse::kTrailersResponse)) {
      if (!BeginPart(Part::kTrailers, view) || !ReadHeaderMap(reader.bytes(), view)) return false;
    }
  }
  return reader.ok();
}

// A BodyResponse payload that only has `mutation`, a HeaderMutation.
std::string WrapBodyHeaders(const std::string& mutation) {
  std::string common;
  AppendBytes(field::CommonResponse::kHeaderMutation, mutation, &common);
  std::string payload;
  AppendBytes(field::BodyResponse::kResponse, common, &payload);
  return payload;
}

}  // namespace

bool ReadHttpHeaders(std::string_view bytes, ResponseView* view) {
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.Is(field::HttpHeaders::kHeaders)) {
      if (!ReadHeaderMap(reader.bytes(), view)) return false;
    } else if (reader.IsVarint(field::HttpHeaders::kEndOfStream)) {
      view->end_of_stream = reader.varint() != 0;
    }
  }
  return reader.ok();
}

std::string_view FindHeader(std::string_view message, std::string_view name) {
  WireReader reader(message);
  while (reader.Next()) {
    if (!reader.Is(field::HttpHeaders::kHeaders)) continue;
    WireReader list(reader.bytes());
    while (list.Next()) {
      HeaderSet header;
      if (!list.Is(field::HeaderMap::kHeaders)) continue;
      if (!ReadHeaderValue(list.bytes(), &header)) return {};
      if (!header.value.empty() && EqualsIgnoreCase(header.key, name)) return header.value;
    }
  }
  return {};
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

bool ReadHeadersMessage(std::string_view message, bool read_list, HeadersMessageView* view) {
  WireReader reader(message);
  while (reader.Next()) {
    if (reader.IsVarint(field::HttpHeaders::kEndOfStream)) {
      view->end_of_stream = reader.varint() != 0;
    } else if (read_list && reader.Is(field::HttpHeaders::kHeaders)) {
      // One header at a time: a list of all would take many times the memory of the message.
      WireReader list(reader.bytes());
      while (list.Next()) {
        if (!list.Is(field::HeaderMap::kHeaders)) continue;
        HeaderSet header;
        if (!ReadHeaderValue(list.bytes(), &header)) return false;
        if (EqualsIgnoreCase(header.key, "content-length")) {
          view->has_content_length = true;
          view->content_length = ReadNumber(header.value);
        }
        if (EqualsIgnoreCase(header.key, "content-encoding")) view->has_content_encoding = true;
      }
      if (!list.ok()) return false;
    }
  }
  return reader.ok();
}

uint32_t ReadStatus(std::string_view message) {
  WireReader reader(message);
  while (reader.Next()) {
    if (!reader.Is(field::HttpHeaders::kHeaders)) continue;
    WireReader list(reader.bytes());
    while (list.Next()) {
      HeaderSet header;
      if (!list.Is(field::HeaderMap::kHeaders) || !ReadHeaderValue(list.bytes(), &header)) continue;
      if (header.key != ":status") continue;
      uint32_t status = 0;
      std::from_chars(header.value.data(), header.value.data() + header.value.size(), status);
      return status;
    }
  }
  return 0;
}

uint32_t ReadImmediateStatus(callout_field_t field, std::string_view payload) {
  constexpr int32_t kEnvoyDefault = 200;  // where it is not set, or below 200
  WireReader reader(payload);
  if (field == CALLOUT_STREAMED_IMMEDIATE_RESPONSE) {
    while (reader.Next()) {
      if (reader.Is(field::StreamedImmediateResponse::kHeadersResponse)) {
        return ReadStatus(reader.bytes());
      }
    }
    return 0;
  }
  int32_t code = 0;  // protobuf keeps 32 bits of an enum
  while (reader.Next()) {
    if (!reader.Is(field::ImmediateResponse::kStatus)) continue;
    WireReader status(reader.bytes());
    while (status.Next()) {
      if (status.IsVarint(field::HttpStatus::kCode)) code = static_cast<int32_t>(status.varint());
    }
  }
  return static_cast<uint32_t>(std::max(code, kEnvoyDefault));
}

bool ReadBodyMessage(std::string_view message, std::string_view* body, bool* end_of_stream) {
  ResponseView view;
  if (!ReadStreamedBody(message, &view)) return false;
  *body = view.body;
  *end_of_stream = view.end_of_stream;
  return true;
}

std::string WriteStreamedBody(std::string_view body, bool end_of_stream) {
  // BodyResponse.response.body_mutation.streamed_response, inside out.
  std::string streamed;
  streamed.reserve(body.size() + 32);
  const size_t eos_size = end_of_stream ? 2 : 0;
  const size_t body_size =
      body.empty() ? 0 : BytesSize(field::StreamedBodyResponse::kBody, body.size());
  const size_t streamed_size = body_size + eos_size;
  const size_t mutation_size = BytesSize(field::BodyMutation::kStreamedResponse, streamed_size);
  const size_t common_size = BytesSize(field::CommonResponse::kBodyMutation, mutation_size);
  AppendBytesHead(field::BodyResponse::kResponse, common_size, &streamed);
  AppendBytesHead(field::CommonResponse::kBodyMutation, mutation_size, &streamed);
  AppendBytesHead(field::BodyMutation::kStreamedResponse, streamed_size, &streamed);
  if (!body.empty()) AppendBytes(field::StreamedBodyResponse::kBody, body, &streamed);
  if (end_of_stream) AppendVarint(field::StreamedBodyResponse::kEndOfStream, 1, &streamed);
  return streamed;
}

std::string WriteImmediateResponse(int http_status, std::string_view details) {
  std::string status;
  AppendVarint(field::HttpStatus::kCode, static_cast<uint64_t>(http_status), &status);
  std::string payload;
  AppendBytes(field::ImmediateResponse::kStatus, status, &payload);
  if (!details.empty()) AppendBytes(field::ImmediateResponse::kDetails, details, &payload);
  return payload;
}

std::string WriteImmediateDetails(std::string_view details) {
  std::string record;
  AppendBytes(field::ImmediateResponse::kDetails, details, &record);
  return record;
}

std::string WriteStreamedImmediateEnd() {
  std::string body;
  AppendVarint(field::StreamedBodyResponse::kEndOfStream, 1, &body);
  std::string payload;
  AppendBytes(field::StreamedImmediateResponse::kBodyResponse, body, &payload);
  return payload;
}

std::string WriteBodyHeaderSet(std::string_view key, std::string_view value) {
  std::string header;
  AppendBytes(field::HeaderValue::kKey, key, &header);
  AppendBytes(field::HeaderValue::kRawValue, value, &header);
  std::string option;
  AppendBytes(field::HeaderValueOption::kHeader, header, &option);
  AppendVarint(field::HeaderValueOption::kAppendAction, 2,
               &option);  // append_action: OVERWRITE_IF_EXISTS_OR_ADD
  std::string mutation;
  AppendBytes(field::HeaderMutation::kSetHeaders, option, &mutation);
  return WrapBodyHeaders(mutation);
}

std::string WriteBodyHeaderRemoval(std::string_view key) {
  std::string mutation;
  AppendBytes(field::HeaderMutation::kRemoveHeaders, key, &mutation);
  return WrapBodyHeaders(mutation);
}

}  // namespace callout::host
