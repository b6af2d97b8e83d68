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

// Of a HeaderValue; Envoy writes the key first, and once.
std::string_view NameOf(std::string_view header) {
  WireReader fields(header);
  while (fields.Next()) {
    if (fields.Is(field::HeaderValue::kKey)) return fields.bytes();
  }
  return {};
}

// Bytes of a message that stay as they are, in as few pieces as possible.
class Pieces {
 public:
  // `bytes` lie in the message, behind all that were added before.
  void Add(std::string_view bytes) {
    size_ += bytes.size();
    if (!pieces_.empty() && pieces_.back().data() + pieces_.back().size() == bytes.data()) {
      pieces_.back() = {pieces_.back().data(), pieces_.back().size() + bytes.size()};
    } else {
      pieces_.push_back(bytes);
    }
  }
  size_t size() const { return size_; }
  void AppendTo(std::string* out) const {
    for (const std::string_view piece : pieces_) out->append(piece);
  }

 private:
  absl::InlinedVector<std::string_view, 8> pieces_;
  size_t size_ = 0;
};

// A mutation as it is to be applied to one message.
struct HeaderChanges {
  struct Added {
    std::string_view name, value;

    size_t size() const {
      return BytesSize(field::HeaderValue::kKey, name.size()) +
             BytesSize(field::HeaderValue::kRawValue, value.size());
    }
  };
  absl::InlinedVector<std::string_view, 8> gone;  // names whose headers in the message go
  absl::InlinedVector<Added, 8> added;

  // `header`: a HeaderValue. Lengths tell most names apart.
  bool Keeps(std::string_view header) const {
    const std::string_view name = NameOf(header);
    for (const std::string_view other : gone) {
      if (other.size() == name.size() && EqualsIgnoreCase(other, name)) return false;
    }
    return true;
  }
  void Set(std::string_view name, const HeaderSet& set) {
    if (!set.append) {
      gone.push_back(name);
      added.erase(std::remove_if(added.begin(), added.end(),
                                 [name](const Added& earlier) {
                                   return EqualsIgnoreCase(earlier.name, name);
                                 }),
                  added.end());
    }
    added.push_back({name, set.value});
  }
};

bool HasHeader(std::string_view message, std::string_view name) {
  WireReader reader(message);
  while (reader.Next()) {
    if (!reader.Is(kHeaderList)) continue;
    WireReader headers(reader.bytes());
    while (headers.Next()) {
      if (headers.Is(field::HeaderMap::kHeaders) && NameOf(headers.bytes()) == name) return true;
    }
  }
  return false;
}

HeaderChanges ChangesOf(std::string_view message, const HeaderMutationView& mutation) {
  static constexpr std::string_view kAuthority = ":authority";
  HeaderChanges changes;
  for (const std::string_view name : mutation.remove) {
    if (IsRemovable(name)) changes.gone.push_back(name);
  }
  for (const HeaderSet& set : mutation.set) {
    const auto is_authority = [](const HeaderChanges::Added& added) {
      return added.name == kAuthority;
    };
    const bool sets_authority =
        EqualsIgnoreCase(set.key, "host") &&
        (HasHeader(message, kAuthority) ||
         std::any_of(changes.added.begin(), changes.added.end(), is_authority));
    changes.Set(sets_authority ? kAuthority : set.key, set);
  }
  return changes;
}

// Runs of headers that stay are one piece each.
void AddKept(std::string_view map, const HeaderChanges& changes, Pieces* kept) {
  const char* run = map.data();
  WireReader reader(map);
  while (reader.Next()) {
    if (reader.Is(field::HeaderMap::kHeaders) && changes.Keeps(reader.bytes())) continue;
    const std::string_view gone = reader.record();
    kept->Add({run, static_cast<size_t>(gone.data() - run)});
    run = gone.data() + gone.size();
  }
  kept->Add({run, static_cast<size_t>(map.data() + map.size() - run)});
}

// Envoy lower-cases the name of a header that is set.
void AppendHeader(const HeaderChanges::Added& header, std::string* out) {
  AppendBytesHead(field::HeaderMap::kHeaders, header.size(), out);
  AppendBytesHead(field::HeaderValue::kKey, header.name.size(), out);
  const size_t name_at = out->size();
  out->append(header.name);
  for (size_t i = name_at; i < out->size(); ++i) (*out)[i] = ToLowerAscii((*out)[i]);
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

// Chains do this for each instance that changes headers, so what stays is copied, not written anew.
std::string ApplyHeaderMutation(std::string_view message, const HeaderMutationView& mutation) {
  const HeaderChanges changes = ChangesOf(message, mutation);
  Pieces headers;
  Pieces rest;
  WireReader reader(message);
  while (reader.Next()) {
    if (!reader.Is(kHeaderList)) {
      rest.Add(reader.record());
      continue;
    }
    AddKept(reader.bytes(), changes, &headers);
  }
  size_t map_size = headers.size();
  for (const HeaderChanges::Added& header : changes.added) {
    map_size += BytesSize(field::HeaderMap::kHeaders, header.size());
  }
  std::string out;
  out.reserve(BytesSize(kHeaderList, map_size) + rest.size());
  AppendBytesHead(kHeaderList, map_size, &out);
  headers.AppendTo(&out);
  for (const HeaderChanges::Added& header : changes.added) AppendHeader(header, &out);
  rest.AppendTo(&out);
  return out;
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
                           std::string_view message, size_t* message_at) {
  Pieces others;
  WireReader reader(request);
  while (reader.Next()) {
    const bool is_oneof_member =
        reader.number() >= CALLOUT_REQUEST_HEADERS && reader.number() <= CALLOUT_RESPONSE_TRAILERS;
    if (!is_oneof_member) others.Add(reader.record());
  }
  std::string out;
  out.reserve(BytesSize(phase, message.size()) + others.size());
  AppendBytesHead(phase, message.size(), &out);
  if (message_at != nullptr) *message_at = out.size();
  out.append(message);
  others.AppendTo(&out);
  return out;
}

}  // namespace callout::host
