#include "host/plugin/crash_report.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include <cstdlib>

#include "host/plugin/hook_table.h"

namespace callout::host {
namespace {

constexpr int kSignals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGTRAP};

// Only what may be called in a signal's handler.
class Line {
 public:
  Line& Add(const char* text) {
    while (*text != '\0' && size_ < sizeof(text_)) text_[size_++] = *text++;
    return *this;
  }
  void Write() const { [[maybe_unused]] const ssize_t written = write(2, text_, size_); }

 private:
  char text_[512];
  size_t size_ = 0;
};

void AddPlace(Line* line) {
  const HookTable::Slot* slot = HookTable::OfThisThread();
  const HookPlace place = slot == nullptr
                              ? HookPlace()
                              : HookTable::Unpack(slot->place.load(std::memory_order_relaxed));
  const char* const hook = HookName(place.hook);
  if (place.plugin == 0 || hook == nullptr) {
    line->Add("outside of every hook: on a thread of a plugin's own, or in the host itself");
    return;
  }
  line->Add("while plugin ").Add(HookTable::InUse()->PluginName(place.plugin));
  line->Add(" ran ").Add(hook);
}

void OnCrash(int number) {
  HookTable::NoteCrash();
  Line line;
  line.Add("callout-host: ").Add(SignalName(number)).Add(" ");
  AddPlace(&line);
  line.Add("\n").Write();
  // A fault happens again on return. SA_RESETHAND has not put the usual course back where another
  // handler has called this one, such as that of a Go runtime.
  signal(number, SIG_DFL);
  raise(number);
}

void OnExit() {
  const HookTable::Slot* slot = HookTable::OfThisThread();
  if (slot == nullptr || slot->place.load(std::memory_order_relaxed) == 0) return;
  HookTable::NoteCrash();
  Line line;
  line.Add("callout-host: exit() was called ");
  AddPlace(&line);
  line.Add("\n").Write();
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
  struct sigaction action = {};
  action.sa_handler = OnCrash;
  action.sa_flags = SA_RESETHAND | SA_ONSTACK | SA_NODEFER;
  sigemptyset(&action.sa_mask);
  for (int number : kSignals) {
    struct sigaction before = {};
    // A sanitizer's own report says more.
    if (sigaction(number, nullptr, &before) == 0 && before.sa_handler != SIG_DFL) continue;
    sigaction(number, &action, nullptr);
  }
  std::atexit(OnExit);
}

}  // namespace callout::host
