// SPDX-License-Identifier: Apache-2.0

#include "host/base/log.h"

#include <pthread.h>
#include <spdlog/async_logger.h>
#include <spdlog/details/thread_pool.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <iterator>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "host/base/ascii.h"
#include "host/base/log_sink.h"
#include "host/base/utf8.h"

namespace callout::host {

namespace {

constexpr size_t kKeysMax = 4096;
constexpr std::chrono::minutes kQuietTime(1);

std::atomic<uint64_t> g_warnings{0};
std::atomic<LogLevel> g_level{LogLevel::kInfo};
// Whether any plugin has a level of its own.
std::atomic<bool> g_has_plugin_levels{false};
constexpr LogLevel kNoScope = static_cast<LogLevel>(0xff);
constinit thread_local LogLevel t_scope_level = kNoScope;

struct PluginLevels {
  std::mutex mutex;  // guards the following
  std::map<std::string, LogLevel> levels;
};
PluginLevels& LevelsOfPlugins() {
  static auto* const levels = new PluginLevels;
  return *levels;
}

std::atomic<LogFormat> g_format{LogFormat::kText};

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      break;
  }
  return spdlog::level::err;
}

std::unique_ptr<spdlog::formatter> MakeFormatter(LogFormat format) {
  // %^ and %$ would colour; a log is read by programs as well.
  const char* pattern = format == LogFormat::kJson ? R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ",%v})"
                                                   : "%Y-%m-%dT%H:%M:%S.%eZ %v";
  return std::make_unique<spdlog::pattern_formatter>(pattern, spdlog::pattern_time_type::utc);
}

std::string JsonString(std::string_view text) {
  return nlohmann::json(EscapeControls(text))
      .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string JsonMembers(const std::vector<LogField>& fields) {
  std::string members;
  for (const LogField& field : fields) {
    if (field.value.empty()) continue;
    members += fmt::format(R"(,"{}":{})", field.name,
                           field.is_number ? field.value : JsonString(field.value));
  }
  return members;
}

std::string TextFields(const std::vector<LogField>& fields) {
  std::string text;
  for (const LogField& field : fields) {
    if (field.value.empty() || field.only_json) continue;
    text += fmt::format("{}{} {}", text.empty() ? " (" : ", ", field.name, field.value);
  }
  return text.empty() ? text : text + ")";
}

// The part of a line after the time, in the current format.
std::string LineText(LogLevel level, std::string_view text,
                     const std::vector<LogField>& fields = {}, std::string_view tail = {}) {
  if (CurrentLogFormat() == LogFormat::kJson) {
    return fmt::format(R"("level":"{}","message":{}{})", LogLevelName(level),
                       JsonString(std::string(text).append(tail)), JsonMembers(fields));
  }
  std::string name(LogLevelName(level));
  for (char& c : name) c = static_cast<char>(c - 32);
  const std::string about = TextFields(fields).append(tail);
  return fmt::format("{} {}{}", name, EscapeControls(text), EscapeControls(about));
}

std::string DropNotice(uint64_t dropped) {
  return LineText(LogLevel::kWarning,
                  fmt::format("{} log line{} dropped here: the log was not written as fast as it "
                              "was filled (--max_log_queue_bytes, "
                              "callout_log_dropped_lines_total)",
                              dropped, dropped == 1 ? " was" : "s were"));
}

void SetUp(spdlog::logger* logger) {
  logger->set_level(spdlog::level::trace);
  logger->set_formatter(MakeFormatter(CurrentLogFormat()));
}

// The log that writes at once. Never deleted, like the other one: a plugin's thread may log while
// the process exits.
struct SyncLog {
  std::shared_ptr<LogSink> sink = std::make_shared<LogSink>(DropNotice);
  spdlog::logger logger{"callout", sink};
  SyncLog() { SetUp(&logger); }
};

SyncLog& Sync() {
  static auto* const log = new SyncLog;
  return *log;
}

// The log with a queue.
struct AsyncLog {
  explicit AsyncLog(size_t bytes_max)
      : queue_bytes_max(bytes_max),
        // One more than LogSink ever admits, so that no line is overwritten.
        pool(std::make_shared<spdlog::details::thread_pool>(LogSink::kQueueLinesMax + 1, 1)),
        logger(std::make_shared<spdlog::async_logger>(
            "callout", sink, pool, spdlog::async_overflow_policy::overrun_oldest)) {
    SetUp(logger.get());
  }

  const size_t queue_bytes_max;
  const std::shared_ptr<LogSink> sink = std::make_shared<LogSink>(DropNotice);
  const std::shared_ptr<spdlog::details::thread_pool> pool;
  const std::shared_ptr<spdlog::async_logger> logger;
};

// Null while lines are written at once.
std::atomic<AsyncLog*> g_async{nullptr};
static_assert(std::atomic<AsyncLog*>::is_always_lock_free);

class DueTimes {
 public:
  bool Take(std::string_view key, std::chrono::steady_clock::time_point now, uint64_t* left_out) {
    std::lock_guard lock(mutex_);
    if (last_.size() >= kKeysMax) last_.clear();
    const auto [it, is_new] = last_.try_emplace(std::string(key), Last{now, 0});
    Last& last = it->second;
    if (!is_new && now - last.time < kQuietTime) {
      ++last.left_out;
      return false;
    }
    last.time = now;
    const uint64_t count = std::exchange(last.left_out, 0);
    if (left_out != nullptr) *left_out = count;
    return true;
  }

 private:
  struct Last {
    std::chrono::steady_clock::time_point time;
    uint64_t left_out = 0;  // since then
  };

  std::mutex mutex_;
  std::unordered_map<std::string, Last> last_;
};

}  // namespace

