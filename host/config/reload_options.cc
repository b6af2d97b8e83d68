#include "host/config/reload_options.h"

#include <fmt/format.h>

#include <cmath>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "host/config/option_kinds.h"

namespace callout::host {
namespace {

constexpr char kGroup[] = "Reload";
// Each file takes several mappings of the 65,530 that the kernel allows a process.
constexpr uint64_t kGenerationsMax = 1'000'000;
constexpr uint64_t kGuardCallsMax = 1'000'000;

absl::Status SetDirectory(const std::string& text, std::vector<std::string>* directories) {
  if (text.empty()) return Expected("a directory");
  directories->push_back(text);
  return absl::OkStatus();
}

absl::Status SetRequire(const std::string& text, RequirePlugins* require) {
  if (text == "auto") {
    *require = RequirePlugins::kAuto;
  } else if (text == "all") {
    *require = RequirePlugins::kAll;
  } else if (text == "none") {
    *require = RequirePlugins::kNone;
  } else {
    return Expected("auto, all or none");
  }
  return absl::OkStatus();
}

// "0.5/100"
absl::Status SetGuard(const std::string& text, ReloadGuard* guard) {
  const size_t slash = text.find('/');
  double rate = 0;
  uint64_t calls = 0;
  if (slash == std::string::npos || !absl::SimpleAtod(text.substr(0, slash), &rate) ||
      !(rate >= 0 && rate <= 1) ||
      !ParseNumber(text.substr(slash + 1), 0, kGuardCallsMax, &calls)) {
    return Expected(
        fmt::format("RATE/CALLS with a rate from 0 to 1 and a whole number up to {}, "
                    "such as 0.5/100; /0 for no guard",
                    kGuardCallsMax));
  }
  *guard = {rate, static_cast<uint32_t>(calls)};
  return absl::OkStatus();
}

}  // namespace

void AddReloadOptions(ReloadConfig* config, OptionSet* options) {
  const auto add = [&](const char* name, const char* value, const char* default_text,
                       const char* help, bool repeatable, auto set, auto* target) {
    options->Add({.name = name,
                  .group = kGroup,
                  .value = value,
                  .default_text = default_text,
                  .help = help,
                  .repeatable = repeatable,
                  .set = [=](const std::string& text) { return set(text, target); }});
  };
  add("plugins_dir", "DIR", "",
      "Every *.so in it is a plugin, in lexical order, with NAME.config and NAME.settings beside "
      "it; followed as they come, change and go",
      true, SetDirectory, &config->directories);
  options->Add(Switch("strict_plugins", kGroup, &config->strict_plugins,
                      "For authors: log every service call of a plugin that is refused, not one "
                      "of its kind a minute"));
  options->Add(Switch("watch_plugins", kGroup, &config->watch_plugins,
                      "Follow changes of the files of --plugin as well"));
  add("require_plugins", "WHICH", "auto",
      "Which plugins must load at the start: all, none, or auto for those of --plugin", false,
      SetRequire, &config->require_plugins);
  options->Add(
      NumberOption("max_generations", kGroup, "FILES", 1, kGenerationsMax, &config->generations_max,
                   "Plugin files loaded in the life of a process, for none can be unloaded"));
  add("reload_guard", "RATE/CALLS", "0.5/100",
      "Take a new version back if more of its first calls fail. /0: never", false, SetGuard,
      &config->guard);
}

}  // namespace callout::host
