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

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "host/wire/response.h"

namespace callout::host {

// The net effect of several HeaderMutations in a row: for each name, either values that are
// appended to the existing ones, or values that replace them.
class MergedHeaders {
 public:
  void Add(const HeaderMutationView& mutation);
  // Adds `mutation` as if it came before `later`, which was added earlier. If both append to a
  // name, the values of `later` stay first, since the other order cannot be expressed without the
  // headers.
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

  // One per name, in the order in which they came. There are too few for an index: the guard
  // accepts at most kHeaderMutationEntriesMax per instance.
  std::vector<Effect> effects_;
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
// At least those of `message` with `mutation` applied, found without applying it.
HeaderSize LargestHeaderSize(std::string_view message, const HeaderMutationView& mutation);

// `message` (HttpBody) with another body and end_of_stream. Other fields stay.
std::string WriteBodyMessage(std::string_view message, std::string_view body, bool end_of_stream);

// `request` (ProcessingRequest) with another message of the same phase in it; sets `*message_at` to
// where it begins, unless null.
std::string ReplaceMessage(std::string_view request, callout_phase_t phase,
                           std::string_view message, size_t* message_at = nullptr);
// The same with `message` as ApplyHeaderMutation leaves it, which is written once.
std::string ReplaceHeaders(std::string_view request, callout_phase_t phase,
                           std::string_view message, const HeaderMutationView& mutation,
                           size_t* message_at, size_t* message_size);

}  // namespace callout::host

#endif  // CALLOUT_HOST_WIRE_MUTATION_H_
