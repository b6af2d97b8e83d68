#include "host/plugin/hook_table.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <thread>

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
    const HookScope scope({plugin_, Hook::kClose}, 17);
    const auto running = table_->ListRunning();
    ASSERT_EQ(running.size(), 1u);
    EXPECT_STREQ(table_->PluginName(running[0].place.plugin), "p");
    EXPECT_STREQ(HookName(running[0].place.hook), "callout_on_stream_close");
    EXPECT_EQ(running[0].since_ns, 17u);
    EXPECT_EQ(running[0].thread, gettid());
  }
  EXPECT_TRUE(table_->ListRunning().empty());
}

TEST_F(HookTableTest, AnInnerHookGivesWayToTheOuterOne) {
  const HookScope outer({plugin_, Hook::kProcess}, 1);
  { const HookScope inner({plugin_, Hook::kClose}, 2); }
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
  EXPECT_STREQ(table_->PluginName(0), "");
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
  const Descriptor memory(memfd_create("hooks", MFD_CLOEXEC));
  absl::StatusOr<HookTable*> written = HookTable::Share(memory.get());
  absl::StatusOr<HookTable*> read = HookTable::Share(memory.get());
  ASSERT_TRUE(written.ok() && read.ok());
  EXPECT_NE(*written, *read);
  EXPECT_EQ((*written)->FindOrAddPlugin("x"), 1u);
  EXPECT_STREQ((*read)->PluginName(1), "x");
}

TEST_F(HookTableTest, KnowsNoHookByANumberBeyond) {
  EXPECT_EQ(HookName(static_cast<Hook>(200)), nullptr);
  EXPECT_STREQ(HookName(Hook::kLoad), "its constructors, while it was loaded");
}

TEST(Watchdog, FindsOnlyHooksThatHoldAServingThreadTooLong) {
  const HookTable::Running young{{1, Hook::kClose, false}, 900'000'000, 1};
  const HookTable::Running old{{2, Hook::kClose, false}, 100'000'000, 2};
  const HookTable::Running waits{{3, Hook::kClose, true}, 100'000'000, 3};
  const auto hung = FindHung({young, old, waits}, 500, 1'000'000'000);
  ASSERT_EQ(hung.size(), 1u);
  EXPECT_EQ(hung[0].place.plugin, 2u);
}

TEST(Watchdog, TellsOfAHangOnce) {
  HookTable* table = HookTable::InUse();
  Watched<int> told;
  const Watchdog watchdog(10, table, [&](const HookTable::Running& hung) {
    EXPECT_STREQ(table->PluginName(hung.place.plugin), "hangs");
    told.Update([](int& count) { ++count; });
  });
  const HookScope scope({table->FindOrAddPlugin("hangs"), Hook::kClose}, 1);
  EXPECT_TRUE(told.Await([](int count) { return count == 1; }));
}

TEST(CrashReport, NamesSignals) {
  EXPECT_STREQ(SignalName(SIGSEGV), "SIGSEGV");
  EXPECT_STREQ(SignalName(12345), "a signal");
}

}  // namespace
}  // namespace callout::host
