// SPDX-License-Identifier: Apache-2.0

#include "host/config/containment_options.h"

#include <fmt/format.h>

#include "host/config/option_kinds.h"

namespace callout::host {
namespace {

constexpr char kContainmentGroup[] = "Containment";
constexpr uint64_t kWatchdogMsMax = 86'400'000;
constexpr uint64_t kWorkersMax = 256;
constexpr uint64_t kCrashesMax = 1000;
constexpr uint64_t kSecondsMax = 86'400;

// "3/60"
absl::Status SetQuarantine(const std::string& text, QuarantineLimit* limit) {
  const size_t slash = text.find('/');
  uint64_t crashes = 0, seconds = 0;
  if (slash == std::string::npos || !ParseNumber(text.substr(0, slash), 0, kCrashesMax, &crashes) ||
      !ParseNumber(text.substr(slash + 1), 1, kSecondsMax, &seconds)) {
    return Expected(
        fmt::format("CRASHES/SECONDS with whole numbers from 0 to {} and from 1 to {}, such as "
                    "3/60; 0/60 for no quarantine",
                    kCrashesMax, kSecondsMax));
  }
  limit->crashes = static_cast<uint32_t>(crashes);
  limit->seconds = static_cast<uint32_t>(seconds);
  return absl::OkStatus();
}

}  // namespace

void AddContainmentOptions(ContainmentConfig* config, OptionSet* options) {
  options->Add(
      NumberOption("workers", kContainmentGroup, "PROCESSES", 0, kWorkersMax, &config->workers,
                   "Processes that run the plugins, so that a crash ends only the streams of one. "
                   "Limits hold for each of them. 0: the host runs the plugins itself"));
  options->Add({.name = "quarantine",
                .group = kContainmentGroup,
                .value = "CRASHES/SECONDS",
                .default_text = "3/60",
                .help = "With workers: disable a plugin that crashes CRASHES times within SECONDS. "
                        "It is enabled again when its file changes or is touched, on SIGHUP, or "
                        "after a trial; until then its error policy answers. 0/60: never",
                .set = [config](const std::string& text) {
                  return SetQuarantine(text, &config->quarantine);
                }});
  options->Add(NumberOption("quarantine_retry_ms", kContainmentGroup, "MS", 0,
                            kQuarantineRetryMsMax, &config->quarantine.retry_ms,
                            "Time until a disabled plugin gets a trial in one worker. The time "
                            "doubles after each failed trial, up to an hour. 0: no trials"));
  options->Add(NumberOption("watchdog_ms", kContainmentGroup, "MS", 0, kWatchdogMsMax,
                            &config->watchdog_ms,
                            "Log a hook that blocks a serving thread for longer than this; with "
                            "workers, also replace the worker that runs it. 0: never"));
}

}  // namespace callout::host
