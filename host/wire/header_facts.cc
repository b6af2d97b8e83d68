// SPDX-License-Identifier: Apache-2.0

#include "host/wire/header_facts.h"

#include "host/base/ascii.h"

#include <utility>

#include "host/wire/field_numbers.h"
#include "host/wire/wire.h"

namespace callout::host {

bool HeaderFacts::HasHeader(std::string_view name) const {
  for (const HeaderSet& header : list.set) {
    if (EqualsIgnoreCase(header.key, name)) return true;
  }
  return false;
}

bool HeaderFacts::HasContentType(std::string_view type) const {
  std::string_view found = content_type.substr(0, content_type.find(';'));
  while (!found.empty() && found.back() == ' ') found.remove_suffix(1);
  while (!found.empty() && found.front() == ' ') found.remove_prefix(1);
  if (!type.empty() && type.back() == '*') {
    type.remove_suffix(1);
    found = found.substr(0, type.size());
  }
  return EqualsIgnoreCase(found, type);
}

HeaderFacts ReadHeaderFacts(std::string_view message) {
  HeaderFacts facts;
  ResponseView view;
  if (!ReadHttpHeaders(message, &view)) return facts;
  for (const HeaderSet& header : view.headers.set) {
    if (EqualsIgnoreCase(header.key, "content-type")) {
      facts.content_type = header.value;
    } else if (header.key == ":status") {
      facts.status = header.value;
    } else if (header.key == ":method") {
      facts.is_connect = header.value == "CONNECT";
    } else if (EqualsIgnoreCase(header.key, "upgrade")) {
      facts.has_upgrade = true;
    } else if (EqualsIgnoreCase(header.key, "trailer")) {
      facts.has_trailer = true;
    }
  }
  facts.list = std::move(view.headers);
  return facts;
}

bool MayHaveHeader(std::string_view message, std::string_view name) {
  constexpr char kKeyTag = field::HeaderValue::kKey << 3 | 2;
  WireReader reader(message);
  while (reader.Next()) {
    if (!reader.Is(field::HttpHeaders::kHeaders)) continue;
    WireReader list(reader.bytes());
    while (list.Next()) {
      if (!list.Is(field::HeaderMap::kHeaders)) return true;
      const std::string_view header = list.bytes();
      // As everybody writes it: the key first.
      if (header.size() < 2 || header[0] != kKeyTag || (header[1] & 0x80) != 0) return true;
      const auto size = static_cast<size_t>(header[1]);
      if (size == name.size() && EqualsIgnoreCase(header.substr(2, size), name)) return true;
    }
    if (!list.ok()) return true;
  }
  return !reader.ok();
}

}  // namespace callout::host
