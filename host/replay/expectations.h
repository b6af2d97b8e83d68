// SPDX-License-Identifier: Apache-2.0

// Differences that a replay may have, from the file of --expect (docs/recordings.md):
//
//   {"allow": [{"kind": "header", "what": "request x-version", "before": "1*", "after": "2*"}]}
//
// A member that is left out allows anything; "*" stands for any text. The members are those of a
// difference in the report.
//
//   absl::StatusOr<Expectations> expected = ReadExpectations(path);
//   if (expected->Allow(difference)) …
//
// Plain values; any thread may read one.
//
// Tested by tests/replay/expectations_test.cc.
#ifndef CALLOUT_HOST_REPLAY_EXPECTATIONS_H_
#define CALLOUT_HOST_REPLAY_EXPECTATIONS_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "host/diff/difference.h"

namespace callout::host {

class Expectations {
 public:
  bool Allow(const Difference& difference) const;
  bool empty() const { return allowed_.empty(); }

 private:
  friend absl::StatusOr<Expectations> ParseExpectations(std::string_view text);

  struct Allowed {
    std::string kind = "*", what = "*", before = "*", after = "*";
  };
  std::vector<Allowed> allowed_;
};

// INVALID_ARGUMENT in one line: what is wrong, and what is expected.
absl::StatusOr<Expectations> ParseExpectations(std::string_view text);
// The same with the path before it.
absl::StatusOr<Expectations> ReadExpectations(const std::string& path);

}  // namespace callout::host

#endif  // CALLOUT_HOST_REPLAY_EXPECTATIONS_H_
