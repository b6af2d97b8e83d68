// SPDX-License-Identifier: Apache-2.0

#include "host/base/thread.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

namespace callout::host {
namespace {

TEST(Thread, RunsItsBody) {
  std::atomic<bool> ran{false};
  absl::StatusOr<std::thread> thread = StartThread("a test", [&ran] { ran = true; });
  ASSERT_TRUE(thread.ok()) << thread.status();
  thread->join();
  EXPECT_TRUE(ran);
}

TEST(Thread, OneThatCannotBeMadeIsAnErrorAndCounted) {
  const uint64_t before = ThreadFailures();
  const FailThreadsForTest fail;
  const absl::StatusOr<std::thread> thread = StartThread("a test", [] {});
  ASSERT_FALSE(thread.ok());
  EXPECT_EQ(thread.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(thread.status().message()),
              ::testing::HasSubstr("cannot start a thread for a test: "));
  EXPECT_EQ(ThreadFailures(), before + 1);
}

}  // namespace
}  // namespace callout::host
