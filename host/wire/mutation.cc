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
  constexpr uint64_t kOverwrite = 2;
  const size_t header_size = BytesSize(field::HeaderValue::kKey, name.size()) +
                             BytesSize(field::HeaderValue::kRawValue, value.size());
  const size_t action_size =
      append ? BytesSize(field::HeaderValueOption::kAppend, kTrue.size())
             : VarintFieldSize(field::HeaderValueOption::kAppendAction, kOverwrite);
  const size_t size = BytesSize(field::HeaderValueOption::kHeader, header_size) + action_size;
  const size_t begin = out->size();
  out->resize(begin + BytesSize(field::HeaderMutation::kSetHeaders, size));
  WireWriter writer(out->data() + begin);
  writer.Head(field::HeaderMutation::kSetHeaders, size);
  writer.Head(field::HeaderValueOption::kHeader, header_size);
  writer.Head(field::HeaderValue::kKey, name.size());
  writer.Bytes(name);
  writer.Head(field::HeaderValue::kRawValue, value.size());
  writer.Bytes(value);
  if (append) {
    writer.Head(field::HeaderValueOption::kAppend, kTrue.size());
    writer.Bytes(kTrue);
  } else {
    writer.Varint(uint64_t{field::HeaderValueOption::kAppendAction} << 3);
    writer.Varint(kOverwrite);
  }
}

