// SPDX-License-Identifier: Apache-2.0

#include "host/wire/check_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "absl/status/status.h"
#include "host/base/ascii.h"
#include "host/wire/attribute_record.h"
#include "host/wire/field_numbers.h"
#include "host/wire/wire.h"

namespace callout::host {

namespace {

constexpr char kAttributesKey[] = "envoy.filters.http.ext_authz";

absl::Status Malformed() { return absl::InvalidArgumentError("the message is not a CheckRequest"); }

// Sets `found` to the message in the one record that it may stand in.
bool Once(const WireReader& reader, bool* seen, std::string_view* found) {
  *found = reader.bytes();
  return !std::exchange(*seen, true);
}

struct MapEntry {
  std::string_view key;
  std::string_view value;
};

bool ReadMapEntry(std::string_view bytes, MapEntry* entry) {
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.Is(field::HeadersEntry::kKey)) entry->key = reader.bytes();
    if (reader.Is(field::HeadersEntry::kValue)) entry->value = reader.bytes();
  }
  return reader.ok();
}

bool ReadHeaderValue(std::string_view bytes, CheckRequestView::Header* header) {
  std::string_view raw;
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.Is(field::HeaderValue::kKey)) header->name = reader.bytes();
    if (reader.Is(field::HeaderValue::kValue)) header->value = reader.bytes();
    if (reader.Is(field::HeaderValue::kRawValue)) raw = reader.bytes();
  }
  if (!raw.empty()) header->value = raw;
  return reader.ok();
}

bool ReadHeaderMap(std::string_view bytes, CheckRequestView* view) {
  WireReader reader(bytes);
  while (reader.Next()) {
    if (!reader.Is(field::HeaderMap::kHeaders)) continue;
    view->headers.emplace_back();
    if (!ReadHeaderValue(reader.bytes(), &view->headers.back())) return false;
  }
  return reader.ok();
}

// How many headers there are, before anything is kept of them.
size_t CountHeaders(std::string_view http) {
  size_t count = 0;
  WireReader reader(http);
  while (reader.Next()) {
    if (reader.Is(field::HttpRequest::kHeaders)) ++count;
    if (reader.Is(field::HttpRequest::kHeaderMap)) count += CountRecords(reader.bytes());
  }
  return count;
}

// Keeps the last entry of each name.
void DropEarlierOnes(std::vector<CheckRequestView::Header>* headers) {
  std::unordered_map<std::string_view, size_t> places;
  size_t kept = 0;
  for (const CheckRequestView::Header& header : *headers) {
    const auto [place, is_new] = places.emplace(header.name, kept);
    (*headers)[place->second] = header;
    if (is_new) ++kept;
  }
  headers->resize(kept);
}

bool ReadHttp(CheckRequestView* view) {
  WireReader reader(view->http);
  while (reader.Next()) {
    if (reader.Is(field::HttpRequest::kHeaders)) {
      MapEntry entry;
      if (!ReadMapEntry(reader.bytes(), &entry)) return false;
      view->headers.push_back({entry.key, entry.value});
    } else if (reader.Is(field::HttpRequest::kHeaderMap)) {
      if (view->has_raw_headers) return false;
      view->has_raw_headers = true;
    } else if (reader.Is(field::HttpRequest::kBody) || reader.Is(field::HttpRequest::kRawBody)) {
      view->has_body = view->has_body || !reader.bytes().empty();
    } else if (reader.Is(field::HttpRequest::kPath)) {
      view->path = reader.bytes();
    }
  }
  if (!reader.ok()) return false;
  if (!view->has_raw_headers) {
    DropEarlierOnes(&view->headers);
    return true;
  }
  if (!view->headers.empty()) return false;  // two accounts of one thing
  WireReader again(view->http);
  while (again.Next()) {
    if (again.Is(field::HttpRequest::kHeaderMap)) return ReadHeaderMap(again.bytes(), view);
  }
  return false;
}

bool ReadPeer(std::string_view bytes) {
  WireReader reader(bytes);
  while (reader.Next()) {
    if (!reader.Is(field::Peer::kAddress)) continue;
    WireReader address(reader.bytes());
    while (address.Next()) {
      if (address.Is(field::Address::kSocketAddress) && !IsWellFormed(address.bytes())) {
        return false;
      }
    }
    if (!address.ok()) return false;
  }
  return reader.ok();
}

bool ReadRequest(std::string_view bytes, CheckRequestView* view) {
  WireReader reader(bytes);
  while (reader.Next()) {
    if (!reader.Is(field::Request::kHttp)) continue;
    if (!Once(reader, &view->has_http, &view->http)) return false;
  }
  return reader.ok();
}

