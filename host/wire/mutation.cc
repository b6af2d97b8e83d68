// SPDX-License-Identifier: Apache-2.0

#include "host/wire/mutation.h"

#include <algorithm>
#include <set>
#include <utility>

#include "host/base/ascii.h"
#include "host/wire/field_numbers.h"
#include "host/wire/wire.h"

namespace callout::host {

namespace {

// HttpHeaders and HttpTrailers have their list in the same field.
constexpr uint32_t kHeaderList = field::HttpHeaders::kHeaders;
static_assert(kHeaderList == field::HttpTrailers::kTrailers);

// Envoy ignores the removal of others, whatever its mutation rules are.
bool IsRemovable(std::string_view name) {
  return !name.empty() && name.front() != ':' && !EqualsIgnoreCase(name, "host");
}

// append_action: APPEND_IF_EXISTS_OR_ADD is 0, OVERWRITE_IF_EXISTS_OR_ADD is 2.
void AppendHeaderOption(std::string_view name, std::string_view value, bool append,
                        std::string* out) {
  constexpr std::string_view kTrue("\x08\x01", 2);
  const size_t header_size = BytesSize(field::HeaderValue::kKey, name.size()) +
                             BytesSize(field::HeaderValue::kRawValue, value.size());
  const size_t action_size =
      append ? BytesSize(field::HeaderValueOption::kAppend, kTrue.size()) : 2;
  AppendBytesHead(field::HeaderMutation::kSetHeaders,
                  BytesSize(field::HeaderValueOption::kHeader, header_size) + action_size, out);
  AppendBytesHead(field::HeaderValueOption::kHeader, header_size, out);
  AppendBytes(field::HeaderValue::kKey, name, out);
  AppendBytes(field::HeaderValue::kRawValue, value, out);
  if (append) {
    AppendBytes(field::HeaderValueOption::kAppend, kTrue, out);
  } else {
    AppendVarint(field::HeaderValueOption::kAppendAction, 2, out);
  }
}

// Envoy keeps a request's "host" as ":authority".
std::string_view IndexName(std::string_view name) {
  return EqualsIgnoreCase(name, "host") ? ":authority" : name;
}

struct Header {
  bool is_new() const { return record.data() == nullptr; }

