// SPDX-License-Identifier: Apache-2.0

#include "host/base/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <nlohmann/json.hpp>
#include <regex>
#include <string>
#include <thread>
#include <vector>

namespace callout::host {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

// Whatever a test sets is as it was afterwards.
class LogTest : public ::testing::Test {
 protected:
  void TearDown() override {
    SetLogLevel(LogLevel::kInfo);
    SetLogFormat(LogFormat::kText);
  }

  template <class Write>
  static std::string Written(Write write) {
    ::testing::internal::CaptureStderr();
    write();
    return ::testing::internal::GetCapturedStderr();
  }
};

constexpr char kTime[] =
    "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9][0-9]:[0-9][0-9]:[0-9][0-9]\\.[0-9][0-9][0-9]"
    "Z";

TEST_F(LogTest, ATextLineHasTimeLevelAndMessage) {
  EXPECT_THAT(Written([] { Log(LogLevel::kInfo, "listening {} {}", "secure", 8443); }),
              MatchesRegex(std::string(kTime) + " INFO listening secure 8443\n"));
  EXPECT_THAT(Written([] { Log(LogLevel::kWarning, "careful"); }), HasSubstr(" WARNING careful\n"));
  EXPECT_THAT(Written([] { Log(LogLevel::kError, "{}% {{}}", 100); }),
              HasSubstr(" ERROR 100% {}\n"));
}

TEST_F(LogTest, LinesBelowTheLevelAreNotWritten) {
  const LogLevel levels[] = {LogLevel::kDebug, LogLevel::kInfo, LogLevel::kWarning,
                             LogLevel::kError};
  for (const LogLevel least : levels) {
    SetLogLevel(least);
    for (const LogLevel level : levels) {
      const bool written = !Written([&] { Log(level, "x"); }).empty();
      EXPECT_EQ(written, level >= least);
      EXPECT_EQ(LogEnabled(level), level >= least);
    }
  }
}

TEST_F(LogTest, AJsonLineIsOneObject) {
  SetLogFormat(LogFormat::kJson);
  const std::string line =
      Written([] { Log(LogLevel::kWarning, "say \"hi\" to {}\\ and \xc3\xa9", "{}%v"); });
  ASSERT_TRUE(line.ends_with("\n"));
  const auto object = nlohmann::json::parse(line, nullptr, false);
  ASSERT_TRUE(object.is_object()) << line;
  EXPECT_EQ(object.size(), 3U);
  EXPECT_EQ(object["level"], "warning");
  EXPECT_EQ(object["message"], "say \"hi\" to {}%v\\ and \xc3\xa9");
  EXPECT_THAT(object["time"].get<std::string>(), MatchesRegex(kTime));
}

TEST_F(LogTest, JsonStaysJsonWhateverTheBytes) {
  SetLogFormat(LogFormat::kJson);
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
  const std::string line = Written([&] { LogText(LogLevel::kInfo, all); });
  EXPECT_TRUE(nlohmann::json::accept(line)) << line;
  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
}

TEST_F(LogTest, NobodyForgesALine) {
  const std::string line = Written([] {
    Log(LogLevel::kInfo, "path {}", "/\r\n2026-01-01T00:00:00.000Z ERROR all is lost\x1b[31m\x7f");
  });
  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
  EXPECT_THAT(line, HasSubstr("path /\\x0d\\x0a2026-01-01T00:00:00.000Z ERROR all is "
                              "lost\\x1b[31m\\x7f\n"));
}

TEST_F(LogTest, ControlsAreEscapedAndNothingElse) {
  EXPECT_EQ(EscapeControls(std::string("\0\x01\t\x1f\x7f", 5)), "\\x00\\x01\\x09\\x1f\\x7f");
  EXPECT_EQ(EscapeControls("plain ~ \xc3\xa9 \xe2\x82\xac \xff"),
            "plain ~ \xc3\xa9 \xe2\x82\xac \\xff")
      << "no byte of a terminal's other encodings either";
  EXPECT_EQ(EscapeControls("\xc2\x9b"
                           "31m"),
            "\\xc2\\x9b31m")
      << "C1: what ESC [ is, in one";
  EXPECT_EQ(EscapeControls("\xc2\xa0\xc2"), "\xc2\xa0\\xc2");
  EXPECT_EQ(EscapeControls(""), "");
}

TEST_F(LogTest, WhatTurnsTextOrBreaksLinesIsEscaped) {
  const char* const obeyed[] = {"\xd8\x9c",     "\xe2\x80\x8e", "\xe2\x80\x8f", "\xe2\x80\xa8",
                                "\xe2\x80\xa9", "\xe2\x80\xaa", "\xe2\x80\xae", "\xe2\x81\xa6",
                                "\xe2\x81\xa9", "\x9b",         "\xc2\x85"};
  for (const char* text : obeyed) {
    const std::string escaped = EscapeControls(text);
    EXPECT_TRUE(escaped.starts_with("\\x")) << escaped;
    EXPECT_TRUE(std::all_of(escaped.begin(), escaped.end(), [](char c) { return c > 0; }));
  }
  EXPECT_EQ(EscapeControls("\xe2\x80\xa7\xe2\x80\xaf"), "\xe2\x80\xa7\xe2\x80\xaf");
}

TEST_F(LogTest, ALineSaysHowManyWereLeftOutSinceTheLast) {
  const auto start = std::chrono::steady_clock::now();
  uint64_t left_out = 7;
  EXPECT_TRUE(LogIsDue("left_out/a", start, &left_out));
  EXPECT_EQ(left_out, 0U);
  EXPECT_EQ(LeftOutText(0), "");
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(LogIsDue("left_out/a", start));
  EXPECT_TRUE(LogIsDue("left_out/a", start + std::chrono::minutes(2), &left_out));
  EXPECT_EQ(left_out, 3U);
  EXPECT_EQ(LeftOutText(3), " (and 3 like it since the last such line)");
  EXPECT_TRUE(LogIsDue("left_out/a", start + std::chrono::minutes(4), &left_out));
  EXPECT_EQ(left_out, 0U);
}

// In a process of its own, whose standard error is the pipe's end. Exits with 0 if
// `run` returns true.
template <class Run>
int ExitStatusWithStderr(int fd, Run run) {
  const pid_t child = fork();
  if (child == 0) {
    dup2(fd, STDERR_FILENO);
    _exit(run() ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  return status;
}

TEST_F(LogTest, WhoLogsNeverWaitsForAReaderThatHasStopped) {
  int pipe_fds[2];
  ASSERT_EQ(pipe(pipe_fds), 0);
  const int status = ExitStatusWithStderr(pipe_fds[1], [] {
    if (!StartAsyncLog(100'000).ok()) return false;
    // Far more than the pipe and the queue hold together; it would wait for ever.
    for (int i = 0; i < 20'000; ++i) Log(LogLevel::kInfo, "line {} {}", i, std::string(100, 'x'));
    return LogLinesDropped() > 10'000 && !FlushLog(10);
  });
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  close(pipe_fds[0]);
  close(pipe_fds[1]);
}

TEST_F(LogTest, ALineSaysThatLinesWereDroppedOnceTheReaderIsBack) {
  int pipe_fds[2];
  ASSERT_EQ(pipe(pipe_fds), 0);
  int counted[2];
  ASSERT_EQ(pipe(counted), 0);
  const pid_t child = fork();
  if (child == 0) {
    dup2(pipe_fds[1], STDERR_FILENO);
    if (!StartAsyncLog(100'000).ok()) _exit(1);
    for (int i = 0; i < 20'000; ++i) Log(LogLevel::kInfo, "line {} {}", i, std::string(100, 'x'));
    const uint64_t dropped = LogLinesDropped();
    if (write(counted[1], &dropped, sizeof(dropped)) != sizeof(dropped)) _exit(1);
    _exit(FlushLog(60'000) ? 0 : 1);
  }
  close(pipe_fds[1]);
  uint64_t dropped = 0;
  ASSERT_EQ(read(counted[0], &dropped, sizeof(dropped)), static_cast<ssize_t>(sizeof(dropped)));
  std::string all;
  std::array<char, 65536> buffer;
  for (ssize_t got; (got = read(pipe_fds[0], buffer.data(), buffer.size())) > 0;) {
    all.append(buffer.data(), static_cast<size_t>(got));
  }
  int status = -1;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  const auto lines = std::count(all.begin(), all.end(), '\n');
  // Each time there was room again.
  const std::regex notice(" WARNING ([0-9]+) log lines? (was|were) dropped here");
  uint64_t told = 0;
  uint64_t notices = 0;
  for (std::sregex_iterator it(all.begin(), all.end(), notice), end; it != end; ++it, ++notices) {
    told += std::stoull((*it)[1]);
  }
  EXPECT_EQ(told, dropped);
  EXPECT_EQ(static_cast<uint64_t>(lines) - notices + dropped, 20'000U);
}

TEST_F(LogTest, AFullDiskIsCountedAndEndsNothing) {
  const int full = open("/dev/full", O_WRONLY);
  ASSERT_GE(full, 0);
  const int status = ExitStatusWithStderr(full, [] {
    if (!StartAsyncLog(100'000).ok()) return false;
    for (int i = 0; i < 10; ++i) Log(LogLevel::kInfo, "line {}", i);
    return FlushLog(60'000) && LogLinesDropped() >= 10;
  });
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  close(full);
}

TEST_F(LogTest, LongLinesAreCut) {
  const std::string line =
      Written([] { LogText(LogLevel::kInfo, std::string(kLogLineBytesMax + 1000, 'a')); });
  EXPECT_EQ(std::count(line.begin(), line.end(), 'a'), static_cast<ptrdiff_t>(kLogLineBytesMax));
}

TEST_F(LogTest, AKeyIsDueOnceAMinute) {
  const auto start = std::chrono::steady_clock::now();
  const auto due = [&](const char* key, std::chrono::seconds after) {
    return LogIsDue(key, start + after);
  };
  using std::chrono::seconds;
  EXPECT_TRUE(due("minute/a", seconds(0)));
  EXPECT_FALSE(due("minute/a", seconds(0)));
  EXPECT_TRUE(due("minute/b", seconds(1)));
  EXPECT_FALSE(due("minute/a", seconds(59)));
  EXPECT_TRUE(due("minute/a", seconds(60)));
  EXPECT_FALSE(due("minute/a", seconds(119)));
  EXPECT_TRUE(due("minute/a", seconds(120)));
}

TEST_F(LogTest, LimitedLinesComeOnceAndOnlyIfTheirLevelIsOn) {
  const auto write = [](LogLevel level) { LogLimited(level, "limited/key", "again {}", 1); };
  SetLogLevel(LogLevel::kError);
  EXPECT_EQ(Written([&] { write(LogLevel::kWarning); }), "");
  SetLogLevel(LogLevel::kInfo);
  EXPECT_THAT(Written([&] { write(LogLevel::kWarning); }), HasSubstr("again 1\n"))
      << "a line that was not written does not use up the minute";
  EXPECT_EQ(Written([&] { write(LogLevel::kWarning); }), "");
}

TEST_F(LogTest, ManyKeysDoNotGrowWithoutEnd) {
  for (int i = 0; i < 20000; ++i) EXPECT_TRUE(LogIsDue("many/" + std::to_string(i)));
}

TEST_F(LogTest, LinesOfManyThreadsStayWhole) {
  const std::string text = Written([] {
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; ++i) {
      threads.emplace_back([] {
        for (int line = 0; line < 200; ++line) Log(LogLevel::kInfo, "{}", std::string(300, 'w'));
      });
    }
    for (std::thread& thread : threads) thread.join();
  });
  std::istringstream lines(text);
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    ASSERT_THAT(line, ::testing::EndsWith(" INFO " + std::string(300, 'w')));
  }
  EXPECT_EQ(count, 1600);
}

}  // namespace
}  // namespace callout::host
