// SPDX-License-Identifier: Apache-2.0

// Recordings (docs/recordings.md) as load: each exchange is a scenario of its own, with the
// messages that Envoy has sent.
//
//   std::vector<Scenario> scenarios = ReadScenarios({"live.rec"});
//
// A message is sent once as many responses have come as had in the recording, so that chunks of a
// body that were sent without waiting are sent so again. Bodies that were recorded by their size
// are zeros. Left out are exchanges that have failed, that a drain has ended, or that the recording
// does not have all of.
//
// Tested by tests/replay/recorded_load_test.cc.
#ifndef CALLOUT_TESTS_BENCH_LOAD_RECORDED_H_
#define CALLOUT_TESTS_BENCH_LOAD_RECORDED_H_

#include <cstddef>
#include <string>
#include <vector>

#include "../messages.h"

namespace callout::bench {

// All of them are kept in memory.
inline constexpr size_t kRecordedBytesMax = size_t{1} << 30;

// Exits with a message if a file cannot be read, is damaged, or has more than kRecordedBytesMax, or
// if there is no exchange that can be sent.
std::vector<Scenario> ReadScenarios(const std::vector<std::string>& files);

}  // namespace callout::bench

#endif  // CALLOUT_TESTS_BENCH_LOAD_RECORDED_H_
