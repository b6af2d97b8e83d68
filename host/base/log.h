// SPDX-License-Identifier: Apache-2.0

// The host's log: lines on standard error, written by spdlog.
//
//   Log(LogLevel::kInfo, "listening {} {}", name, address);
//   LogLimited(LogLevel::kWarning, key, "plugin {}: …", name);   // once a minute
//
// A line holds no control character, no line break, nothing that turns the direction
// of text and no byte that is not UTF-8: they are written as \xNN, so that what a
// client or a plugin says cannot forge a line. It is cut at kLogLineBytesMax.
// Formatting happens only when the level is on.
//
// Lines are written at once until StartAsyncLog; from then on a thread writes them, so
// that whoever logs never waits for the log's reader. What finds no room in the queue
// is dropped and counted, and a line says so once there is room again.
//
// All functions may be called from any thread.
#ifndef CALLOUT_HOST_BASE_LOG_H_
#define CALLOUT_HOST_BASE_LOG_H_

#include <fmt/format.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"

namespace callout::host {

// In the order of the ABI's levels (callout_log_level_t).
enum class LogLevel : uint8_t { kDebug, kInfo, kWarning, kError };

// kText: "2026-11-24T19:10:28.123Z INFO message"
// kJson: {"time":"…","level":"info","message":"…"}, one object a line
enum class LogFormat : uint8_t { kText, kJson };

inline constexpr size_t kLogLineBytesMax = 16384;

// The first is kInfo and kText.
void SetLogLevel(LogLevel level);
void SetLogFormat(LogFormat format);

LogFormat CurrentLogFormat();  // also in a signal's handler

bool LogEnabled(LogLevel level);

// The default of --max_log_queue_bytes.
inline constexpr size_t kLogQueueBytesDefault = 1048576;

// From here on lines wait in a queue of so many bytes, and of at most 4096 lines.
// UNAVAILABLE if no thread can be made for it; lines are then written at once as
// before. Once, before there are other threads.
absl::Status StartAsyncLog(size_t queue_bytes_max);

// Waits until what was logged before is written, or for `timeout_ms`: before the
// process ends. Safe in a signal's handler. False if the time was not enough.
bool FlushLog(uint64_t timeout_ms);

// Lines that found no room in the queue or could not be written, since the start.
uint64_t LogLinesDropped();

// Writes `text` whatever its level.
void LogText(LogLevel level, std::string_view text);
// True if a line of this key is due: none was within the last minute. `left_out` gets
// how many were not due since the last one that was. At most 4096 keys are remembered;
// with more, lines may come more often.
bool LogIsDue(std::string_view key,
              std::chrono::steady_clock::time_point now = std::chrono::steady_clock::now(),
              uint64_t* left_out = nullptr);
// " (and 12 like it since the last such line)"; "" for none.
std::string LeftOutText(uint64_t left_out);

template <class... Args>
void Log(LogLevel level, fmt::format_string<Args...> format, Args&&... args) {
  if (LogEnabled(level)) LogText(level, fmt::format(format, std::forward<Args>(args)...));
}

template <class... Args>
void LogLimited(LogLevel level, std::string_view key, fmt::format_string<Args...> format,
                Args&&... args) {
  uint64_t left_out = 0;
  if (LogEnabled(level) && LogIsDue(key, std::chrono::steady_clock::now(), &left_out)) {
    LogText(level, fmt::format(format, std::forward<Args>(args)...) + LeftOutText(left_out));
  }
}

// How many lines of kWarning and kError the process has written since its start.
uint64_t CountWarnings();

// `text` with control characters (ASCII and C1, which terminals obey too), line and
// paragraph separators, characters that turn the direction of text, and bytes that are
// not UTF-8 as \xNN.
std::string EscapeControls(std::string_view text);

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_LOG_H_
