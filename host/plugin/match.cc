// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/match.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>

#include "host/base/ascii.h"
#include "host/base/percent.h"
#include "host/wire/field_numbers.h"
#include "host/wire/response.h"
#include "host/wire/wire.h"

namespace callout::host {

namespace {

// "example.com" of "Example.com:8443", "example.com." and "ada@example.com"; "[::1]" of "[::1]:80".
std::string HostOf(std::string_view authority) {
  authority.remove_prefix(authority.rfind('@') + 1);  // npos + 1 is 0
  const size_t bracket = authority.rfind(']');
  const size_t colon = authority.find(':', bracket == authority.npos ? 0 : bracket);
  authority = authority.substr(0, colon);
  while (authority.ends_with('.')) authority.remove_suffix(1);
  return ToLowerAscii(authority);
}

// Whether a server may read the path as another one, by PlainPath.
bool IsPlain(std::string_view path) {
  return path.find_first_of("%\\;") == path.npos && path.find("//") == path.npos &&
         path.find("/.") == path.npos;
}

// The path as a server may read it: "/api/x" of "/%61pi//./x", "/y/..%2fapi/x" and "/api;v=1/x".
// Without its query.
std::string PlainPath(std::string_view path) {
  std::string decoded = LenientlyDecoded(path.substr(0, path.find_first_of("?#")));
  std::replace(decoded.begin(), decoded.end(), '\\', '/');
  std::vector<std::string_view> segments;
  bool ends_in_slash = false;
  for (std::string_view rest = decoded; !rest.empty();) {
    const size_t slash = rest.find('/');
    const std::string_view whole = rest.substr(0, slash);
    const std::string_view segment = whole.substr(0, whole.find(';'));
    ends_in_slash = slash != rest.npos || segment == "." || segment == "..";
    rest.remove_prefix(slash == rest.npos ? rest.size() : slash + 1);
    if (segment == ".." && !segments.empty()) segments.pop_back();
    if (!segment.empty() && segment != "." && segment != "..") segments.push_back(segment);
  }
  std::string plain = fmt::format("/{}", fmt::join(segments, "/"));
  if (ends_in_slash && !segments.empty()) plain += '/';
  return plain;
}

// A google.protobuf.Value that is a string, a bool or a number; "" for the other kinds.
std::string ValueText(std::string_view value) {
  WireReader reader(value);
  std::string text;
  while (reader.Next()) {
    if (reader.Is(field::Value::kStringValue)) text.assign(reader.bytes());
    if (reader.IsVarint(field::Value::kBoolValue)) text = reader.varint() != 0 ? "true" : "false";
    if (reader.IsFixed64(field::Value::kNumberValue))
      text = fmt::format("{}", std::bit_cast<double>(reader.fixed64()));
  }
  return text;
}

// A client chooses how it writes a path, and must not decide by that who sees the request.
bool HasPrefixOf(std::string_view path, const std::vector<std::string>& prefixes) {
  const bool is_plain = IsPlain(path);
  const std::string plain = is_plain ? std::string() : PlainPath(path);
  return std::any_of(prefixes.begin(), prefixes.end(), [&](const std::string& prefix) {
    if (path.starts_with(prefix)) return true;
    if (is_plain && IsPlain(prefix)) return false;
    return (is_plain ? path : plain).starts_with(PlainPath(prefix));
  });
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

// One record of the map ProcessingRequest.attributes: an entry whose value is a Struct, which
// has an entry for each attribute.
void StreamFacts::ReadAttributes(std::string_view record) {
  WireReader outer(record);
  while (outer.Next()) {
    WireReader entry(outer.bytes());
    while (entry.Next()) {
      if (!entry.Is(field::AttributesEntry::kValue)) continue;
      WireReader fields(entry.bytes());
      while (fields.Next()) {
        if (!fields.Is(field::Struct::kFields)) continue;
        std::string_view name;
        std::string_view value;
        WireReader attribute(fields.bytes());
        while (attribute.Next()) {
          if (attribute.Is(field::FieldsEntry::kKey)) name = attribute.bytes();
          if (attribute.Is(field::FieldsEntry::kValue)) value = attribute.bytes();
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
    if (authority == nullptr) return false;
    const std::string host = HostOf(*authority);
    const bool is_named =
        std::any_of(match.hosts.begin(), match.hosts.end(),
                    [&](const std::string& name) { return HostOf(name) == host; });
    if (!is_named) return false;
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
