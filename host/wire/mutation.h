// SPDX-License-Identifier: Apache-2.0

// Header mutations: merges those of several instances, and applies them to a message as Envoy does,
// so that each instance sees the message as the ones before it changed it.
//
// Envoy's rules (seen on 1.40): removals come before sets; a set replaces every value of the name
// unless its `append` flag is true; removals of "host" and of names that begin with ":" are
// ignored; names are case-insensitive; "host" of a request is ":authority". So merging is not
// concatenation: a later removal cancels an earlier set, and a later set cancels an earlier
// removal.
#ifndef CALLOUT_HOST_WIRE_MUTATION_H_
#define CALLOUT_HOST_WIRE_MUTATION_H_

#include <callout/plugin.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "host/wire/response.h"

namespace callout::host {

struct AddedHeader;
struct HeaderChanges;

// A set of header names that may say it has a name which it does not have.
class NameSet {
 public:
  void Add(std::string_view name) { bits_ |= Bit(name); }
  void Add(NameSet other) { bits_ |= other.bits_; }
  bool MayHave(std::string_view name) const { return (bits_ & Bit(name)) != 0; }

 private:
  // The same for upper and lower case.
  static uint64_t Bit(std::string_view name) {
    const size_t last = name.empty() ? 0 : static_cast<unsigned char>(name.back()) | 0x20u;
    return uint64_t{1} << ((name.size() + 7 * last) % 64);
  }
  uint64_t bits_ = 0;
};

// How many entries the two lists of a HeaderMutation have.
struct HeaderEntries {
  size_t set = 0;
  size_t removed = 0;
  size_t longer() const { return std::max(set, removed); }
};

// The net effect of several HeaderMutations in a row: for each name, either values that are
// appended to the existing ones, or values that replace them.
class MergedHeaders {
 public:
  void Add(const HeaderMutationView& mutation);
  // Adds `mutation` as if it came before `later`, which was added earlier. If both append to a
  // name, the values of `later` stay first, since the other order cannot be expressed without the
  // headers.
  void AddUnder(const HeaderMutationView& mutation, const MergedHeaders& later);
  // Forgets that a header of this name is set; not that it is removed.
  void DropSet(std::string_view name);
  bool empty() const { return effects_.empty(); }
  HeaderEntries entries() const { return entries_; }
  // True if a header of this name is set or removed.
  bool Mentions(std::string_view name) const { return Find(name) != nullptr; }
  // A HeaderMutation payload.
  std::string Write() const;
  // The same.
  void AppendTo(std::string* mutation) const;

 private:
  struct Effect {
    std::string name;  // as first given; Envoy lower-cases it
    bool replaces = false;
    std::vector<std::string> values;
  };
  // The place of the effect on a name; effects_.size(): there is none.
  size_t PlaceOf(std::string_view name) const;
  const Effect* Find(std::string_view name) const;
  Effect& EffectOn(std::string_view name);
  Effect& AddEffect(std::string_view name);
  // Into entries_, and out of it before the effect's values change.
  void Count(const Effect& effect);
  void Uncount(const Effect& effect);

  // One per name, in the order in which they came. There are too few for an index: the guard
  // accepts at most kHeaderMutationEntriesMax per instance.
  std::vector<Effect> effects_;
  HeaderEntries entries_;
};

// `message` (HttpHeaders or HttpTrailers) with the mutation applied as Envoy does. Other fields
// stay.
std::string ApplyHeaderMutation(std::string_view message, const HeaderMutationView& mutation);

// `message` (HttpHeaders) without end_of_stream: a body follows.
std::string WithoutEndOfStream(std::string_view message);

// The number of headers, and the bytes of their names and values.
struct HeaderSize {
  size_t count = 0;
  size_t bytes = 0;
};
// Of `message` (HttpHeaders or HttpTrailers).
HeaderSize MeasureHeaders(std::string_view message);
// The number alone.
size_t CountHeaders(std::string_view message);
// At least those of `message`, of `count` headers or fewer, with `mutation` applied; found without
// applying it.
inline HeaderSize LargestHeaderSize(std::string_view message, size_t count,
                                    const HeaderMutationView& mutation) {
  constexpr std::string_view kAuthority = ":authority";  // what a "host" may become
  HeaderSize size = {count + mutation.set.size(), message.size()};
  for (const HeaderSet& header : mutation.set) {
    size.bytes += std::max(header.key.size(), kAuthority.size()) + header.value.size();
  }
  return size;
}

// `message` (HttpBody) with another body and end_of_stream. Other fields stay.
std::string WriteBodyMessage(std::string_view message, std::string_view body, bool end_of_stream);

// `request` (ProcessingRequest) with another message of the same phase in it, at its end.
std::string ReplaceMessage(std::string_view request, callout_phase_t phase,
                           std::string_view message);

// A ProcessingRequest whose headers or trailers the instances of a chain change in turn. They are
// at its end, so each change is made in place: the rest is neither copied nor read again.
class ChangedHeaders {
 public:
  // `request` with `message` (HttpHeaders or HttpTrailers) in it, as ApplyHeaderMutation leaves it.
  ChangedHeaders(std::string_view request, callout_phase_t phase, std::string_view message,
                 const HeaderMutationView& mutation);

  // Applies another mutation, which must not lie in it. Views of it are invalid afterwards.
  void Apply(const HeaderMutationView& mutation);

  std::string_view request() const { return bytes_; }
  std::string_view message() const { return std::string_view(bytes_).substr(message_at_); }

 private:
  // Apply, but for the lengths.
  void ApplyAny(const HeaderMutationView& mutation);
  // Adds a header in place of those of its name, which only headers that were added have.
  void SetAdded(const AddedHeader& header);
  // Removes the headers of this name that changes have added: what Remove does from added_at_ on,
  // in half of the instructions.
  void RemoveAdded(std::string_view name);
  // Removes headers of those that begin at `from`. Returns the names that are left there.
  NameSet Remove(const HeaderChanges& changes, size_t from);
  // What begins at `*at` and reaches to the end had `old_size` bytes: mends the length before it.
  // Returns by how many bytes it has moved.
  ptrdiff_t MendLength(size_t old_size, size_t* at);

  std::string bytes_;
  size_t message_at_ = 0;  // where the message begins, which reaches to the end
  size_t map_at_ = 0;      // where its headers begin, which reach to the end, too
  // Where those begin that were added by the last changes: names that only these have are looked
  // for here only. Before it there are no names but of `names_`.
  size_t added_at_ = 0;
  NameSet names_, added_names_;
  // Of the last record, if SetAdded has written it: no other has its name. 0: it has not.
  size_t last_set_size_ = 0;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_WIRE_MUTATION_H_
