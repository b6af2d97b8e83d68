// SPDX-License-Identifier: Apache-2.0

#include "host/workers/worker_process.h"

#include <gtest/gtest.h>
#include <unistd.h>

namespace callout::host {
namespace {

TEST(WorkerArgument, TellsAWorkerItsDescriptors) {
  const std::string argument =
      ToWorkerArgument({5, 6, 9, {{.name = "secure", .fd = 7}, {.name = "plaintext", .fd = 8}}, 2});
  EXPECT_EQ(argument, "--worker=5,6,9,2,secure:7,plaintext:8");
  const std::optional<WorkerDescriptors> descriptors = ParseWorkerArgument(argument);
  ASSERT_TRUE(descriptors.has_value());
  EXPECT_EQ(descriptors->channel, 5);
  EXPECT_EQ(descriptors->hooks, 6);
  EXPECT_EQ(descriptors->metrics, 9);
  EXPECT_EQ(descriptors->number, 2);
  ASSERT_EQ(descriptors->sockets.size(), 2u);
  EXPECT_EQ(descriptors->sockets[1].name, "plaintext");
  EXPECT_EQ(descriptors->sockets[1].fd, 8);
}

TEST(WorkerArgument, IsNothingElse) {
  for (const char* argument :
       {"--workers=2", "--worker=", "--worker=5", "--worker=5,x", "--worker=5,6", "--worker=5,6,x",
        "--worker=5,6,7", "--worker=5,6,7,x", "--worker=5,6,7,1,secure", "--worker=5,-6,7,1",
        "--worker=5,6,7,1,secure:x"}) {
    EXPECT_FALSE(ParseWorkerArgument(argument).has_value()) << argument;
  }
}

TEST(WorkerProcessTest, AnswersWithItsEndWhoeverAsksAProcessThatEnds) {
  // The test program itself, which knows none of these options and ends.
  WorkerProcess::Launch launch;
  launch.options = {"--gtest_filter=None"};
  launch.hooks = launch.metrics = STDIN_FILENO;
  auto process = WorkerProcess::Start(launch);
  ASSERT_TRUE(process.ok()) << process.status();
  std::future<WorkerProcess::Reply> early = (*process)->Ask(WorkerMessageKind::kGetUsage);
  const int wait_status = (*process)->Attend([](const WorkerMessage&) {});
  EXPECT_TRUE(wait_status == 0 || wait_status == 9) << wait_status;
  (*process)->Close(absl::UnavailableError("its end"));
  EXPECT_EQ(early.get().status(), absl::UnavailableError("its end"));
  EXPECT_EQ((*process)->Ask(WorkerMessageKind::kGetUsage).get().status(),
            absl::UnavailableError("its end"));
}

}  // namespace
}  // namespace callout::host
