// The host's log: lines on standard error, written by spdlog.
//
//   Log(LogLevel::kInfo, "listening {} {}", name, address);
//   LogLimited(LogLevel::kWarning, key, "plugin {}: …", name);   // once a minute
//
// A line holds no control character and no line break: they are written as
// \xNN, so that what a client or a plugin says cannot forge a line. It is cut at
// kLogLineBytesMax. Formatting happens only when the level is on.
//
// All functions may be called from any thread; they write under a lock.
#ifndef CALLOUT_HOST_BASE_LOG_H_
#define CALLOUT_HOST_BASE_LOG_H_

#include <fmt/format.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

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

bool LogEnabled(LogLevel level);

// Writes `text` whatever its level.
void LogText(LogLevel level, std::string_view text);
// True if a line of this key is due: none was within the last minute. At most
// 4096 keys are remembered; with more, lines may come more often.
bool LogIsDue(std::string_view key,
              std::chrono::steady_clock::time_point now = std::chrono::steady_clock::now());

template <class... Args>
void Log(LogLevel level, fmt::format_string<Args...> format, Args&&... args) {
  if (LogEnabled(level)) LogText(level, fmt::format(format, std::forward<Args>(args)...));
}

template <class... Args>
void LogLimited(LogLevel level, std::string_view key, fmt::format_string<Args...> format,
                Args&&... args) {
  if (LogEnabled(level) && LogIsDue(key)) {
    LogText(level, fmt::format(format, std::forward<Args>(args)...));
  }
}

// How many lines of kWarning and kError the process has written since its start.
uint64_t CountWarnings();

// `text` with control characters (ASCII and C1, which terminals obey too) as \xNN.
std::string EscapeControls(std::string_view text);

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_LOG_H_