bool ReadAttributeContext(CheckRequestView* view) {
  bool has_request = false;
  WireReader reader(view->attributes);
  while (reader.Next()) {
    std::string_view request;
    MapEntry extension;
    if (reader.Is(field::AttributeContext::kRequest)) {
      if (!Once(reader, &has_request, &request) || !ReadRequest(request, view)) return false;
    } else if (reader.Is(field::AttributeContext::kSource) ||
               reader.Is(field::AttributeContext::kDestination)) {
      if (!ReadPeer(reader.bytes())) return false;
    } else if (reader.Is(field::AttributeContext::kContextExtensions)) {
      if (!ReadMapEntry(reader.bytes(), &extension)) return false;
    } else if (reader.Is(field::AttributeContext::kMetadataContext)) {
      view->metadata_context = reader.bytes();
      if (!IsWellFormed(reader.bytes())) return false;
    } else if (reader.Is(field::AttributeContext::kTlsSession)) {
      if (!IsWellFormed(reader.bytes())) return false;
    }
  }
  return reader.ok();
}

// --- Writing ---

const std::string* Find(const CheckHeaders& headers, std::string_view name) {
  for (const CheckHeader& header : headers) {
    if (EqualsIgnoreCase(header.name, name)) return &header.value;
  }
  return nullptr;
}

// HeaderMap.
std::string WriteHeaderMap(const CheckHeaders& headers) {
  std::string map;
  for (const CheckHeader& header : headers) {
    AppendBytesHead(field::HeaderMap::kHeaders,
                    BytesSize(field::HeaderValue::kKey, header.name.size()) +
                        BytesSize(field::HeaderValue::kRawValue, header.value.size()),
                    &map);
    AppendBytes(field::HeaderValue::kKey, header.name, &map);
    AppendBytes(field::HeaderValue::kRawValue, header.value, &map);
  }
  return map;
}

std::string WriteHttp(const CheckRequestView& view, const CheckHeaders& headers) {
  struct Told {
    uint32_t number;
    std::string_view name;
  };
  static constexpr Told kTold[] = {{field::HttpRequest::kMethod, ":method"},
                                   {field::HttpRequest::kPath, ":path"},
                                   {field::HttpRequest::kHost, ":authority"},
                                   {field::HttpRequest::kScheme, ":scheme"}};
  std::string http;
  WireReader reader(view.http);
  while (reader.Next()) {
    const bool told = std::any_of(std::begin(kTold), std::end(kTold), [&](const Told& t) {
      return reader.Is(t.number) && Find(headers, t.name) != nullptr;
    });
    const bool is_header =
        reader.Is(field::HttpRequest::kHeaders) || reader.Is(field::HttpRequest::kHeaderMap);
    if (!told && !is_header) http.append(reader.record());
  }
  for (const Told& told : kTold) {
    if (const std::string* value = Find(headers, told.name)) {
      AppendBytes(told.number, *value, &http);
    }
  }
  if (view.has_raw_headers) {
    AppendBytes(field::HttpRequest::kHeaderMap, WriteHeaderMap(headers), &http);
    return http;
  }
  for (const CheckHeader& header : headers) {
    AppendMapEntry(field::HttpRequest::kHeaders, header.name, header.value, &http);
  }
  return http;
}

// `bytes` with the one record of `number` replaced.
std::string Replace(std::string_view bytes, uint32_t number, std::string_view payload) {
  std::string out;
  WireReader reader(bytes);
  while (reader.Next()) {
    if (!reader.Is(number)) out.append(reader.record());
  }
  AppendBytes(number, payload, &out);
  return out;
}

// "10.0.0.7:41312", "[::1]:80" or a path.
std::string AddressText(std::string_view address) {
  std::string text;
  WireReader reader(address);
  while (reader.Next()) {
    if (reader.Is(field::Address::kPipe)) {
      WireReader pipe(reader.bytes());
      while (pipe.Next()) {
        if (pipe.Is(field::Pipe::kPath)) text.assign(pipe.bytes());
      }
    } else if (reader.Is(field::Address::kSocketAddress)) {
      std::string_view ip;
      uint64_t port = 0;
      WireReader socket(reader.bytes());
      while (socket.Next()) {
        if (socket.Is(field::SocketAddress::kAddress)) ip = socket.bytes();
        if (socket.IsVarint(field::SocketAddress::kPortValue)) port = socket.varint();
      }
      text = ip.find(':') == ip.npos ? fmt::format("{}:{}", ip, port)
                                     : fmt::format("[{}]:{}", ip, port);
    }
  }
  return text;
}