  std::string_view name;
  std::string_view record;  // a HeaderValue of the message; none for one that is set
  std::string_view value;   // of one that is set
};
using HeaderList = absl::InlinedVector<Header, 32>;

void ReadHeaderMap(std::string_view map, HeaderList* headers) {
  WireReader reader(map);
  while (reader.Next()) {
    if (!reader.Is(field::HeaderMap::kHeaders)) continue;
    Header header;
    header.record = reader.bytes();
    WireReader fields(reader.bytes());
    while (fields.Next()) {
      if (fields.Is(field::HeaderValue::kKey)) header.name = fields.bytes();
    }
    headers->push_back(header);
  }
}

void RemoveHeader(std::string_view name, HeaderList* headers) {
  headers->erase(
      std::remove_if(headers->begin(), headers->end(),
                     [name](const Header& header) { return EqualsIgnoreCase(header.name, name); }),
      headers->end());
}

void SetHeader(const HeaderSet& set, HeaderList* headers) {
  std::string_view name = set.key;
  const auto is_authority = [](const Header& header) { return header.name == ":authority"; };
  if (EqualsIgnoreCase(name, "host") &&
      std::any_of(headers->begin(), headers->end(), is_authority)) {
    name = ":authority";
  }
  if (!set.append) RemoveHeader(name, headers);
  headers->push_back({name, {}, set.value});
}

size_t RecordSize(const Header& header) {
  return header.is_new() ? BytesSize(field::HeaderValue::kKey, header.name.size()) +
                               BytesSize(field::HeaderValue::kRawValue, header.value.size())
                         : header.record.size();
}

// Envoy lower-cases the name of a header that is set.
void AppendHeader(const Header& header, std::string* out) {
  AppendBytesHead(field::HeaderMap::kHeaders, RecordSize(header), out);
  if (!header.is_new()) {
    out->append(header.record);
    return;
  }
  AppendBytesHead(field::HeaderValue::kKey, header.name.size(), out);
  for (const char c : header.name) out->push_back(ToLowerAscii(c));
  AppendBytes(field::HeaderValue::kRawValue, header.value, out);
}

}  // namespace

const MergedHeaders::Effect* MergedHeaders::Find(std::string_view name) const {
  for (const Effect& effect : effects_) {
    if (EqualsIgnoreCase(IndexName(effect.name), IndexName(name))) return &effect;
  }
  return nullptr;
}

MergedHeaders::Effect& MergedHeaders::EffectOn(std::string_view name) {
  if (const Effect* found = Find(name); found != nullptr) {
    return effects_[static_cast<size_t>(found - effects_.data())];
  }
  effects_.push_back({std::string(name), false, {}});
  return effects_.back();
}

void MergedHeaders::Add(const HeaderMutationView& mutation) {
  for (std::string_view name : mutation.remove) {
    if (!IsRemovable(name)) continue;
    Effect& effect = EffectOn(name);
    effect.replaces = true;
    effect.values.clear();
  }
  for (const HeaderSet& header : mutation.set) {
    Effect& effect = EffectOn(header.key);
    if (!header.append) {
      effect.replaces = true;
      effect.values.clear();
    }
    effect.values.emplace_back(header.value);
  }
}

void MergedHeaders::AddUnder(const HeaderMutationView& mutation, const MergedHeaders& later) {
  std::set<std::string> names;
  for (std::string_view name : mutation.remove) names.insert(ToLowerAscii(IndexName(name)));
  for (const HeaderSet& header : mutation.set) names.insert(ToLowerAscii(IndexName(header.key)));
  for (const std::string& name : names) {
    const Effect* const found = later.Find(name);
    if (found == nullptr) continue;
    const Effect& over = *found;
    Effect& effect = EffectOn(name);
    if (over.replaces) {
      effect.replaces = true;
      effect.values = over.values;
    } else if (effect.replaces) {
      effect.values.insert(effect.values.end(), over.values.begin(), over.values.end());
    }
  }
}

size_t MergedHeaders::entries() const {
  size_t set = 0;
  size_t removed = 0;
  for (const Effect& effect : effects_) {
    set += effect.values.size();
    if (effect.values.empty()) ++removed;
  }
  return std::max(set, removed);
}

std::string MergedHeaders::Write() const {
  std::string mutation;
  for (const Effect& effect : effects_) {
    if (effect.values.empty())
      AppendBytes(field::HeaderMutation::kRemoveHeaders, effect.name, &mutation);
    for (size_t i = 0; i < effect.values.size(); ++i) {
      AppendHeaderOption(effect.name, effect.values[i], i > 0 || !effect.replaces, &mutation);
    }
  }
  return mutation;
}

std::string ApplyHeaderMutation(std::string_view message, const HeaderMutationView& mutation) {
  HeaderList headers;
  std::string rest;
  WireReader reader(message);
  while (reader.Next()) {
    if (reader.Is(kHeaderList)) {
      ReadHeaderMap(reader.bytes(), &headers);
    } else {
      rest.append(reader.record());
    }
  }
  for (std::string_view name : mutation.remove) {
    if (IsRemovable(name)) RemoveHeader(name, &headers);
  }
  for (const HeaderSet& set : mutation.set) SetHeader(set, &headers);
  size_t map_size = 0;
  for (const Header& header : headers)
    map_size += BytesSize(field::HeaderMap::kHeaders, RecordSize(header));
  std::string out;
  out.reserve(BytesSize(kHeaderList, map_size) + rest.size());
  AppendBytesHead(kHeaderList, map_size, &out);
  for (const Header& header : headers) AppendHeader(header, &out);
  return out += rest;
}

std::string WithoutEndOfStream(std::string_view message) {
  std::string out;
  WireReader reader(message);
  while (reader.Next()) {
    if (reader.number() != field::HttpHeaders::kEndOfStream) out.append(reader.record());
  }
  return out;
}

HeaderSize MeasureHeaders(std::string_view message) {
  HeaderSize size;
  ResponseView headers;
  if (!ReadHttpHeaders(message, &headers)) return size;  // Envoy does not send such a message
  size.count = headers.headers.set.size();
  for (const HeaderSet& header : headers.headers.set) {
    size.bytes += header.key.size() + header.value.size();
  }
  return size;
}

HeaderSize LargestHeaderSize(std::string_view message, const HeaderMutationView& mutation) {
  HeaderSize size = {mutation.set.size(), message.size()};
  for (const HeaderSet& header : mutation.set) {
    size.bytes += IndexName(header.key).size() + header.value.size();
  }
  WireReader reader(message);
  while (reader.Next()) {
    if (reader.Is(kHeaderList)) size.count += CountRecords(reader.bytes());
  }
  return size;
}

std::string WriteBodyMessage(std::string_view message, std::string_view body, bool end_of_stream) {
  std::string out;
  out.reserve(body.size() + 32);
  if (!body.empty()) AppendBytes(field::HttpBody::kBody, body, &out);
  if (end_of_stream) AppendVarint(field::HttpBody::kEndOfStream, 1, &out);
  WireReader reader(message);
  while (reader.Next()) {
    if (reader.number() != field::HttpBody::kBody &&
        reader.number() != field::HttpBody::kEndOfStream)
      out.append(reader.record());
  }
  return out;
}

std::string ReplaceMessage(std::string_view request, callout_phase_t phase,
                           std::string_view message) {
  std::string out;
  out.reserve(message.size() + 64);
  AppendBytes(phase, message, &out);
  WireReader reader(request);
  while (reader.Next()) {
    const bool is_oneof_member =
        reader.number() >= CALLOUT_REQUEST_HEADERS && reader.number() <= CALLOUT_RESPONSE_TRAILERS;
    if (!is_oneof_member) out.append(reader.record());
  }
  return out;
}

}  // namespace callout::host
