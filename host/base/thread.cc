// SPDX-License-Identifier: Apache-2.0

#include "host/base/thread.h"

#include <fmt/format.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

namespace callout::host {
namespace {

std::atomic<uint64_t> g_failures{0};
std::atomic<int> g_fail_for_test{0};

absl::Status Failure(std::string_view what, int error) {
  g_failures.fetch_add(1, std::memory_order_relaxed);
  return absl::UnavailableError(
      fmt::format("cannot start a thread for {}: {}; raise the limit on processes (ulimit -u, or "
                  "the container's pids limit)",
                  what, strerror(error)));
}

}  // namespace

absl::StatusOr<std::thread> StartThread(std::string_view what, std::function<void()> body) {
  if (g_fail_for_test.load(std::memory_order_relaxed) > 0) return Failure(what, EAGAIN);
  try {
    return std::thread(std::move(body));
  } catch (const std::system_error& error) {
    return Failure(what, error.code().value());
  }
}

uint64_t ThreadFailures() { return g_failures.load(std::memory_order_relaxed); }

FailThreadsForTest::FailThreadsForTest() { ++g_fail_for_test; }

FailThreadsForTest::~FailThreadsForTest() { --g_fail_for_test; }

}  // namespace callout::host
