// SPDX-License-Identifier: Apache-2.0

#include "host/wire/mutation.h"

#include <algorithm>
#include <cstring>
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

}  // namespace

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
  NameSet gone_names;
  absl::InlinedVector<Added, 8> added;

  bool Keeps(std::string_view name) const {
    if (!gone_names.MayHave(name)) return true;
    for (const std::string_view other : gone) {
      if (EqualsIgnoreCase(other, name)) return false;
    }
    return true;
  }
  void Drop(std::string_view name) {
    gone.push_back(name);
    gone_names.Add(name);
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

namespace {

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

// Calls `keep` with each run of headers that stay, and of whatever else is in the map. Returns the
// names of those that stay.
template <typename Keep>
NameSet EachKept(std::string_view map, const HeaderChanges& changes, const Keep& keep) {
  NameSet names;
  const auto keeps = [&](std::string_view header) {
    const std::string_view name = NameOf(header);
    if (!changes.Keeps(name)) return false;
    names.Add(name);
    return true;
  };
  const char* run = map.data();
  std::string_view left = map;
  while (true) {
    // The common case: a short header.
    for (std::string_view header = ShortText(left, field::HeaderMap::kHeaders);
         !header.empty() && keeps(header); header = ShortText(left, field::HeaderMap::kHeaders)) {
      left.remove_prefix(2 + header.size());
    }
    WireReader reader(left);
    if (!reader.Next()) break;
    const std::string_view record = reader.record();
    left.remove_prefix(record.size());
    if (reader.Is(field::HeaderMap::kHeaders) && keeps(reader.bytes())) continue;
    keep(std::string_view(run, static_cast<size_t>(record.data() - run)));
    run = left.data();
  }
  keep(std::string_view(run, static_cast<size_t>(map.data() + map.size() - run)));
  return names;
}

// Envoy lower-cases the name of a header that is set.
void AppendHeader(const HeaderChanges::Added& header, std::string* out) {
  const size_t begin = out->size();
  out->resize(begin + BytesSize(field::HeaderMap::kHeaders, header.size()));
  WireWriter writer(out->data() + begin);
  writer.Head(field::HeaderMap::kHeaders, header.size());
  writer.Head(field::HeaderValue::kKey, header.name.size());
  char* const name = writer.to();
  writer.Bytes(header.name);
  for (char* c = name; c != writer.to(); ++c) *c = ToLowerAscii(*c);
  writer.Head(field::HeaderValue::kRawValue, header.value.size());
  writer.Bytes(header.value);
}

// A message (HttpHeaders or HttpTrailers) as a mutation leaves it, with its headers at its end.
// What stays is copied, not written anew. Both have to outlive it.
class HeaderRewrite {
 public:
  HeaderRewrite(std::string_view message, const HeaderMutationView& mutation)
      : changes_(ChangesOf(message, mutation)) {
    WireReader reader(message);
    while (reader.Next()) {
      if (reader.Is(kHeaderList)) {
        kept_names_.Add(EachKept(reader.bytes(), changes_,
                                 [this](std::string_view run) { headers_.Add(run); }));
      } else {
        rest_.Add(reader.record());
      }
    }
    map_size_ = headers_.size();
    for (const HeaderChanges::Added& header : changes_.added) {
      map_size_ += BytesSize(field::HeaderMap::kHeaders, header.size());
    }
  }

  size_t map_size() const { return map_size_; }
  size_t kept_size() const { return headers_.size(); }
  NameSet kept_names() const { return kept_names_; }
  const absl::InlinedVector<HeaderChanges::Added, 8>& added() const { return changes_.added; }
  size_t size() const { return rest_.size() + BytesSize(kHeaderList, map_size_); }
  void AppendTo(std::string* out) const {
    rest_.AppendTo(out);
    AppendBytesHead(kHeaderList, map_size_, out);
    headers_.AppendTo(out);
    for (const HeaderChanges::Added& header : changes_.added) AppendHeader(header, out);
  }

 private:
  const HeaderChanges changes_;
  Pieces headers_;  // those that stay
  NameSet kept_names_;
  Pieces rest_;
  size_t map_size_ = 0;
};

// What is in a request beside its message.
Pieces OthersOf(std::string_view request) {
  Pieces others;
  WireReader reader(request);
  while (reader.Next()) {
    const bool is_oneof_member =
        reader.number() >= CALLOUT_REQUEST_HEADERS && reader.number() <= CALLOUT_RESPONSE_TRAILERS;
    if (!is_oneof_member) others.Add(reader.record());
  }
  return others;
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

void MergedHeaders::DropSet(std::string_view name) {
  const Effect* const found = Find(name);
  if (found != nullptr && !found->values.empty()) {
    effects_.erase(effects_.begin() + (found - effects_.data()));
  }
}

HeaderEntries MergedHeaders::entries() const {
  HeaderEntries entries;
  for (const Effect& effect : effects_) {
    entries.set += effect.values.size();
    if (effect.values.empty()) ++entries.removed;
  }
  return entries;
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

size_t CountHeaders(std::string_view message) {
  size_t count = 0;
  WireReader reader(message);
  while (reader.Next()) {
    if (reader.Is(kHeaderList)) count += CountRecords(reader.bytes());
  }
  return count;
}

HeaderSize LargestHeaderSize(std::string_view message, size_t count,
                             const HeaderMutationView& mutation) {
  HeaderSize size = {count + mutation.set.size(), message.size()};
  for (const HeaderSet& header : mutation.set) {
    size.bytes += IndexName(header.key).size() + header.value.size();
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
  const Pieces others = OthersOf(request);
  std::string out;
  out.reserve(others.size() + BytesSize(phase, message.size()));
  others.AppendTo(&out);
  AppendBytes(phase, message, &out);
  return out;
}

ChangedHeaders::ChangedHeaders(std::string_view request, callout_phase_t phase,
                               std::string_view message, const HeaderMutationView& mutation) {
  // For what later instances add.
  constexpr size_t kRoom = 256;
  const Pieces others = OthersOf(request);
  const HeaderRewrite rewrite(message, mutation);
  bytes_.reserve(others.size() + BytesSize(phase, rewrite.size()) + kRoom);
  others.AppendTo(&bytes_);
  AppendBytesHead(phase, rewrite.size(), &bytes_);
  message_at_ = bytes_.size();
  rewrite.AppendTo(&bytes_);
  map_at_ = bytes_.size() - rewrite.map_size();
  added_at_ = map_at_ + rewrite.kept_size();
  names_ = rewrite.kept_names();
  for (const HeaderChanges::Added& header : rewrite.added()) added_names_.Add(header.name);
}

void ChangedHeaders::Apply(const HeaderMutationView& mutation) {
  const size_t old_message_size = bytes_.size() - message_at_;
  const size_t old_map_size = bytes_.size() - map_at_;
  const HeaderChanges changes = ChangesOf(message(), mutation);
  if (!changes.gone.empty()) {
    const bool all = std::any_of(changes.gone.begin(), changes.gone.end(),
                                 [this](std::string_view name) { return names_.MayHave(name); });
    if (all) {
      names_ = Remove(changes, map_at_);
      added_names_ = {};
      added_at_ = bytes_.size();
    } else {
      added_names_ = Remove(changes, added_at_);
    }
  }
  for (const HeaderChanges::Added& header : changes.added) {
    AppendHeader(header, &bytes_);
    added_names_.Add(header.name);
  }
  // A length that takes more bytes or fewer moves all that is behind it.
  added_at_ += MendLength(old_map_size, &map_at_);
  const ptrdiff_t moved = MendLength(old_message_size, &message_at_);
  map_at_ += moved;
  added_at_ += moved;
}

NameSet ChangedHeaders::Remove(const HeaderChanges& changes, size_t from) {
  char* to = bytes_.data() + from;
  const NameSet left = EachKept({to, bytes_.size() - from}, changes, [&to](std::string_view run) {
    if (run.data() != to) std::memmove(to, run.data(), run.size());
    to += run.size();
  });
  bytes_.resize(static_cast<size_t>(to - bytes_.data()));
  return left;
}

ptrdiff_t ChangedHeaders::MendLength(size_t old_size, size_t* at) {
  const size_t size = bytes_.size() - *at;
  const size_t old_width = VarintSize(old_size);
  const size_t width = VarintSize(size);
  // Nearly always the same.
  if (width != old_width) bytes_.replace(*at - old_width, old_width, width, '\0');
  *at = *at - old_width + width;
  WireWriter(bytes_.data() + *at - width).Varint(size);
  return static_cast<ptrdiff_t>(width) - static_cast<ptrdiff_t>(old_width);
}

}  // namespace callout::host
