// SPDX-License-Identifier: Apache-2.0

#include "host/wire/header_facts.h"

#include <utility>

#include "host/base/ascii.h"
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

// The size of a key stands before it, and few other bytes of a message are like it.
std::string_view SearchHeader(std::string_view message, std::string_view name) {
  const char size = static_cast<char>(name.size());
  // The byte is often something else; a letter more tells that for less than the whole name does.
  const auto may_begin_here = [&](size_t begin) {
    constexpr char kLower = 0x20;
    return begin < message.size() && (message[begin] | kLower) == (name[0] | kLower);
  };
  for (size_t at = message.find(size); at != message.npos; at = message.find(size, at + 1)) {
    if (!may_begin_here(at + 1)) continue;
    const std::string_view key = message.substr(at + 1, name.size());
    if (key != name && !EqualsIgnoreCase(key, name)) continue;
    WireReader behind(message.substr(at + 1 + name.size()));
    const bool has_value =
        behind.Next() && behind.Is(field::HeaderValue::kRawValue) && !behind.bytes().empty();
    return has_value ? behind.bytes() : FindHeader(message, name);
  }
  return {};
}

}  // namespace callout::host
