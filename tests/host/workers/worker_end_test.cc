// SPDX-License-Identifier: Apache-2.0

#include "host/workers/worker_end.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <thread>

#include "host/plugin/crash_report.h"
#include "sockets.h"

namespace callout::host {
namespace {

class WorkerEndTest : public ::testing::Test {
 protected:
  WorkerEndTest() {
    absl::StatusOr<OwnedFd> memory = HookTable::MakeFile();
    if (!memory.ok()) return;
    memory_ = *std::move(memory);
    absl::StatusOr<HookTable*> table = HookTable::Share(memory_.get());
    if (table.ok()) table_ = *table;
  }

  // How a process ends that shares the table and does `what`.
  WorkerEnd EndOf(const std::function<void()>& what) {
    const pid_t child = fork();
    if (child == 0) {
      HookTable::Use(table_);
      ReportCrashes();
      std::thread(what).join();  // this thread may have a slot in another table
      _exit(0);
    }
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    return DescribeWorkerEnd(status, *table_, std::nullopt, "");
  }

  HookPlace In(const char* plugin, Hook hook) const {
    return {table_->FindOrAddPlugin(plugin), hook};
  }

  OwnedFd memory_;
  HookTable* table_ = nullptr;
};

TEST_F(WorkerEndTest, ASignalIsOfTheHookOnItsThread) {
  const WorkerEnd end = EndOf([this] {
    const HookScope scope(In("p", Hook::kRequestHeaders), 1);
    std::thread([this] {
      const HookScope other(In("q", Hook::kClose), 1);
      raise(SIGFPE);
    }).join();
  });
  EXPECT_EQ(end.plugin, "q");
  EXPECT_EQ(end.hook, Hook::kClose);
  EXPECT_EQ(end.text, "SIGFPE (8) while plugin q ran callout_on_stream_close");
}

TEST_F(WorkerEndTest, ASignalOutsideOfEveryHookIsNobodys) {
  const WorkerEnd end = EndOf([this] {
    const HookScope scope(In("p", Hook::kRequestHeaders), 1);
    std::thread([] { raise(SIGABRT); }).join();
  });
  EXPECT_EQ(end.plugin, "");
  EXPECT_EQ(end.text,
            "SIGABRT (6) outside of every hook: on a thread of a plugin's own, or in the host");
}

TEST_F(WorkerEndTest, AnExitWithoutWordsIsOfTheOnlyPluginThatRan) {
  const WorkerEnd end = EndOf([this] {
    const HookScope scope(In("p", Hook::kCreate), 1);
    _exit(3);
  });
  EXPECT_EQ(end.plugin, "p");
  EXPECT_EQ(end.text, "exit status 3 while plugin p ran callout_plugin_create");
}

TEST_F(WorkerEndTest, AnExitWhileSeveralRanIsNobodys) {
  const WorkerEnd end = EndOf([this] {
    const HookScope scope(In("p", Hook::kCreate), 1);
    std::thread([this] {
      const HookScope other(In("q", Hook::kClose), 1);
      _exit(3);
    }).join();
  });
  EXPECT_EQ(end.plugin, "");
  EXPECT_EQ(end.text,
            "exit status 3 while plugin p ran callout_plugin_create, and plugin q "
            "callout_on_stream_close");
}

TEST_F(WorkerEndTest, AWorkerThatCannotGoOnIsNoPluginsDoing) {
  const WorkerEnd end = EndOf([this] {
    const HookScope scope(In("p", Hook::kRequestHeaders), 1);
    std::thread([] {
      HookTable::NoteOwnEnd();
      _exit(2);
    }).join();
  });
  EXPECT_EQ(end.plugin, "");
  EXPECT_TRUE(end.by_itself);
  EXPECT_FALSE(end.from_outside);
  EXPECT_EQ(end.text, "exit status 2: the worker could not go on; its last log lines say why");
  EXPECT_EQ(table_->CrashPlace()->plugin, 0u);
}

TEST_F(WorkerEndTest, ACrashStaysThePluginsThoughTheWorkerWouldHaveEndedItself) {
  const WorkerEnd end = EndOf([this] {
    const HookScope scope(In("p", Hook::kRequestHeaders), 1);
    HookTable::NoteCrash();
    HookTable::NoteOwnEnd();
    _exit(2);
  });
  EXPECT_EQ(end.plugin, "p");
  EXPECT_FALSE(end.by_itself);
}

TEST_F(WorkerEndTest, AKillFromOutsideIsNoPluginsDoing) {
  const WorkerEnd end = EndOf([this] {
    const HookScope scope(In("p", Hook::kRequestHeaders), 1);
    raise(SIGKILL);
  });
  EXPECT_EQ(end.plugin, "");
  EXPECT_EQ(end.text, "SIGKILL (9) from outside");
}

TEST_F(WorkerEndTest, AHangIsOfTheHookThatHung) {
  const HookTable::Running hung{In("p", Hook::kRequestHeaders), 1, 2};
  const WorkerEnd end =
      DescribeWorkerEnd(SIGKILL, *table_, hung, "plugin p has been in x for 1 ms");
  EXPECT_EQ(end.plugin, "p");
  EXPECT_TRUE(end.hung);
  EXPECT_EQ(end.text, "plugin p has been in x for 1 ms");
}

TEST_F(WorkerEndTest, AClearedTableTellsNothingOfTheLastProcess) {
  EndOf([this] {
    const HookScope scope(In("p", Hook::kRequestHeaders), 1);
    raise(SIGFPE);
  });
  table_->Clear();
  EXPECT_FALSE(table_->CrashPlace().has_value());
  EXPECT_TRUE(table_->ListRunning().empty());
  EXPECT_EQ(EndOf([] { _exit(1); }).text, "exit status 1 outside of every hook");
}

}  // namespace
}  // namespace callout::host
