#include "host/mutation.h"

#include <algorithm>
#include <utility>

#include "host/wire.h"

namespace callout::host {

namespace {

std::string ToLower(std::string_view name) {
  std::string lower(name);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
  return lower;
}

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
      if (fields.Is(1)) header.name = ToLower(fields.bytes());
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
  std::string name = ToLower(set.key);
  std::string record = WriteHeaderValue(name, set.value);
  if (!set.append) RemoveHeader(name, headers);
  headers->push_back({std::move(name), std::move(record)});
}

}  // namespace

MergedHeaders::Effect& MergedHeaders::EffectOn(std::string_view name) {
  auto [it, is_new] = index_.try_emplace(ToLower(name), effects_.size());
  if (is_new) effects_.push_back({std::string(name), false, {}});
  return effects_[it->second];
}

void MergedHeaders::Add(const HeaderMutationView& mutation) {
  for (std::string_view name : mutation.remove) {
    if (!IsRemovable(ToLower(name))) continue;
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
    const std::string name = ToLower(key);
    if (IsRemovable(name)) RemoveHeader(name, &headers);
  }
  for (const HeaderSet& set : mutation.set) SetHeader(set, &headers);
  std::string map;
  for (const Header& header : headers) AppendBytes(1, header.record, &map);
  std::string out;
  AppendBytes(1, map, &out);
  return out + rest;
}

std::string ReplaceBody(std::string_view message, std::string_view body) {
  std::string out;
  if (!body.empty()) AppendBytes(1, body, &out);
  WireReader reader(message);
  while (reader.Next()) {
    if (!reader.Is(1)) out.append(reader.record());
  }
  return out;
}

std::string ReplaceMessage(std::string_view request, callout_phase_t phase,
                           std::string_view message) {
  std::string out;
  AppendBytes(phase, message, &out);
  WireReader reader(request);
  while (reader.Next()) {
    if (!reader.Is(phase)) out.append(reader.record());
  }
  return out;
}

}  // namespace callout::host
