// SPDX-License-Identifier: Apache-2.0

#include "host/base/memory_budget.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

namespace callout::host {
namespace {

TEST(MemoryBudget, CountsWhatIsTakenAndSaysWhenItIsTooMuch) {
  MemoryBudget budget(1000);
  EXPECT_TRUE(budget.Take(1000));
  EXPECT_FALSE(budget.Take(1));
  EXPECT_EQ(budget.used(), 1001U) << "it is there, refused or not";
  budget.Give(1001);
  EXPECT_EQ(budget.used(), 0U);
}

TEST(MemoryBudget, ShedsStreamsFirstThenConnections) {
  MemoryBudget budget(1600);
  budget.Take(1400);
  EXPECT_TRUE(budget.may_open_stream());
  budget.Take(1);
  EXPECT_FALSE(budget.may_open_stream());
  EXPECT_TRUE(budget.may_open_connection());
  budget.Take(99);
  EXPECT_TRUE(budget.may_open_connection());
  budget.Take(1);
  EXPECT_FALSE(budget.may_open_connection());
}

TEST(MemoryBudget, NoLimitIsNone) {
  MemoryBudget budget(SIZE_MAX);
  EXPECT_TRUE(budget.Take(size_t{1} << 60));
  EXPECT_TRUE(budget.may_open_stream());
  EXPECT_TRUE(budget.may_open_connection());
}

TEST(MemoryShare, KeepsASmallBudgetToTheByte) {
  MemoryBudget budget(1000);
  MemoryShare share(&budget);
  size_t first = 0, second = 0;
  EXPECT_TRUE(share.Resize(&first, 600));
  EXPECT_FALSE(share.Resize(&second, 401));
  EXPECT_TRUE(share.Resize(&second, 400)) << "less than before is always right";
  EXPECT_EQ(budget.used(), 1000U);
  share.Resize(&first, 0);
  share.Resize(&second, 0);
  EXPECT_EQ(budget.used(), 0U);
}

TEST(MemoryShare, OfALargeBudgetAThreadKeepsLittleUndrawn) {
  MemoryBudget budget(size_t{1} << 30);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      MemoryShare share(&budget);
      std::vector<size_t> drawn(100);
      for (int round = 0; round < 1000; ++round) {
        for (size_t& one : drawn) share.Resize(&one, static_cast<size_t>(round) % 7 * 1000);
      }
      for (size_t& one : drawn) share.Resize(&one, 0);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(budget.used(), 0U) << "a share that goes gives back what it holds";
  MemoryShare share(&budget);
  size_t drawn = 0;
  share.Resize(&drawn, 1);
  EXPECT_LE(budget.used(), 65537U);
  share.Resize(&drawn, 0);
}

TEST(MemoryLimit, IsANumberOrNone) {
  EXPECT_EQ(BytesOfMemoryLimit("268435456\n"), 268435456U);
  EXPECT_EQ(BytesOfMemoryLimit("max\n"), std::nullopt);
  EXPECT_EQ(BytesOfMemoryLimit(""), std::nullopt);
}

TEST(MemoryLimit, IsTheLeastOnTheWayToTheRoot) {
  const std::string root = ::testing::TempDir() + "memory_limit_of_cgroup";
  std::filesystem::remove_all(root);
  std::filesystem::create_directories(root + "/a/b/c");
  const auto write = [&](const std::string& name, const std::string& text) {
    std::ofstream(root + name) << text << "\n";
  };
  write("/a/memory.max", "3000");
  write("/a/b/memory.max", "max");
  write("/a/b/c/memory.max", "9000");
  EXPECT_EQ(MemoryLimitOfCgroup(root, "/a/b/c"), 3000U);
  write("/a/b/memory.high", "2000");
  EXPECT_EQ(MemoryLimitOfCgroup(root, "/a/b/c"), 2000U);
  EXPECT_EQ(MemoryLimitOfCgroup(root, "/"), std::nullopt);
  std::filesystem::remove_all(root);
}

TEST(MemoryLimit, TheDefaultIsDividedByTheProcesses) {
  const size_t whole = DefaultMemoryBudget(1);
  EXPECT_GT(whole, 0U);
  EXPECT_NEAR(static_cast<double>(DefaultMemoryBudget(4)), static_cast<double>(whole) / 4, 1);
  EXPECT_EQ(DefaultMemoryBudget(0), whole) << "without workers there is one process";
}

}  // namespace
}  // namespace callout::host
