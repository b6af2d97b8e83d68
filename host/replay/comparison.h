// SPDX-License-Identifier: Apache-2.0

// Compares what a chain did with an exchange in a replay with what the recording says, or with what
// another chain did.
//
//   const Comparison comparison(header);
//   absl::StatusOr<std::vector<Difference>> found = comparison.Compare(exchange, requests, nullptr,
//   new);
//
// What the recording has no values of is not compared: the replay's values of redacted names are
// left out in the same way, and the response to a body whose bytes were left out counts as the same
// whatever it is. Of other bodies without bytes, the sizes are compared.
//
// Any thread.
//
// Tested by tests/replay/comparison_test.cc.
#ifndef CALLOUT_HOST_REPLAY_COMPARISON_H_
#define CALLOUT_HOST_REPLAY_COMPARISON_H_

#include <cstdint>
#include <vector>

#include "host/base/redaction.h"
#include "host/diff/difference.h"
#include "host/record/recording.h"
#include "host/replay/player.h"

namespace callout::host {

class Comparison {
 public:
  enum class Result : uint8_t {
    kCompared,
    kUnknown,     // a body that is not in the recording decides how the exchange goes
    kIncomplete,  // the recording does not have all of it
  };

  explicit Comparison(const RecordingHeader& header);

  // Differences of `after` from `before`; null `before`: from the recording.
  Result Compare(const RecordedExchange& exchange, const Requests& requests, const Played* before,
                 const Played& after, std::vector<Difference>* found) const;

 private:
  const Redaction redaction_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_REPLAY_COMPARISON_H_