void AppendPeerFields(std::string_view peer, std::string_view side, std::string* fields) {
  WireReader reader(peer);
  while (reader.Next()) {
    if (reader.Is(field::Peer::kAddress)) {
      AppendTextAttribute(fmt::format("{}.address", side), AddressText(reader.bytes()), fields);
    } else if (reader.Is(field::Peer::kPrincipal)) {
      AppendTextAttribute(fmt::format("{}.principal", side), reader.bytes(), fields);
    }
  }
}

}  // namespace

absl::StatusOr<CheckRequestView> ParseCheckRequest(std::string_view bytes, size_t fields_max) {
  CheckRequestView view;
  view.request = bytes;
  bool has_attributes = false;
  WireReader reader(bytes);
  while (reader.Next()) {
    if (!reader.Is(field::CheckRequest::kAttributes)) continue;
    if (!Once(reader, &has_attributes, &view.attributes)) return Malformed();
  }
  if (!reader.ok()) return Malformed();
  // First the count: two bytes of a message make a header, and whoever lists them keeps 32.
  CheckRequestView counted = view;
  WireReader attributes(view.attributes);
  while (attributes.Next()) {
    if (!attributes.Is(field::AttributeContext::kRequest)) continue;
    if (!ReadRequest(attributes.bytes(), &counted)) return Malformed();
  }
  if (const size_t count = CountHeaders(counted.http); count > fields_max) {
    return absl::ResourceExhaustedError(fmt::format(
        "{} headers in a CheckRequest, limit --max_message_fields={}", count, fields_max));
  }
  if (!ReadAttributeContext(&view)) return Malformed();
  if (view.has_http && !ReadHttp(&view)) return Malformed();
  return view;
}

std::string WriteCheckRequest(const CheckRequestView& view, const CheckHeaders& headers) {
  std::string_view old_request;
  WireReader reader(view.attributes);
  while (reader.Next()) {
    if (reader.Is(field::AttributeContext::kRequest)) old_request = reader.bytes();
  }
  const std::string request = Replace(old_request, field::Request::kHttp, WriteHttp(view, headers));
  const std::string attributes =
      Replace(view.attributes, field::AttributeContext::kRequest, request);
  return Replace(view.request, field::CheckRequest::kAttributes, attributes);
}

std::string WriteHttpHeaders(const CheckHeaders& headers, bool end_of_stream) {
  std::string message;
  AppendBytes(field::HttpHeaders::kHeaders, WriteHeaderMap(headers), &message);
  if (end_of_stream) AppendVarint(field::HttpHeaders::kEndOfStream, 1, &message);
  return message;
}

std::string WriteCheckAttributes(const CheckRequestView& view) {
  std::string fields;
  WireReader reader(view.attributes);
  while (reader.Next()) {
    MapEntry extension;
    if (reader.Is(field::AttributeContext::kSource)) {
      AppendPeerFields(reader.bytes(), "source", &fields);
    } else if (reader.Is(field::AttributeContext::kDestination)) {
      AppendPeerFields(reader.bytes(), "destination", &fields);
    } else if (reader.Is(field::AttributeContext::kTlsSession)) {
      WireReader session(reader.bytes());
      while (session.Next()) {
        if (!session.Is(field::TLSSession::kSni)) continue;
        AppendTextAttribute("connection.requested_server_name", session.bytes(), &fields);
      }
    } else if (reader.Is(field::AttributeContext::kContextExtensions) &&
               ReadMapEntry(reader.bytes(), &extension)) {
      AppendTextAttribute(extension.key, extension.value, &fields);
    }
  }
  WireReader http(view.http);
  while (http.Next()) {
    if (http.Is(field::HttpRequest::kId)) AppendTextAttribute("request.id", http.bytes(), &fields);
    if (http.Is(field::HttpRequest::kProtocol)) {
      AppendTextAttribute("request.protocol", http.bytes(), &fields);
    }
  }
  return WriteAttributeRecord(kAttributesKey, fields);
}

std::string WriteProcessingRequest(const CheckRequestView& view, std::string_view http_headers,
                                   std::string_view attributes) {
  std::string request;
  AppendBytes(field::ProcessingRequest::kRequestHeaders, http_headers, &request);
  if (!view.metadata_context.empty()) {
    AppendBytes(field::ProcessingRequest::kMetadataContext, view.metadata_context, &request);
  }
  return request.append(attributes);
}

}  // namespace callout::host
