// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/match.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "host/base/ascii.h"
#include "host/wire/response.h"
#include "host/wire/wire.h"

namespace callout::host {

namespace {

// "example.com" of "Example.com:8443"; "[::1]" of "[::1]:80".
std::string HostOf(std::string_view authority) {
  const size_t colon = authority.rfind(':');
  const size_t bracket = authority.rfind(']');
  if (colon != std::string_view::npos && (bracket == std::string_view::npos || colon > bracket)) {
    authority = authority.substr(0, colon);
  }
  return ToLowerAscii(authority);
}

// A google.protobuf.Value: number_value 2 (double), string_value 3, bool_value 4.
std::string ValueText(std::string_view value) {
  WireReader reader(value);
  std::string text;
  while (reader.Next()) {
    if (reader.Is(3)) text.assign(reader.bytes());
    if (reader.IsVarint(4)) text = reader.varint() != 0 ? "true" : "false";
    if (reader.IsFixed64(2)) text = fmt::format("{}", std::bit_cast<double>(reader.fixed64()));
  }
  return text;
}

bool HasPrefixOf(std::string_view text, const std::vector<std::string>& prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(),
                     [&](const std::string& prefix) { return text.starts_with(prefix); });
}

bool Contains(const std::vector<std::string>& texts, std::string_view text) {
  return std::find(texts.begin(), texts.end(), text) != texts.end();
}

}  // namespace

StreamFacts::StreamFacts(const RequestView& view) {
  if (view.phase == CALLOUT_REQUEST_HEADERS) ReadHeaders(view.message);
  for (std::string_view record : view.attribute_records) ReadAttributes(record);
}

void StreamFacts::ReadHeaders(std::string_view message) {
  ResponseView headers;
  if (!ReadHttpHeaders(message, &headers)) return;
  for (const HeaderSet& header : headers.headers.set) {
    headers_.emplace_back(ToLowerAscii(header.key), std::string(header.value));
  }
}

// One record of ProcessingRequest.attributes: an entry {key 1, Struct 2}, whose
// Struct has an entry {key 1, Value 2} for each attribute.
void StreamFacts::ReadAttributes(std::string_view record) {
  WireReader outer(record);
  while (outer.Next()) {
    WireReader entry(outer.bytes());
    while (entry.Next()) {
      if (!entry.Is(2)) continue;
      WireReader fields(entry.bytes());
      while (fields.Next()) {
        if (!fields.Is(1)) continue;
        std::string_view name;
        std::string_view value;
        WireReader field(fields.bytes());
        while (field.Next()) {
          if (field.Is(1)) name = field.bytes();
          if (field.Is(2)) value = field.bytes();
        }
        attributes_.emplace_back(std::string(name), ValueText(value));
      }
    }
  }
}

const std::string* StreamFacts::FindHeader(std::string_view name) const {
  for (const auto& [key, value] : headers_) {
    if (key == name) return &value;
  }
  return nullptr;
}

bool StreamFacts::Match(const StreamMatch& match) const {
  if (!match.path_prefixes.empty()) {
    const std::string* path = FindHeader(":path");
    if (path == nullptr || !HasPrefixOf(*path, match.path_prefixes)) return false;
  }
  if (!match.hosts.empty()) {
    const std::string* authority = FindHeader(":authority");
    if (authority == nullptr) authority = FindHeader("host");
    if (authority == nullptr || !Contains(match.hosts, HostOf(*authority))) return false;
  }
  if (!match.methods.empty()) {
    const std::string* method = FindHeader(":method");
    if (method == nullptr || !Contains(match.methods, *method)) return false;
  }
  for (const std::string& name : match.headers) {
    if (FindHeader(name) == nullptr) return false;
  }
  for (const auto& [name, text] : match.attributes) {
    const auto found =
        std::find_if(attributes_.begin(), attributes_.end(),
                     [&wanted = name](const auto& attribute) { return attribute.first == wanted; });
    if (found == attributes_.end() || found->second != text) return false;
  }
  return true;
}

}  // namespace callout::host
