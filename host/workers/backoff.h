// SPDX-License-Identifier: Apache-2.0

// How long to wait before what has failed so often in a row is tried again: from 0.1 s, twice as
// long after each failure, up to 5 s.
//
//   if (failures > 0) wait_for(PauseAfter(failures));
//
// A plain function; any thread.
#ifndef CALLOUT_HOST_WORKERS_BACKOFF_H_
#define CALLOUT_HOST_WORKERS_BACKOFF_H_

#include <algorithm>
#include <chrono>

namespace callout::host {

inline std::chrono::milliseconds PauseAfter(int failures) {
  constexpr std::chrono::milliseconds kPauseMin(100);
  constexpr std::chrono::milliseconds kPauseMax(5000);
  constexpr int kDoublingsMax = 6;
  if (failures <= 0) return std::chrono::milliseconds(0);
  return std::min(kPauseMin * (1 << std::min(failures - 1, kDoublingsMax)), kPauseMax);
}

}  // namespace callout::host

#endif  // CALLOUT_HOST_WORKERS_BACKOFF_H_