void SetLogLevel(LogLevel level) { g_level.store(level, std::memory_order_relaxed); }

void SetLogFormat(LogFormat format) {
  AsyncLog* const async = g_async.load(std::memory_order_acquire);
  // Queued lines were made for the previous format.
  if (async != nullptr) async->sink->WaitUntilWritten(1000);
  g_format.store(format, std::memory_order_relaxed);
  Sync().logger.set_formatter(MakeFormatter(format));
  if (async != nullptr) async->logger->set_formatter(MakeFormatter(format));
}

LogLevel CurrentLogLevel() { return g_level.load(std::memory_order_relaxed); }

std::string_view LogLevelName(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarning:
      return "warning";
    case LogLevel::kError:
      break;
  }
  return "error";
}

std::optional<LogLevel> ParseLogLevel(std::string_view name) {
  if (EqualsIgnoreCase(name, "warn")) return LogLevel::kWarning;
  for (const LogLevel level :
       {LogLevel::kDebug, LogLevel::kInfo, LogLevel::kWarning, LogLevel::kError}) {
    if (EqualsIgnoreCase(name, LogLevelName(level))) return level;
  }
  return std::nullopt;
}

bool SetPluginLogLevel(const std::string& plugin, std::optional<LogLevel> level) {
  PluginLevels& of = LevelsOfPlugins();
  const std::lock_guard<std::mutex> lock(of.mutex);
  if (!level.has_value()) {
    of.levels.erase(plugin);
  } else if (of.levels.size() < kPluginLogLevelsMax || of.levels.contains(plugin)) {
    of.levels[plugin] = *level;
  } else {
    return false;
  }
  g_has_plugin_levels.store(!of.levels.empty(), std::memory_order_relaxed);
  return true;
}

std::map<std::string, LogLevel> PluginLogLevels() {
  PluginLevels& of = LevelsOfPlugins();
  const std::lock_guard<std::mutex> lock(of.mutex);
  return of.levels;
}

LogLevelScope::LogLevelScope(LogLevel level) : outer_(t_scope_level) {
  t_scope_level = std::min(outer_, level);
}
LogLevelScope::~LogLevelScope() { t_scope_level = outer_; }

LogFormat CurrentLogFormat() { return g_format.load(std::memory_order_relaxed); }

bool LogEnabled(LogLevel level) {
  return level >= g_level.load(std::memory_order_relaxed) || level >= t_scope_level;
}

