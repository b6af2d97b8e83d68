// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/crash_report.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <string>
#include <string_view>

#include "host/base/log.h"
#include "host/plugin/hook_table.h"

namespace callout::host {
namespace {

constexpr int kSignals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGTRAP};

// Time to write the queued log lines, which may include the plugin's last ones.
constexpr uint64_t kLogWaitMs = 200;
constexpr int kWriteWaitMs = 100;

// Only uses functions that are safe in a signal handler.
class Line {
 public:
  Line() {
    if (CurrentLogFormat() != LogFormat::kJson) {
      Add("callout-host: ");
      return;
    }
    Add("{\"time\":\"");
    AddTime();
    Add("\",\"level\":\"error\",\"message\":\"");
  }

  Line& Add(std::string_view text) {
    for (const char c : text) AddByte(c);
    return *this;
  }
  // A text that is not the host's, without characters that end a JSON string or a line.
  Line& AddForeign(std::string_view text) {
    for (const char c : text) AddByte(c < 0x20 || c > 0x7e || c == '"' || c == '\\' ? '?' : c);
    return *this;
  }
  void Write() {
    if (CurrentLogFormat() == LogFormat::kJson) Add("\"}");
    Add("\n");
    FlushLog(kLogWaitMs);
    // If the log's reader has stopped, the process must still end.
    pollfd writable = {STDERR_FILENO, POLLOUT, 0};
    if (poll(&writable, 1, kWriteWaitMs) <= 0) return;
    [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, text_, size_);
  }

 private:
  void AddByte(char c) {
    if (size_ < sizeof(text_)) text_[size_++] = c;
  }
  void AddNumber(int64_t number, int digits) {
    char text[20];
    for (int i = digits - 1; i >= 0; --i, number /= 10) {
      text[i] = static_cast<char>('0' + number % 10);
    }
    Add({text, static_cast<size_t>(digits)});
  }
  // The time as in the log. By arithmetic only, since gmtime takes locks.
  void AddTime() {
    timespec now = {};
    clock_gettime(CLOCK_REALTIME, &now);
    const int64_t day = now.tv_sec / 86400;
    const int64_t second = now.tv_sec % 86400;
    const std::chrono::year_month_day date{std::chrono::sys_days{std::chrono::days{day}}};
    AddNumber(static_cast<int>(date.year()), 4);
    Add("-").AddNumber(static_cast<unsigned>(date.month()), 2);
    Add("-").AddNumber(static_cast<unsigned>(date.day()), 2);
    Add("T").AddNumber(second / 3600, 2);
    Add(":").AddNumber(second / 60 % 60, 2);
    Add(":").AddNumber(second % 60, 2);
    Add(".").AddNumber(now.tv_nsec / 1'000'000, 3);
    Add("Z");
  }

  char text_[768];
  size_t size_ = 0;
};

void AddPlace(Line* line) {
  const HookTable::Slot* slot = HookTable::OfThisThread();
  const HookPlace place = slot == nullptr
                              ? HookPlace()
                              : HookTable::Unpack(slot->place.load(std::memory_order_relaxed));
  if (place.plugin == 0 || !IsHook(place.hook)) {
    line->Add("outside of every hook: on a thread of a plugin's own, or in the host itself");
    return;
  }
  line->Add("while plugin ").AddForeign(HookTable::InUse()->PluginName(place.plugin));
  line->Add(" ran ").Add(HookName(place.hook));
}

void OnCrash(int number) {
  HookTable::NoteCrash();
  Line line;
  line.Add(SignalName(number)).Add(" ");
  AddPlace(&line);
  line.Write();
  // A fault happens again on return. SA_RESETHAND has not restored the default action if another
  // handler, such as that of a Go runtime, called this one.
  signal(number, SIG_DFL);
  sigset_t unblocked;
  sigemptyset(&unblocked);
  sigaddset(&unblocked, number);
  pthread_sigmask(SIG_UNBLOCK, &unblocked, nullptr);
  raise(number);
  // Still running: process 1 of a container has no default action.
  _exit(128 + number);
}

// In place of libstdc++'s own text, which is no line of the log.
[[noreturn]] void OnTerminate() {
  std::string what = "no exception is in flight";
  if (const std::exception_ptr thrown = std::current_exception(); thrown != nullptr) {
    try {
      std::rethrow_exception(thrown);
    } catch (const std::exception& exception) {
      what = fmt::format("an exception that nobody has caught: {}", exception.what());
    } catch (...) {
      what = "an exception that nobody has caught, and that is no std::exception";
    }
  }
  LogText(LogLevel::kError, fmt::format("std::terminate was called: {}", what));
  std::abort();
}

void OnExit() {
  const HookTable::Slot* slot = HookTable::OfThisThread();
  if (slot == nullptr || slot->place.load(std::memory_order_relaxed) == 0) return;
  HookTable::NoteCrash();
  Line line;
  line.Add("exit() was called ");
  AddPlace(&line);
  line.Write();
}

}  // namespace

const char* SignalName(int number) {
  switch (number) {
    case SIGSEGV:
      return "SIGSEGV";
    case SIGBUS:
      return "SIGBUS";
    case SIGILL:
      return "SIGILL";
    case SIGFPE:
      return "SIGFPE";
    case SIGABRT:
      return "SIGABRT";
    case SIGSYS:
      return "SIGSYS";
    case SIGTRAP:
      return "SIGTRAP";
    case SIGKILL:
      return "SIGKILL";
    case SIGTERM:
      return "SIGTERM";
    default:
      return "a signal";
  }
}

void ReportCrashes() {
  std::set_terminate(OnTerminate);
  struct sigaction action = {};
  action.sa_handler = OnCrash;
  action.sa_flags = SA_RESETHAND | SA_ONSTACK | SA_NODEFER;
  sigemptyset(&action.sa_mask);
  for (int number : kSignals) {
    struct sigaction before = {};
    // A sanitizer's own report says more. Whoever started the process may have had a signal
    // ignored.
    if (sigaction(number, nullptr, &before) == 0 && before.sa_handler != SIG_DFL &&
        before.sa_handler != SIG_IGN) {
      continue;
    }
    sigaction(number, &action, nullptr);
  }
  std::atexit(OnExit);
}

}  // namespace callout::host
