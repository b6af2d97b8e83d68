// SPDX-License-Identifier: Apache-2.0

// What a chain makes of its instances' answers: each instance sees the message
// as those before it left it, and one answer goes out that has the effect of all.
//
// The rules of Envoy's mutations, as seen on Envoy 1.40: removals come before
// sets; a set replaces every value of the name unless its `append` flag is
// true; removals of "host" and of names that begin with ":" are ignored; names
// compare without case; "host" of a request is ":authority". Merging is therefore not
// concatenation: a later removal cancels an earlier set, and a later set an earlier removal.
#ifndef CALLOUT_HOST_WIRE_MUTATION_H_
#define CALLOUT_HOST_WIRE_MUTATION_H_

#include <callout/plugin.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "host/wire/response.h"

namespace callout::host {

// The net effect of several HeaderMutations in a row. For every name it is
// either "whatever there was, and these values more" or "these values only".
class MergedHeaders {
 public:
  void Add(const HeaderMutationView& mutation);
  // For the names that `mutation` touches: what `later` does to them comes after
  // it, although it was said before. Where both append, their order stays the
  // other way round, for it cannot be said without the headers.
  void AddUnder(const HeaderMutationView& mutation, const MergedHeaders& later);
  bool empty() const { return effects_.empty(); }
  // The number of entries in the longer list of the mutation.
  size_t entries() const;
  // True if a header of this name is set or removed.
  bool Mentions(std::string_view name) const { return Find(name) != nullptr; }
  // A HeaderMutation payload.
  std::string Write() const;

 private:
  struct Effect {
    std::string name;  // as first given; Envoy lower-cases it
    bool replaces = false;
    std::vector<std::string> values;
  };
  const Effect* Find(std::string_view name) const;
  Effect& EffectOn(std::string_view name);

  // One for each name, in the order in which they came. There are too few to be worth an
  // index: the guard takes no more than kHeaderMutationEntriesMax of an instance.
  std::vector<Effect> effects_;
};

// `message` (HttpHeaders or HttpTrailers) with the mutation applied as Envoy
// would; fields other than the header list are kept.
std::string ApplyHeaderMutation(std::string_view message, const HeaderMutationView& mutation);

// `message` (HttpHeaders) as one that more will follow.
std::string WithoutEndOfStream(std::string_view message);

// The number and the bytes (names and values) of headers.
struct HeaderSize {
  size_t count = 0;
  size_t bytes = 0;
};
// Of `message` (HttpHeaders or HttpTrailers).
HeaderSize MeasureHeaders(std::string_view message);
// No less than those of `message` with `mutation` applied, found without applying it.
HeaderSize LargestHeaderSize(std::string_view message, const HeaderMutationView& mutation);

// `message` (HttpBody) with another body and end_of_stream; its other fields are
// kept.
std::string WriteBodyMessage(std::string_view message, std::string_view body, bool end_of_stream);

// `request` (ProcessingRequest) around another message of the same phase.
std::string ReplaceMessage(std::string_view request, callout_phase_t phase,
                           std::string_view message);

}  // namespace callout::host

#endif  // CALLOUT_HOST_WIRE_MUTATION_H_
