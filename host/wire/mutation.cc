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

[[gnu::noinline]] std::string_view FindName(std::string_view header) {
  WireReader fields(header);
  while (fields.Next()) {
    if (fields.Is(field::HeaderValue::kKey)) return fields.bytes();
  }
  return {};
}

// Of a HeaderValue; Envoy writes the key first, and once.
[[gnu::always_inline]] inline std::string_view NameOf(std::string_view header) {
  const std::string_view key = ShortText(header, field::HeaderValue::kKey);
  return key.empty() ? FindName(header) : key;
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
  uint64_t gone_sizes = 0;                        // a bit for each size of theirs, modulo 64
  absl::InlinedVector<Added, 8> added;

  static uint64_t SizeBit(std::string_view name) { return uint64_t{1} << (name.size() % 64); }
  // `header`: a HeaderValue. Lengths tell most names apart.
  bool Keeps(std::string_view header) const {
    const std::string_view name = NameOf(header);
    if ((gone_sizes & SizeBit(name)) == 0) return true;
    for (const std::string_view other : gone) {
      if (other.size() == name.size() && EqualsIgnoreCase(other, name)) return false;
    }
    return true;
  }
  void Drop(std::string_view name) {
    gone.push_back(name);
    gone_sizes |= SizeBit(name);
  }
  void Set(std::string_view name, const HeaderSet& set) {
    if (!set.append) {
      Drop(name);
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
    if (IsRemovable(name)) changes.Drop(name);
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
  std::string_view left = map;
  while (true) {
    // The common case: a short header.
    for (std::string_view header = ShortText(left, field::HeaderMap::kHeaders);
         !header.empty() && changes.Keeps(header);
         header = ShortText(left, field::HeaderMap::kHeaders)) {
      left.remove_prefix(2 + header.size());
    }
    WireReader reader(left);
    if (!reader.Next()) break;
    const std::string_view record = reader.record();
    left.remove_prefix(record.size());
    if (reader.Is(field::HeaderMap::kHeaders) && changes.Keeps(reader.bytes())) continue;
    kept->Add({run, static_cast<size_t>(record.data() - run)});
    run = left.data();
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

// A message (HttpHeaders or HttpTrailers) as a mutation leaves it. Chains write one for each
// instance that changes headers, so what stays is copied, not written anew. Both have to outlive
// it.
class HeaderRewrite {
 public:
  HeaderRewrite(std::string_view message, const HeaderMutationView& mutation)
      : changes_(ChangesOf(message, mutation)) {
    WireReader reader(message);
    while (reader.Next()) {
      if (reader.Is(kHeaderList)) {
        AddKept(reader.bytes(), changes_, &headers_);
      } else {
        rest_.Add(reader.record());
      }
    }
    map_size_ = headers_.size();
    for (const HeaderChanges::Added& header : changes_.added) {
      map_size_ += BytesSize(field::HeaderMap::kHeaders, header.size());
    }
  }

  size_t size() const { return BytesSize(kHeaderList, map_size_) + rest_.size(); }
  void AppendTo(std::string* out) const {
    AppendBytesHead(kHeaderList, map_size_, out);
    headers_.AppendTo(out);
    for (const HeaderChanges::Added& header : changes_.added) AppendHeader(header, out);
    rest_.AppendTo(out);
  }

 private:
  const HeaderChanges changes_;
  Pieces headers_;  // those that stay
  Pieces rest_;
  size_t map_size_ = 0;
};

class Verbatim {
 public:
  explicit Verbatim(std::string_view message) : message_(message) {}
  size_t size() const { return message_.size(); }
  void AppendTo(std::string* out) const { out->append(message_); }

 private:
  const std::string_view message_;
};

template <typename Message>
std::string PutIntoRequest(std::string_view request, callout_phase_t phase, const Message& message,
                           size_t* message_at) {
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
  message.AppendTo(&out);
  others.AppendTo(&out);
  return out;
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
  const HeaderRewrite rewrite(message, mutation);
  std::string out;
  out.reserve(rewrite.size());
  rewrite.AppendTo(&out);
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
  return PutIntoRequest(request, phase, Verbatim(message), message_at);
}

std::string ReplaceHeaders(std::string_view request, callout_phase_t phase,
                           std::string_view message, const HeaderMutationView& mutation,
                           size_t* message_at, size_t* message_size) {
  const HeaderRewrite rewrite(message, mutation);
  *message_size = rewrite.size();
  return PutIntoRequest(request, phase, rewrite, message_at);
}

}  // namespace callout::host
