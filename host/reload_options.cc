#include "host/reload_options.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"

namespace callout::host {
namespace {

constexpr char kGroup[] = "Reload";
// Each file takes several mappings of the 65,530 that the kernel allows a process.
constexpr uint64_t kGenerationsMax = 1'000'000;
constexpr uint64_t kGuardCallsMax = 1'000'000;

absl::Status Expected(std::string_view what) {
  return absl::InvalidArgumentError(fmt::format("expected {}", what));
}

bool ToNumber(std::string_view text, uint64_t max, uint64_t* value) {
  // SimpleAtoi would take " 1" and "+1" as well.
  return text.find_first_not_of("0123456789") == std::string_view::npos &&
         absl::SimpleAtoi({text.data(), text.size()}, value) && *value <= max;
}

absl::Status SetDirectory(const std::string& text, std::vector<std::string>* directories) {
  if (text.empty()) return Expected("a directory");
  directories->push_back(text);
  return absl::OkStatus();
}

absl::Status SetSwitch(const std::string& text, bool* value) {
  return absl::SimpleAtob(text, value) ? absl::OkStatus() : Expected("true or false");
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

absl::Status SetGenerations(const std::string& text, size_t* generations) {
  uint64_t value = 0;
  if (!ToNumber(text, kGenerationsMax, &value) || value == 0) {
    return Expected(fmt::format("a whole number from 1 to {}", kGenerationsMax));
  }
  *generations = value;
  return absl::OkStatus();
}

// "0.5/100"
absl::Status SetGuard(const std::string& text, ReloadGuard* guard) {
  const size_t slash = text.find('/');
  double rate = 0;
  uint64_t calls = 0;
  if (slash == std::string::npos || !absl::SimpleAtod(text.substr(0, slash), &rate) ||
      !(rate >= 0 && rate <= 1) || !ToNumber(text.substr(slash + 1), kGuardCallsMax, &calls)) {
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
  const auto add = [&](const char* name, const char* value, std::string default_text,
                       const char* help, bool repeatable, auto set, auto* target) {
    options->Add({.name = name,
                  .group = kGroup,
                  .value = value,
                  .default_text = std::move(default_text),
                  .help = help,
                  .repeatable = repeatable,
                  .set = [=](const std::string& text) { return set(text, target); }});
  };
  add("plugins_dir", "DIR", "",
      "Every *.so in it is a plugin, in lexical order, with NAME.config and NAME.settings beside "
      "it; followed as they come, change and go",
      true, SetDirectory, &config->directories);
  add("watch_plugins", "", "", "Follow changes of the files of --plugin as well", false, SetSwitch,
      &config->watch_plugins);
  add("require_plugins", "WHICH", "auto",
      "Which plugins must load at the start: all, none, or auto for those of --plugin", false,
      SetRequire, &config->require_plugins);
  add("max_generations", "FILES", fmt::format("{}", config->generations_max),
      "Plugin files loaded in the life of a process, for none can be unloaded", false,
      SetGenerations, &config->generations_max);
  add("reload_guard", "RATE/CALLS", "0.5/100",
      "Take a new version back if more of its first calls fail. /0: never", false, SetGuard,
      &config->guard);
}

}  // namespace callout::host
