// SPDX-License-Identifier: Apache-2.0

// Starts threads, and returns an error if that fails. std::thread throws at the limit of a
// container's pids or of a user's processes, which would end the process.
//
//   absl::StatusOr<std::thread> thread = StartThread("the watchdog", [this] { Run(); });
//   if (!thread.ok()) … go on without it, or refuse to start …
//
// Any thread.
#ifndef CALLOUT_HOST_BASE_THREAD_H_
#define CALLOUT_HOST_BASE_THREAD_H_

#include <cstdint>
#include <functional>
#include <string_view>
#include <thread>

#include "absl/status/statusor.h"

namespace callout::host {

// UNAVAILABLE with the system's reason: "cannot start a thread for WHAT: …". Every
// failure counts for ThreadFailures.
absl::StatusOr<std::thread> StartThread(std::string_view what, std::function<void()> body);

// How often StartThread has failed in this process.
uint64_t ThreadFailures();

// While it lives, StartThread fails in this process. For tests.
class FailThreadsForTest {
 public:
  FailThreadsForTest();
  ~FailThreadsForTest();
  FailThreadsForTest(const FailThreadsForTest&) = delete;
  FailThreadsForTest& operator=(const FailThreadsForTest&) = delete;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_THREAD_H_
