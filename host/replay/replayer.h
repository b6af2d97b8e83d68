// SPDX-License-Identifier: Apache-2.0

// Plays all exchanges of a recording through a chain of plugins on several threads, and counts
// where the outcomes differ from the recording, or from those of another chain.
//
//   Replayer replayer({.chain = &chain, .against = nullptr, .expected = &expected, .jobs = 2});
//   ReplayResult result;
//   absl::Status status = replayer.Run(reader.get(), &result);   // for each file
//
// One thread.
//
// Tested by tests/replay/replay_test.cc.
#ifndef CALLOUT_HOST_REPLAY_REPLAYER_H_
#define CALLOUT_HOST_REPLAY_REPLAYER_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "host/diff/difference.h"
#include "host/record/recording_reader.h"
#include "host/replay/expectations.h"
#include "host/tester/in_process.h"

namespace callout::host {

struct ReplayResult {
  uint64_t exchanges = 0;      // played
  uint64_t messages = 0;       // from Envoy, in them
  uint64_t allowed = 0;        // exchanges that only differ as --expect allows
  uint64_t unknown = 0;        // not compared: a body that nobody knows decides
  uint64_t incomplete = 0;     // not compared: the recording does not have all of them
  uint64_t without_bytes = 0;  // have a body without bytes
  uint64_t abandoned = 0;      // a plugin did not finish its call
  DifferenceSummary summary;   // of those that were compared; differences that are not allowed

  void Add(const ReplayResult& other);
};

class Replayer {
 public:
  struct Options {
    InProcessChain* chain = nullptr;
    InProcessChain* against = nullptr;       // null: the recording
    const Expectations* expected = nullptr;  // outlives it, as the chains do
    size_t jobs = 1;                         // threads, from 1 on
  };

  explicit Replayer(const Options& options) : options_(options) {}

  // Adds to `result`. The reader's status: all before the damage has been played then.
  absl::Status Run(RecordingReader* reader, ReplayResult* result);

 private:
  const Options options_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_REPLAY_REPLAYER_H_
