// SPDX-License-Identifier: Apache-2.0

// The host's log: lines on standard error, written by spdlog.
//
//   Log(LogLevel::kInfo, "listening {} {}", name, address);
//   LogLimited(LogLevel::kWarning, key, "plugin {}: …", name);   // once a minute
//
// Control characters, line breaks, characters that change the direction of text, and bytes that are
// not UTF-8 are written as \xNN, so that no text of a client or a plugin can forge a line. A line
// is cut at kLogLineBytesMax. Nothing is formatted if the level is off.
//
// Until StartAsyncLog the calling thread writes its lines. From then on a thread writes them from a
// queue, so that no caller waits for the log's reader. If the queue is full, lines are dropped and
// counted; a line says how many once there is room again.
//
// All functions may be called from any thread.
#ifndef CALLOUT_HOST_BASE_LOG_H_
#define CALLOUT_HOST_BASE_LOG_H_

#include <fmt/format.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"

namespace callout::host {

// In the order of the ABI's levels (callout_log_level_t).
enum class LogLevel : uint8_t { kDebug, kInfo, kWarning, kError };

// kText: "2026-11-24T19:10:28.123Z INFO message"
// kJson: {"time":"…","level":"info","message":"…"}, one object a line; lines about an exchange have
// further members (LogField)
enum class LogFormat : uint8_t { kText, kJson };

inline constexpr size_t kLogLineBytesMax = 16384;

// The defaults are kInfo and kText. The level may change at any time.
void SetLogLevel(LogLevel level);
LogLevel CurrentLogLevel();
void SetLogFormat(LogFormat format);

LogFormat CurrentLogFormat();  // safe in a signal handler

// "debug", "info", "warning", "error"; and back ("warn", too, and in any case of letters).
std::string_view LogLevelName(LogLevel level);
std::optional<LogLevel> ParseLogLevel(std::string_view name);

// Lines about one plugin, and its own, have the level `level` from now on; nullopt: that of all
// others again. False: there are kPluginLogLevelsMax already.
inline constexpr size_t kPluginLogLevelsMax = 64;
bool SetPluginLogLevel(const std::string& plugin, std::optional<LogLevel> level);
std::map<std::string, LogLevel> PluginLogLevels();

// Whether a line of this level is written. On a thread with a LogLevelScope the lower level counts.
bool LogEnabled(LogLevel level);
// The same for a line about `plugin`.
bool LogEnabled(LogLevel level, const std::string& plugin);

// While it lives, lines of this thread are written from `level` on, if that is below the level in
// force: for one exchange among many. Scopes nest.
class LogLevelScope {
 public:
  explicit LogLevelScope(LogLevel level);
  ~LogLevelScope();
  LogLevelScope(const LogLevelScope&) = delete;
  LogLevelScope& operator=(const LogLevelScope&) = delete;

 private:
  const LogLevel outer_;
};

// The default of --max_log_queue_bytes.
inline constexpr size_t kLogQueueBytesDefault = 1048576;

// From now on lines wait in a queue of at most `queue_bytes_max` bytes and 4096 lines. UNAVAILABLE
// if the thread cannot be started; lines are then written at once as before. Call it once, before
// there are other threads.
absl::Status StartAsyncLog(size_t queue_bytes_max);

// Waits until all lines so far are written, at most `timeout_ms`; for the end of the process. False
// if the time was too short. Safe in a signal handler.
bool FlushLog(uint64_t timeout_ms);
// How long the end of a process waits so.
inline constexpr uint64_t kLastLinesMs = 1000;

// Lines since the start that found the queue full or could not be written.
uint64_t LogLinesDropped();

// Writes `text`, whatever the current level is.
void LogText(LogLevel level, std::string_view text);
// What a line is about, for programs that read it: in JSON a member of this name, in text
// "(name value, …)" behind the text.
struct LogField {
  std::string_view name;
  std::string value;  // "": left out
  bool is_number = false;
  bool only_json = false;  // the text says it already
};
// As LogText, with fields; `tail` follows them in text, and the message in JSON.
void LogTextWith(LogLevel level, std::string_view text, const std::vector<LogField>& fields,
                 std::string_view tail = {});
// True if there was no line with this key within the last minute. `left_out` gets the number of
// calls since then that returned false. At most 4096 keys are remembered; with more, lines may be
// more frequent.
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

// `text` with \xNN in place of control characters (ASCII and C1), line and paragraph separators,
// characters that change the direction of text, and bytes that are not UTF-8.
std::string EscapeControls(std::string_view text);

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_LOG_H_
