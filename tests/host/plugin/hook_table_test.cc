// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/hook_table.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <random>
#include <thread>

#include "host/base/thread.h"
#include "host/plugin/crash_report.h"
#include "host/plugin/watchdog.h"
#include "sockets.h"

namespace callout::host {
namespace {

class HookTableTest : public ::testing::Test {
 protected:
  HookTable* table_ = HookTable::InUse();
  const uint32_t plugin_ = table_->FindOrAddPlugin("p");
};

TEST_F(HookTableTest, ShowsAHookWhileItRuns) {
  EXPECT_TRUE(table_->ListRunning().empty());
  {
    const HookScope scope({plugin_, Hook::kClose}, 17, 4711);
    const auto running = table_->ListRunning();
    ASSERT_EQ(running.size(), 1u);
    EXPECT_EQ(table_->PluginName(running[0].place.plugin), "p");
    EXPECT_STREQ(HookName(running[0].place.hook), "callout_on_stream_close");
    EXPECT_EQ(running[0].since_ns, 17u);
    EXPECT_EQ(running[0].stream_id, 4711u);
    EXPECT_EQ(running[0].thread, gettid());
  }
  EXPECT_TRUE(table_->ListRunning().empty());
}

TEST_F(HookTableTest, AnInnerHookGivesWayToTheOuterOne) {
  const HookScope outer({plugin_, Hook::kProcess}, 1, 12);
  { const HookScope inner({plugin_, Hook::kClose}, 2); }
  EXPECT_EQ(table_->ListRunning().at(0).stream_id, 12u);
  EXPECT_EQ(table_->ListRunning().at(0).place.hook, Hook::kProcess);
  EXPECT_EQ(table_->ListRunning().at(0).since_ns, 1u);
}

TEST_F(HookTableTest, OneCallGoesOnInAnotherHook) {
  HookScope scope({plugin_, Hook::kProcess}, 1);
  scope.MoveTo({plugin_, Hook::kRequestHeaders});
  EXPECT_STREQ(HookName(table_->ListRunning().at(0).place.hook), "callout_on_request_headers");
}

TEST_F(HookTableTest, NamesAreFoundAgain) {
  EXPECT_EQ(table_->FindOrAddPlugin("p"), plugin_);
  EXPECT_NE(table_->FindOrAddPlugin("q"), plugin_);
  EXPECT_EQ(table_->PluginName(0), "");
}

// To take one needs memory, and the thread may have crashed while it got some.
TEST_F(HookTableTest, AThreadThatWasInNoHookCrashesWithoutTakingASlot) {
  std::thread([&] {
    HookTable::NoteCrash();
    EXPECT_EQ(HookTable::OfThisThread(), nullptr);
    { const HookScope scope({plugin_, Hook::kClose}, 1); }
    EXPECT_NE(HookTable::OfThisThread(), nullptr);
  }).join();
}

TEST_F(HookTableTest, ThreadsThatEndGiveTheirSlotsBack) {
  for (size_t i = 0; i < 2 * HookTable::kThreadsMax; ++i) {
    std::thread([&] {
      const HookScope scope({plugin_, Hook::kClose}, 1);
      ASSERT_EQ(table_->ListRunning().size(), 1u);
    }).join();
  }
}

TEST_F(HookTableTest, IsReadByAnotherWhoSharesTheMemory) {
  const absl::StatusOr<OwnedFd> memory = HookTable::MakeFile();
  ASSERT_TRUE(memory.ok()) << memory.status();
  absl::StatusOr<HookTable*> written = HookTable::Share(memory->get());
  absl::StatusOr<HookTable*> read = HookTable::Share(memory->get());
  ASSERT_TRUE(written.ok() && read.ok());
  EXPECT_NE(*written, *read);
  EXPECT_EQ((*written)->FindOrAddPlugin("x"), 1u);
  EXPECT_EQ((*read)->PluginName(1), "x");
}

TEST_F(HookTableTest, NobodyChangesTheSizeOfTheFile) {
  const absl::StatusOr<OwnedFd> memory = HookTable::MakeFile();
  ASSERT_TRUE(memory.ok()) << memory.status();
  EXPECT_NE(ftruncate(memory->get(), 0), 0) << "whoever has mapped it would end by SIGBUS";
  EXPECT_NE(ftruncate(memory->get(), 1 << 30), 0);
}

TEST_F(HookTableTest, OnlyAThreadThatSaidSoMayWait) {
  bool before = true, after = false;
  std::thread([&] {
    before = HookTable::ThisThreadMayWait();
    HookTable::LetThisThreadWait();
    after = HookTable::ThisThreadMayWait();
  }).join();
  EXPECT_FALSE(before);
  EXPECT_TRUE(after);
  EXPECT_FALSE(HookTable::ThisThreadMayWait());
}

// Whatever a plugin's wild write has left there.
TEST_F(HookTableTest, ReadingEndsAndStaysInsideWhateverIsWritten) {
  const uint64_t seed = static_cast<uint64_t>(getpid());
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  const absl::StatusOr<OwnedFd> memory = HookTable::MakeFile();
  ASSERT_TRUE(memory.ok()) << memory.status();
  absl::StatusOr<HookTable*> table = HookTable::Share(memory->get());
  ASSERT_TRUE(table.ok());
  auto* const bytes = reinterpret_cast<unsigned char*>(*table);
  for (int round = 0; round < 20; ++round) {
    const bool same = round % 4 == 0;  // no end to the names either
    for (size_t i = 0; i < sizeof(HookTable); ++i) {
      bytes[i] = same ? 0x41 : static_cast<unsigned char>(random());
    }
    const std::vector<HookTable::Running> running = (*table)->ListRunning();
    EXPECT_LE(running.size(), HookTable::kThreadsMax);
    for (const HookTable::Running& one :
         FindHung(running, {.serving_ms = 1, .create_ms = 1}, UINT64_MAX)) {
      EXPECT_LE((*table)->PluginName(one.place.plugin).size(), HookTable::kNameBytesMax);
      EXPECT_FALSE(DescribeHung(**table, one, UINT64_MAX).empty());
    }
    (*table)->CrashPlace();
    (*table)->FindOrAddPlugin("p");
  }
  (*table)->Clear();
  EXPECT_TRUE((*table)->ListRunning().empty());
  EXPECT_EQ((*table)->FindOrAddPlugin("p"), 1u);
}

TEST_F(HookTableTest, KnowsNoHookByANumberBeyond) {
  EXPECT_STREQ(HookName(static_cast<Hook>(200)), "an unknown hook");
  EXPECT_FALSE(IsHook(static_cast<Hook>(200)));
  EXPECT_STREQ(HookName(Hook::kLoad), "its constructors, while it was loaded");
}

TEST(Watchdog, FindsOnlyHooksThatHoldAServingThreadTooLong) {
  const HookTable::Running young{{1, Hook::kClose, false}, 900'000'000, 1, 0};
  const HookTable::Running old{{2, Hook::kClose, false}, 100'000'000, 2, 0};
  const HookTable::Running waits{{3, Hook::kClose, true}, 100'000'000, 3, 0};
  const auto hung = FindHung({young, old, waits}, {.serving_ms = 500}, 1'000'000'000);
  ASSERT_EQ(hung.size(), 1u);
  EXPECT_EQ(hung[0].place.plugin, 2u);
}

TEST(Watchdog, FindsCreatesThatTakeTooLongOnlyIfTheyHaveALimit) {
  const HookTable::Running creates{{1, Hook::kCreate, true}, 100'000'000, 1, 0};
  const HookTable::Running loads{{2, Hook::kLoad, true}, 100'000'000, 2, 0};
  const HookTable::Running young{{3, Hook::kCreate, true}, 900'000'000, 3, 0};
  const HookTable::Running serves{{4, Hook::kClose, false}, 100'000'000, 4, 0};
  const std::vector<HookTable::Running> running = {creates, loads, young, serves};
  EXPECT_EQ(FindHung(running, {.create_ms = 500}, 1'000'000'000).size(), 2u);
  const auto hung = FindHung(running, {.serving_ms = 500}, 1'000'000'000);
  ASSERT_EQ(hung.size(), 1u);
  EXPECT_EQ(hung[0].place.plugin, 4u);
}

TEST(Watchdog, FindsDestroysThatTakeTooLongByALimitOfTheirOwn) {
  const HookTable::Running destroys{{1, Hook::kDestroy, true}, 100'000'000, 1, 0};
  const HookTable::Running young{{2, Hook::kDestroy, true}, 900'000'000, 2, 0};
  const auto hung = FindHung({destroys, young}, {.destroy_ms = 500}, 1'000'000'000);
  ASSERT_EQ(hung.size(), 1u);
  EXPECT_EQ(hung[0].place.plugin, 1u);
  EXPECT_TRUE(FindHung({destroys}, {.serving_ms = 1, .create_ms = 1}, 1'000'000'000).empty());
}

TEST(Watchdog, NamesPluginHookTimeAndStream) {
  HookTable* const table = HookTable::InUse();
  const HookPlace place{table->FindOrAddPlugin("10-auth"), Hook::kRequestHeaders};
  EXPECT_EQ(DescribeHung(*table, {place, 1'000'000, 1, 12}, 5'013'000'000),
            "plugin 10-auth has been in callout_on_request_headers for 5012 ms; stream 12");
  EXPECT_EQ(DescribeHung(*table, {place, 1'000'000, 1, 0}, 5'013'000'000),
            "plugin 10-auth has been in callout_on_request_headers for 5012 ms")
      << "a hook of no stream";
}

TEST(Watchdog, WithoutAThreadItIsAnError) {
  const FailThreadsForTest fail;
  const auto watchdog =
      Watchdog::Start({.serving_ms = 10}, HookTable::InUse(), [](const HookTable::Running&) {});
  EXPECT_EQ(watchdog.status().code(), absl::StatusCode::kUnavailable);
}

TEST(Watchdog, TellsOfAHangOnce) {
  HookTable* table = HookTable::InUse();
  Watched<int> told;
  const auto watchdog =
      Watchdog::Start({.serving_ms = 10}, table, [&](const HookTable::Running& hung) {
        EXPECT_EQ(table->PluginName(hung.place.plugin), "hangs");
        told.Update([](int& count) { ++count; });
      });
  ASSERT_TRUE(watchdog.ok()) << watchdog.status();
  const HookScope scope({table->FindOrAddPlugin("hangs"), Hook::kClose}, 1);
  EXPECT_TRUE(told.Await([](int count) { return count == 1; }));
}

TEST(CrashReport, NamesSignals) {
  EXPECT_STREQ(SignalName(SIGSEGV), "SIGSEGV");
  EXPECT_STREQ(SignalName(12345), "a signal");
}

}  // namespace
}  // namespace callout::host
