// SPDX-License-Identifier: Apache-2.0

#include "host/wire/check_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "absl/status/status.h"
#include "host/base/ascii.h"
#include "host/wire/attribute_record.h"
#include "host/wire/field_numbers.h"
#include "host/wire/short_pair.h"
#include "host/wire/wire.h"
#include "host/wire/wire_put.h"

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
  if (ReadShortPair<field::HeadersEntry::kKey, field::HeadersEntry::kValue>(bytes, &entry->key,
                                                                            &entry->value)) {
    return true;
  }
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.Is(field::HeadersEntry::kKey)) entry->key = reader.bytes();
    if (reader.Is(field::HeadersEntry::kValue)) entry->value = reader.bytes();
  }
  return reader.ok();
}

bool ReadHeaderValue(std::string_view bytes, CheckHeader* header) {
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

// False as well if there would be more than `fields_max` headers.
bool AddHeader(const CheckHeader& header, size_t fields_max, CheckRequestView* view) {
  view->headers.push_back(header);
  return view->headers.size() <= fields_max;
}

bool ReadHeaderMap(std::string_view bytes, size_t fields_max, CheckRequestView* view) {
  WireReader reader(bytes);
  while (reader.Next()) {
    if (!reader.Is(field::HeaderMap::kHeaders)) continue;
    CheckHeader header;
    if (!ReadHeaderValue(reader.bytes(), &header)) return false;
    if (!AddHeader(header, fields_max, view)) return false;
  }
  return reader.ok();
}

// For a request that has too many.
size_t CountHeaders(std::string_view http) {
  size_t count = 0;
  WireReader reader(http);
  while (reader.Next()) {
    if (reader.Is(field::HttpRequest::kHeaders)) ++count;
    if (reader.Is(field::HttpRequest::kHeaderMap)) count += CountRecords(reader.bytes());
  }
  return count;
}

// Whether no name stands there twice, found out without a table: for few of them.
bool AllDiffer(const CheckHeaders& headers) {
  uint64_t seen = 0;  // a bit for each size and last letter, as few names have both in common
  for (size_t i = 0; i < headers.size(); ++i) {
    const std::string_view name = headers[i].name;
    const auto last = static_cast<unsigned char>(name.empty() ? '\0' : name.back());
    const uint64_t bit = uint64_t{1} << ((name.size() * 5 + last) % 64);
    if ((seen & bit) != 0) {
      for (size_t j = 0; j < i; ++j) {
        if (name == headers[j].name) return false;
      }
    }
    seen |= bit;
  }
  return true;
}

// Keeps the last entry of each name.
void DropEarlierOnes(CheckHeaders* headers) {
  constexpr size_t kFew = 32;
  if (headers->size() <= kFew && AllDiffer(*headers)) return;
  std::unordered_map<std::string_view, size_t> places;
  size_t kept = 0;
  for (const CheckHeader& header : *headers) {
    const auto [place, is_new] = places.emplace(header.name, kept);
    (*headers)[place->second] = header;
    if (is_new) ++kept;
  }
  headers->resize(kept);
}

bool ReadHttp(size_t fields_max, CheckRequestView* view) {
  WireReader reader(view->http);
  while (reader.Next()) {
    if (reader.Is(field::HttpRequest::kHeaders)) {
      MapEntry entry;
      if (!ReadMapEntry(reader.bytes(), &entry)) return false;
      if (!AddHeader({entry.key, entry.value}, fields_max, view)) return false;
    } else if (reader.Is(field::HttpRequest::kHeaderMap)) {
      if (view->has_raw_headers) return false;
      view->has_raw_headers = true;
    } else if (reader.Is(field::HttpRequest::kBody) || reader.Is(field::HttpRequest::kRawBody)) {
      view->has_body = view->has_body || !reader.bytes().empty();
    } else if (reader.IsVarint(field::HttpRequest::kSize)) {
      view->has_body = view->has_body || reader.varint() != 0;
    } else if (reader.Is(field::HttpRequest::kPath)) {
      view->path = reader.bytes();
    } else if (reader.Is(field::HttpRequest::kProtocol)) {
      view->protocol = reader.bytes();
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
    if (again.Is(field::HttpRequest::kHeaderMap)) {
      return ReadHeaderMap(again.bytes(), fields_max, view);
    }
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

const std::string_view* Find(const CheckHeaders& headers, std::string_view name) {
  for (const CheckHeader& header : headers) {
    if (EqualsIgnoreCase(header.name, name)) return &header.value;
  }
  return nullptr;
}

size_t HeaderSize(const CheckHeader& header) {
  return BytesSize(field::HeaderValue::kKey, header.name.size()) +
         BytesSize(field::HeaderValue::kRawValue, header.value.size());
}

size_t HeaderMapSize(const CheckHeaders& headers) {
  size_t size = 0;
  for (const CheckHeader& header : headers) {
    size += BytesSize(field::HeaderMap::kHeaders, HeaderSize(header));
  }
  return size;
}

// A record with the HeaderMap.
void AppendHeaderMap(uint32_t number, const CheckHeaders& headers, std::string* out) {
  const size_t size = HeaderMapSize(headers);
  const size_t before = out->size();
  out->resize(before + BytesSize(number, size));
  char* to = PutBytesHead(number, size, out->data() + before);
  for (const CheckHeader& header : headers) {
    to = PutBytesHead(field::HeaderMap::kHeaders, HeaderSize(header), to);
    to = PutBytes(field::HeaderValue::kKey, header.name, to);
    to = PutBytes(field::HeaderValue::kRawValue, header.value, to);
  }
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
    if (const std::string_view* value = Find(headers, told.name)) {
      AppendBytes(told.number, *value, &http);
    }
  }
  if (view.has_raw_headers) {
    AppendHeaderMap(field::HttpRequest::kHeaderMap, headers, &http);
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
      const bool is_v6 = ip.find(':') != ip.npos;
      text = is_v6 ? "[" : "";
      text.append(ip).append(is_v6 ? "]:" : ":").append(std::to_string(port));
    }
  }
  return text;
}

struct PeerNames {
  std::string_view address;
  std::string_view principal;
};
constexpr PeerNames kSourceNames = {"source.address", "source.principal"};
constexpr PeerNames kDestinationNames = {"destination.address", "destination.principal"};

void AppendPeerFields(std::string_view peer, const PeerNames& names, std::string* fields) {
  WireReader reader(peer);
  while (reader.Next()) {
    if (reader.Is(field::Peer::kAddress)) {
      AppendTextAttribute(names.address, AddressText(reader.bytes()), fields);
    } else if (reader.Is(field::Peer::kPrincipal)) {
      AppendTextAttribute(names.principal, reader.bytes(), fields);
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
  if (!ReadAttributeContext(&view)) return Malformed();
  if (!view.has_http) return view;
  constexpr size_t kUsual = 32;
  view.headers.reserve(kUsual);
  if (!ReadHttp(fields_max, &view)) {
    if (view.headers.size() <= fields_max) return Malformed();
    return absl::ResourceExhaustedError(
        fmt::format("{} headers in a CheckRequest, limit --max_message_fields={}",
                    CountHeaders(view.http), fields_max));
  }
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
  AppendHeaderMap(field::HttpHeaders::kHeaders, headers, &message);
  if (end_of_stream) AppendVarint(field::HttpHeaders::kEndOfStream, 1, &message);
  return message;
}

std::string WriteCheckAttributes(const CheckRequestView& view) {
  constexpr size_t kUsual = 512;  // so that few requests need a second allocation
  std::string fields;
  fields.reserve(kUsual);
  WireReader reader(view.attributes);
  while (reader.Next()) {
    MapEntry extension;
    if (reader.Is(field::AttributeContext::kSource)) {
      AppendPeerFields(reader.bytes(), kSourceNames, &fields);
    } else if (reader.Is(field::AttributeContext::kDestination)) {
      AppendPeerFields(reader.bytes(), kDestinationNames, &fields);
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
  constexpr size_t kHeads = 32;
  std::string request;
  request.reserve(http_headers.size() + view.metadata_context.size() + attributes.size() + kHeads);
  AppendBytes(field::ProcessingRequest::kRequestHeaders, http_headers, &request);
  if (!view.metadata_context.empty()) {
    AppendBytes(field::ProcessingRequest::kMetadataContext, view.metadata_context, &request);
  }
  return request.append(attributes);
}

}  // namespace callout::host
