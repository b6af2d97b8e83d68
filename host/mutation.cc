#include "host/mutation.h"

#include <algorithm>
#include <set>
#include <utility>

#include "host/wire.h"

namespace callout::host {

namespace {

// Envoy ignores their removal whatever its mutation rules are.
bool IsRemovable(std::string_view lower_name) {
  return !lower_name.empty() && lower_name.front() != ':' && lower_name != "host";
}

// HeaderValueOption: header 1 {key 1, raw_value 3}, append 2 (BoolValue),
// append_action 3: APPEND_IF_EXISTS_OR_ADD is 0, OVERWRITE_IF_EXISTS_OR_ADD 2.
void AppendHeaderOption(std::string_view name, std::string_view value, bool append,
                        std::string* out) {
  std::string header;
  AppendBytes(1, name, &header);
  AppendBytes(3, value, &header);
  std::string option;
  AppendBytes(1, header, &option);
  if (append) {
    AppendBytes(2, std::string_view("\x08\x01", 2), &option);
  } else {
    AppendVarint(3, 2, &option);
  }
  AppendBytes(1, option, out);
}

// Envoy keeps a request's "host" as ":authority".
std::string IndexName(std::string_view name) {
  std::string lower = ToLowerAscii(name);
  return lower == "host" ? ":authority" : lower;
}

struct Header {
  std::string name;
  std::string record;  // HeaderValue
};

std::string WriteHeaderValue(std::string_view name, std::string_view value) {
  std::string header;
  AppendBytes(1, name, &header);
  AppendBytes(3, value, &header);
  return header;
}

// HeaderMap: headers 1 {key 1}.
void ReadHeaderMap(std::string_view map, std::vector<Header>* headers) {
  WireReader reader(map);
  while (reader.Next()) {
    if (!reader.Is(1)) continue;
    Header header;
    header.record.assign(reader.bytes());
    WireReader fields(reader.bytes());
    while (fields.Next()) {
      if (fields.Is(1)) header.name = ToLowerAscii(fields.bytes());
    }
    headers->push_back(std::move(header));
  }
}

void RemoveHeader(const std::string& name, std::vector<Header>* headers) {
  headers->erase(std::remove_if(headers->begin(), headers->end(),
                                [&name](const Header& header) { return header.name == name; }),
                 headers->end());
}

void SetHeader(const HeaderSet& set, std::vector<Header>* headers) {
  std::string name = ToLowerAscii(set.key);
  const auto is_authority = [](const Header& header) { return header.name == ":authority"; };
  if (name == "host" && std::any_of(headers->begin(), headers->end(), is_authority)) {
    name = ":authority";
  }
  std::string record = WriteHeaderValue(name, set.value);
  if (!set.append) RemoveHeader(name, headers);
  headers->push_back({std::move(name), std::move(record)});
}

}  // namespace

MergedHeaders::Effect& MergedHeaders::EffectOn(std::string_view name) {
  auto [it, is_new] = index_.try_emplace(IndexName(name), effects_.size());
  if (is_new) effects_.push_back({std::string(name), false, {}});
  return effects_[it->second];
}

void MergedHeaders::Add(const HeaderMutationView& mutation) {
  for (std::string_view name : mutation.remove) {
    if (!IsRemovable(ToLowerAscii(name))) continue;
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
  for (std::string_view name : mutation.remove) names.insert(IndexName(name));
  for (const HeaderSet& header : mutation.set) names.insert(IndexName(header.key));
  for (const std::string& name : names) {
    const auto found = later.index_.find(name);
    if (found == later.index_.end()) continue;
    const Effect& over = later.effects_[found->second];
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
    if (effect.values.empty()) AppendBytes(2, effect.name, &mutation);
    for (size_t i = 0; i < effect.values.size(); ++i) {
      AppendHeaderOption(effect.name, effect.values[i], i > 0 || !effect.replaces, &mutation);
    }
  }
  return mutation;
}

std::string ApplyHeaderMutation(std::string_view message, const HeaderMutationView& mutation) {
  std::vector<Header> headers;
  std::string rest;
  WireReader reader(message);
  while (reader.Next()) {
    if (reader.Is(1)) {
      ReadHeaderMap(reader.bytes(), &headers);
    } else {
      rest.append(reader.record());
    }
  }
  for (std::string_view key : mutation.remove) {
    const std::string name = ToLowerAscii(key);
    if (IsRemovable(name)) RemoveHeader(name, &headers);
  }
  for (const HeaderSet& set : mutation.set) SetHeader(set, &headers);
  std::string map;
  for (const Header& header : headers) AppendBytes(1, header.record, &map);
  std::string out;
  AppendBytes(1, map, &out);
  return out + rest;
}

std::string WithoutEndOfStream(std::string_view message) {
  constexpr uint32_t kEndOfStream = 3;
  std::string out;
  WireReader reader(message);
  while (reader.Next()) {
    if (reader.number() != kEndOfStream) out.append(reader.record());
  }
  return out;
}

bool FitsHeaderLimits(std::string_view message, const HeaderMutationView& mutation,
                      size_t header_count_max, size_t header_bytes_max) {
  if (mutation.set.empty()) return true;
  // First as if nothing were replaced or removed, which nearly always settles it.
  size_t bytes = message.size();
  for (const HeaderSet& header : mutation.set) bytes += header.key.size() + header.value.size();
  size_t count = mutation.set.size();
  WireReader reader(message);
  while (reader.Next()) {
    if (!reader.Is(1)) continue;
    WireReader map(reader.bytes());
    while (map.Next()) ++count;
  }
  if (count <= header_count_max && bytes <= header_bytes_max) return true;
  AnswerView after;
  const std::string applied = ApplyHeaderMutation(message, mutation);
  if (!ReadHttpHeaders(applied, &after)) return true;  // Envoy does not send such a message
  bytes = 0;
  for (const HeaderSet& header : after.headers.set) {
    bytes += header.key.size() + header.value.size();
  }
  return after.headers.set.size() <= header_count_max && bytes <= header_bytes_max;
}

std::string WriteBodyMessage(std::string_view message, std::string_view body, bool end_of_stream) {
  std::string out;
  out.reserve(body.size() + 32);
  if (!body.empty()) AppendBytes(1, body, &out);
  if (end_of_stream) AppendVarint(2, 1, &out);
  WireReader reader(message);
  while (reader.Next()) {
    if (reader.number() > 2) out.append(reader.record());
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
