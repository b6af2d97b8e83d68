#include "host/base/log.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <chrono>
#include <iterator>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <unordered_map>

namespace callout::host {

namespace {

constexpr size_t kKeysMax = 4096;
constexpr std::chrono::minutes kQuietTime(1);

std::atomic<uint64_t> g_warnings{0};
std::atomic<LogLevel> g_level{LogLevel::kInfo};
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

const char* LevelName(LogLevel level) {
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

std::unique_ptr<spdlog::formatter> MakeFormatter(LogFormat format) {
  // %^ and %$ would colour; a log is read by programs as well.
  const char* pattern = format == LogFormat::kJson ? R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ",%v})"
                                                   : "%Y-%m-%dT%H:%M:%S.%eZ %v";
  return std::make_unique<spdlog::pattern_formatter>(pattern, spdlog::pattern_time_type::utc);
}

// Leaked: a plugin's thread may log while the process exits.
spdlog::logger& Logger() {
  static spdlog::logger* const logger = [] {
    auto sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
    auto* made = new spdlog::logger("callout", std::move(sink));
    made->set_level(spdlog::level::trace);
    made->flush_on(spdlog::level::trace);
    made->set_formatter(MakeFormatter(LogFormat::kText));
    return made;
  }();
  return *logger;
}

class DueTimes {
 public:
  bool Take(std::string_view key, std::chrono::steady_clock::time_point now) {
    std::lock_guard lock(mutex_);
    if (last_.size() >= kKeysMax) last_.clear();
    const auto [it, is_new] = last_.try_emplace(std::string(key), now);
    if (!is_new && now - it->second < kQuietTime) return false;
    it->second = now;
    return true;
  }

 private:
  std::mutex mutex_;
  std::unordered_map<std::string, std::chrono::steady_clock::time_point> last_;
};

}  // namespace

void SetLogLevel(LogLevel level) { g_level.store(level, std::memory_order_relaxed); }

void SetLogFormat(LogFormat format) {
  g_format.store(format, std::memory_order_relaxed);
  Logger().set_formatter(MakeFormatter(format));
}

bool LogEnabled(LogLevel level) { return level >= g_level.load(std::memory_order_relaxed); }

uint64_t CountWarnings() { return g_warnings.load(std::memory_order_relaxed); }

void LogText(LogLevel level, std::string_view text) {
  if (level >= LogLevel::kWarning) g_warnings.fetch_add(1, std::memory_order_relaxed);
  text = text.substr(0, kLogLineBytesMax);
  if (g_format.load(std::memory_order_relaxed) == LogFormat::kJson) {
    // Bytes that are no UTF-8 are replaced, not refused.
    const std::string message = nlohmann::json(EscapeControls(text))
                                    .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    Logger().log(ToSpdlog(level), R"("level":"{}","message":{})", LevelName(level), message);
    return;
  }
  std::string name = LevelName(level);
  for (char& c : name) c = static_cast<char>(c - 32);
  Logger().log(ToSpdlog(level), "{} {}", name, EscapeControls(text));
}

bool LogIsDue(std::string_view key, std::chrono::steady_clock::time_point now) {
  static auto* const times = new DueTimes;
  return times->Take(key, now);
}

std::string EscapeControls(std::string_view text) {
  std::string escaped;
  escaped.reserve(text.size());
  const auto escape = [&escaped](unsigned char byte) {
    fmt::format_to(std::back_inserter(escaped), "\\x{:02x}", byte);
  };
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const auto next = static_cast<unsigned char>(i + 1 < text.size() ? text[i + 1] : '\0');
    if (byte < 0x20 || byte == 0x7f) {
      escape(byte);
    } else if (byte == 0xc2 && next >= 0x80 && next < 0xa0) {  // U+0080 to U+009F
      escape(byte);
      escape(next);
      ++i;
    } else {
      escaped += text[i];
    }
  }
  return escaped;
}

}  // namespace callout::host