bool LogEnabled(LogLevel level, const std::string& plugin) {
  if (!g_has_plugin_levels.load(std::memory_order_relaxed) || level >= t_scope_level) {
    return LogEnabled(level);
  }
  PluginLevels& of = LevelsOfPlugins();
  const std::lock_guard<std::mutex> lock(of.mutex);
  const auto own = of.levels.find(plugin);
  return own == of.levels.end() ? LogEnabled(level) : level >= own->second;
}

uint64_t CountWarnings() { return g_warnings.load(std::memory_order_relaxed); }

absl::Status StartAsyncLog(size_t queue_bytes_max) {
  try {
    g_async.store(new AsyncLog(queue_bytes_max), std::memory_order_release);
  } catch (const std::exception& error) {  // from std::thread, passed on by spdlog
    return absl::UnavailableError(
        fmt::format("cannot start a thread for the log: {}; lines are written by the threads that "
                    "log",
                    error.what()));
  }
  // If a plugin forks, the child does not have the thread.
  pthread_atfork(nullptr, nullptr, [] { g_async.store(nullptr, std::memory_order_release); });
  return absl::OkStatus();
}

bool FlushLog(uint64_t timeout_ms) {
  AsyncLog* const async = g_async.load(std::memory_order_acquire);
  return async == nullptr || async->sink->WaitUntilWritten(timeout_ms);
}

uint64_t LogLinesDropped() {
  AsyncLog* const async = g_async.load(std::memory_order_acquire);
  return Sync().sink->dropped() + (async == nullptr ? 0 : async->sink->dropped());
}

void LogText(LogLevel level, std::string_view text) { LogTextWith(level, text, {}); }

void LogTextWith(LogLevel level, std::string_view text, const std::vector<LogField>& fields,
                 std::string_view tail) {
  const std::string line = LineText(level, text.substr(0, kLogLineBytesMax), fields, tail);
  AsyncLog* const async = g_async.load(std::memory_order_acquire);
  if (async == nullptr) return Sync().logger.log(ToSpdlog(level), line);
  if (async->sink->Admit(line.size(), async->queue_bytes_max)) {
    async->logger->log(ToSpdlog(level), line);
  }
}

bool LogIsDue(std::string_view key, std::chrono::steady_clock::time_point now, uint64_t* left_out) {
  static auto* const times = new DueTimes;
  return times->Take(key, now, left_out);
}

std::string LeftOutText(uint64_t left_out) {
  return left_out == 0 ? "" : fmt::format(" (and {} like it since the last such line)", left_out);
}

namespace {

// C1 controls, and characters that terminals and viewers obey as line breaks or text directions:
// U+0080 to U+009F, U+061C, U+200E, U+200F, U+2028 to U+202E, U+2066 to U+2069.
bool IsObeyed(std::string_view sequence) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(sequence[i]); };
  if (sequence.size() == 1) return byte(0) < 0x20 || byte(0) == 0x7f;
  if (sequence.size() == 2) {
    return (byte(0) == 0xc2 && byte(1) < 0xa0) || (byte(0) == 0xd8 && byte(1) == 0x9c);
  }
  if (sequence.size() != 3 || byte(0) != 0xe2) return false;
  if (byte(1) == 0x80)
    return byte(2) == 0x8e || byte(2) == 0x8f || (byte(2) >= 0xa8 && byte(2) <= 0xae);
  return byte(1) == 0x81 && byte(2) >= 0xa6 && byte(2) <= 0xa9;
}

}  // namespace

std::string EscapeControls(std::string_view text) {
  std::string escaped;
  escaped.reserve(text.size());
  while (!text.empty()) {
    const size_t length = Utf8SequenceLength(text);
    const std::string_view sequence = text.substr(0, length == 0 ? 1 : length);
    if (length == 0 || IsObeyed(sequence)) {
      for (const char c : sequence) {
        fmt::format_to(std::back_inserter(escaped), "\\x{:02x}", static_cast<unsigned char>(c));
      }
    } else {
      escaped += sequence;
    }
    text.remove_prefix(sequence.size());
  }
  return escaped;
}

}  // namespace callout::host
