// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/crash_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "host/base/log.h"
#include "host/plugin/hook_table.h"

namespace callout::host {
namespace {

struct End {
  int wait_status = -1;
  std::string text;  // on standard error
};

// Of a process that does `what`.
template <class What>
End EndOf(What what) {
  int pipe_fds[2];
  EXPECT_EQ(pipe(pipe_fds), 0);
  const pid_t child = fork();
  if (child == 0) {
    dup2(pipe_fds[1], STDERR_FILENO);
    ReportCrashes();
    what();
    _exit(0);
  }
  close(pipe_fds[1]);
  End end;
  std::array<char, 4096> buffer;
  for (ssize_t got; (got = read(pipe_fds[0], buffer.data(), buffer.size())) > 0;) {
    end.text.append(buffer.data(), static_cast<size_t>(got));
  }
  close(pipe_fds[0]);
  waitpid(child, &end.wait_status, 0);
  return end;
}

void CrashInAHook() {
  const HookScope scope({HookTable::InUse()->FindOrAddPlugin("auth"), Hook::kRequestHeaders}, 1);
  raise(SIGFPE);
}

TEST(CrashReport, NamesPluginAndHookAndLeavesTheSignalItsCourse) {
  const End end = EndOf(CrashInAHook);
  EXPECT_TRUE(WIFSIGNALED(end.wait_status) && WTERMSIG(end.wait_status) == SIGFPE);
  EXPECT_EQ(end.text, "callout-host: SIGFPE while plugin auth ran callout_on_request_headers\n");
}

TEST(CrashReport, IsALineOfTheLogInItsFormat) {
  const End end = EndOf([] {
    SetLogFormat(LogFormat::kJson);
    CrashInAHook();
  });
  const auto line = nlohmann::json::parse(end.text, nullptr, false);
  ASSERT_TRUE(line.is_object()) << end.text;
  EXPECT_EQ(line["level"], "error");
  EXPECT_EQ(line["message"], "SIGFPE while plugin auth ran callout_on_request_headers");
  EXPECT_THAT(line["time"].get<std::string>(),
              ::testing::MatchesRegex("20[0-9-]+T[0-9:]+\\.[0-9][0-9][0-9]Z"));
}

TEST(CrashReport, SaysWhichExceptionNobodyHasCaughtInLinesOfTheLog) {
  const End end = EndOf([] {
    SetLogFormat(LogFormat::kJson);
    std::thread([] { throw std::runtime_error("no \"luck\""); }).join();
  });
  EXPECT_TRUE(WIFSIGNALED(end.wait_status) && WTERMSIG(end.wait_status) == SIGABRT);
  std::vector<std::string> messages;
  std::istringstream lines(end.text);
  for (std::string line; std::getline(lines, line);) {
    const auto json = nlohmann::json::parse(line, nullptr, false);
    ASSERT_TRUE(json.is_object()) << end.text;
    EXPECT_EQ(json["level"], "error");
    messages.push_back(json["message"]);
  }
  EXPECT_THAT(messages,
              ::testing::ElementsAre("std::terminate was called: an exception that nobody has "
                                     "caught: no \"luck\"",
                                     ::testing::StartsWith("SIGABRT outside of every hook")));
}

TEST(CrashReport, ComesAfterWhatThePluginHasLogged) {
  const End end = EndOf([] {
    if (!StartAsyncLog(kLogQueueBytesDefault).ok()) _exit(1);
    for (int i = 0; i < 100; ++i) Log(LogLevel::kInfo, "word {}", i);
    CrashInAHook();
  });
  const size_t last_word = end.text.find("word 99\n");
  ASSERT_NE(last_word, std::string::npos) << end.text;
  EXPECT_GT(end.text.find("SIGFPE while"), last_word);
}

TEST(CrashReport, EndsAProcessThatSignalsDoNot) {
  // The first process of a namespace has no default action for signals.
  constexpr int kNoNamespace = 77;
  const End end = EndOf([] {
    if (unshare(CLONE_NEWPID) != 0) _exit(kNoNamespace);
    const pid_t first = fork();
    if (first == 0) {
      raise(SIGTRAP);
      _exit(0);
    }
    int status = 0;
    waitpid(first, &status, 0);
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
  });
  ASSERT_TRUE(WIFEXITED(end.wait_status)) << end.wait_status;
  if (WEXITSTATUS(end.wait_status) == kNoNamespace) {
    GTEST_SKIP() << "no namespace of processes may be made here";
  }
  EXPECT_EQ(WEXITSTATUS(end.wait_status), 128 + SIGTRAP);
}

TEST(CrashReport, EndsTheProcessThoughNobodyReadsTheLog) {
  const End end = EndOf([] {
    int stuck[2];
    if (pipe(stuck) != 0 || dup2(stuck[1], STDERR_FILENO) < 0) _exit(1);
    if (!StartAsyncLog(kLogQueueBytesDefault).ok()) _exit(1);
    for (int i = 0; i < 10'000; ++i) Log(LogLevel::kInfo, "word {}", i);
    CrashInAHook();
  });
  EXPECT_TRUE(WIFSIGNALED(end.wait_status) && WTERMSIG(end.wait_status) == SIGFPE);
}

}  // namespace
}  // namespace callout::host