// Envoy keeps a request's "host" as ":authority".
std::string_view IndexName(std::string_view name) {
  constexpr std::string_view kHost = "host";
  return name.size() == kHost.size() && EqualsIgnoreCase(name, kHost) ? ":authority" : name;
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

// Of a record of a HeaderMap.
std::string_view NameOfRecord(std::string_view record) {
  WireReader reader(record);
  return reader.Next() ? NameOf(reader.bytes()) : std::string_view();
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

struct AddedHeader {
  std::string_view name, value;

  size_t size() const {
    return BytesSize(field::HeaderValue::kKey, name.size()) +
           BytesSize(field::HeaderValue::kRawValue, value.size());
  }
  // In a HeaderMap.
  size_t record_size() const { return BytesSize(field::HeaderMap::kHeaders, size()); }
};

// A mutation as it is to be applied to one message.
struct HeaderChanges {
  absl::InlinedVector<std::string_view, 8> gone;  // names whose headers in the message go
  NameSet gone_names;
  absl::InlinedVector<AddedHeader, 8> added;

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
                                 [name](const AddedHeader& earlier) {
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
    const auto is_authority = [](const AddedHeader& added) { return added.name == kAuthority; };
    const bool sets_authority =
        EqualsIgnoreCase(set.key, "host") &&
        (HasHeader(message, kAuthority) ||
         std::any_of(changes.added.begin(), changes.added.end(), is_authority));
    changes.Set(sets_authority ? kAuthority : set.key, set);
  }
  return changes;
}

// The header that a mutation sets in place of others of its name, if it does nothing else, which is
// what most do; else null. One of "host" may be another header's.
const HeaderSet* OnlySet(const HeaderMutationView& mutation) {
  if (mutation.set.size() != 1 || !mutation.remove.empty()) return nullptr;
  const HeaderSet& only = mutation.set.front();
  return only.append || EqualsIgnoreCase(only.key, "host") ? nullptr : &only;
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

// Writes a record of HeaderMap to where it has room. Envoy lower-cases the name of a header that is
// set.
void WriteHeader(const AddedHeader& header, char* to) {
  WireWriter writer(to);
  writer.Head(field::HeaderMap::kHeaders, header.size());
  writer.Head(field::HeaderValue::kKey, header.name.size());
  for (const char c : header.name) writer.Byte(ToLowerAscii(c));
  writer.Head(field::HeaderValue::kRawValue, header.value.size());
  writer.Bytes(header.value);
}

void AppendHeader(const AddedHeader& header, std::string* out) {
  const size_t begin = out->size();
  out->resize(begin + header.record_size());
  WriteHeader(header, out->data() + begin);
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
    for (const AddedHeader& header : changes_.added) {
      map_size_ += header.record_size();
    }
  }

  size_t map_size() const { return map_size_; }
  size_t kept_size() const { return headers_.size(); }
  NameSet kept_names() const { return kept_names_; }
  const absl::InlinedVector<AddedHeader, 8>& added() const { return changes_.added; }
  size_t size() const { return rest_.size() + BytesSize(kHeaderList, map_size_); }
  void AppendTo(std::string* out) const {
    rest_.AppendTo(out);
    AppendBytesHead(kHeaderList, map_size_, out);
    headers_.AppendTo(out);
    for (const AddedHeader& header : changes_.added) AppendHeader(header, out);
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

size_t MergedHeaders::PlaceOf(std::string_view name) const {
  const std::string_view indexed = IndexName(name);
  size_t place = 0;
  for (; place < effects_.size(); ++place) {
    const std::string& other = effects_[place].name;
    if (other == name || EqualsIgnoreCase(IndexName(other), indexed)) break;
  }
  return place;
}

const MergedHeaders::Effect* MergedHeaders::Find(std::string_view name) const {
  const size_t place = PlaceOf(name);
  return place == effects_.size() ? nullptr : &effects_[place];
}

MergedHeaders::Effect& MergedHeaders::EffectOn(std::string_view name) {
  const size_t place = PlaceOf(name);
  return place < effects_.size() ? effects_[place] : AddEffect(name);
}

// Apart, so that the common case has few registers to save.
[[gnu::noinline]] MergedHeaders::Effect& MergedHeaders::AddEffect(std::string_view name) {
  effects_.push_back({std::string(name), false, {}});
  return effects_.back();
}

void MergedHeaders::Uncount(const Effect& effect) {
  entries_.set -= effect.values.size();
  if (effect.replaces && effect.values.empty()) --entries_.removed;
}

void MergedHeaders::Count(const Effect& effect) {
  entries_.set += effect.values.size();
  if (effect.replaces && effect.values.empty()) ++entries_.removed;
}

void MergedHeaders::Add(const HeaderMutationView& mutation) {
  for (std::string_view name : mutation.remove) {
    if (!IsRemovable(name)) continue;
    Effect& effect = EffectOn(name);
    Uncount(effect);
    effect.replaces = true;
    effect.values.clear();
    Count(effect);
  }
  for (const HeaderSet& header : mutation.set) {
    Effect& effect = EffectOn(header.key);
    Uncount(effect);
    if (!header.append) {
      effect.replaces = true;
      effect.values.resize(1);
      effect.values.front().assign(header.value);
    } else {
      effect.values.emplace_back(header.value);
    }
    Count(effect);
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
    Uncount(effect);
    if (over.replaces) {
      effect.replaces = true;
      effect.values = over.values;
    } else if (effect.replaces) {
      effect.values.insert(effect.values.end(), over.values.begin(), over.values.end());
    }
    Count(effect);
  }
}

void MergedHeaders::DropSet(std::string_view name) {
  const Effect* const found = Find(name);
  if (found != nullptr && !found->values.empty()) {
    Uncount(*found);
    effects_.erase(effects_.begin() + (found - effects_.data()));
  }
}

std::string MergedHeaders::Write() const {
  std::string mutation;
  AppendTo(&mutation);
  return mutation;
}

void MergedHeaders::AppendTo(std::string* mutation) const {
  for (const Effect& effect : effects_) {
    if (effect.values.empty() && effect.replaces) {
      AppendBytes(field::HeaderMutation::kRemoveHeaders, effect.name, mutation);
    }
    for (size_t i = 0; i < effect.values.size(); ++i) {
      AppendHeaderOption(effect.name, effect.values[i], i > 0 || !effect.replaces, mutation);
    }
  }
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
  for (const AddedHeader& header : rewrite.added()) added_names_.Add(header.name);
}

void ChangedHeaders::Apply(const HeaderMutationView& mutation) {
  const size_t old_message_size = bytes_.size() - message_at_;
  const size_t old_map_size = bytes_.size() - map_at_;
  const HeaderSet* const only = OnlySet(mutation);
  if (only != nullptr && !names_.MayHave(only->key)) {
    SetAdded({only->key, only->value});
  } else {
    ApplyAny(mutation);
  }
  if (bytes_.size() - map_at_ == old_map_size) return;
  // A length that takes more bytes or fewer moves all that is behind it.
  added_at_ += MendLength(old_map_size, &map_at_);
  const ptrdiff_t moved = MendLength(old_message_size, &message_at_);
  map_at_ += moved;
  added_at_ += moved;
}

void ChangedHeaders::SetAdded(const AddedHeader& header) {
  const size_t size = header.record_size();
  if (added_names_.MayHave(header.name)) {
    // The one that was added last may just take another value.
    const std::string_view last = std::string_view(bytes_).substr(bytes_.size() - last_set_size_);
    if (last.size() == size && EqualsIgnoreCase(NameOfRecord(last), header.name)) {
      return WriteHeader(header, bytes_.data() + bytes_.size() - size);
    }
    RemoveAdded(header.name);
  }
  AppendHeader(header, &bytes_);
  added_names_.Add(header.name);
  last_set_size_ = size;
}

void ChangedHeaders::ApplyAny(const HeaderMutationView& mutation) {
  last_set_size_ = 0;
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
  for (const AddedHeader& header : changes.added) {
    AppendHeader(header, &bytes_);
    added_names_.Add(header.name);
  }
}

void ChangedHeaders::RemoveAdded(std::string_view name) {
  for (size_t at = added_at_; at < bytes_.size();) {
    WireReader reader(std::string_view(bytes_).substr(at));
    if (!reader.Next()) return;  // cannot be: they were written here
    const size_t size = reader.record().size();
    if (!EqualsIgnoreCase(NameOf(reader.bytes()), name)) {
      at += size;
    } else if (at + size == bytes_.size()) {
      bytes_.resize(at);
    } else {
      bytes_.erase(at, size);
    }
  }
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
