// SPDX-License-Identifier: Apache-2.0

// callout-replay: plays recordings of callout-host through plugins and shows where they respond
// differently. docs/recordings.md describes it.
//
// Tested by tests/replay/replay_test.cc.
#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <climits>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "host/base/clock.h"
#include "host/base/cores.h"
#include "host/base/log.h"
#include "host/base/status_text.h"
#include "host/config/extension_options.h"
#include "host/config/option_kinds.h"
#include "host/config/options.h"
#include "host/config/plugin_options.h"
#include "host/record/recording_reader.h"
#include "host/replay/case_writer.h"
#include "host/replay/expectations.h"
#include "host/replay/replay_report.h"
#include "host/replay/replayer.h"
#include "host/tester/in_process.h"
#include "host/tester/process_guard.h"
#include "host/upstream/upstream_config.h"

namespace callout::host {
namespace {

constexpr char kDescription[] =
    "Plays recordings that callout-host has made (--record, POST /tap) through a chain of plugins "
    "in\n"
    "this process, and shows where they respond differently from the recording. Each FILE is a\n"
    "recording; a FILE that ends with .so is a plugin.\n"
    "\n"
    "Exit code: 0 no differences, or only those that --expect allows; 1 others, or a plugin has "
    "not\n"
    "finished a call; 2 invalid arguments, recordings or plugins, or no exchange to compare.";

enum ExitCode { kSame = 0, kDifferent = 1, kBadInput = 2 };

struct ReplayOptions {
  std::vector<std::string> files;
  PluginOptions plugins, against;
  std::string expect, cases;
  uint64_t cases_max = 100;
  size_t jobs = 0;
  StreamLimits limits;
  std::vector<UpstreamConfig> upstreams;  // that plugins may call
  bool json = false, help = false, version = false;
};

void Say(const std::string& text) {
  fprintf(stderr, "callout-replay: %s\n", EscapeControls(text).c_str());
}

constexpr std::string_view kConfigAfter = ".so=";

// "[NAME=]PATH", or "PATH.so=CONFIG".
absl::Status AddPlugin(const std::string& text, PluginOptions* plugins) {
  const size_t so = text.find(kConfigAfter);
  if (so == text.npos) return plugins->AddPlugin(text);
  const std::string plugin = text.substr(0, so + kConfigAfter.size() - 1);
  if (absl::Status status = plugins->AddPlugin(plugin); !status.ok()) return status;
  return plugins->AddConfig(
      fmt::format("{}={}", NameAndPath(plugin).name, text.substr(so + kConfigAfter.size())));
}

bool NamesAPlugin(const std::string& text) {
  return text.ends_with(".so") || text.find(kConfigAfter) != text.npos;
}

// `secret`: the value is a configuration, or may have one.
OptionSet::Option PluginOption(const char* name, const char* value, const char* help, bool secret,
                               std::function<absl::Status(const std::string&)> set) {
  return {.name = name,
          .group = "Plugins",
          .value = value,
          .default_text = "",
          .help = help,
          .repeatable = true,
          .secret = secret,
          .set = std::move(set)};
}

void AddPluginOptions(ReplayOptions* options, OptionSet* set) {
  PluginOptions* const plugins = &options->plugins;
  set->Add(PluginOption("plugin", "[NAME=]PATH",
                        "A plugin of the chain, in request order. PATH.so=CONFIG gives it a "
                        "configuration, too. Without any, all messages pass unchanged",
                        true, [=](const std::string& text) { return AddPlugin(text, plugins); }));
  set->Add(PluginOption("plugin_config", "NAME=TEXT",
                        "Configuration of the plugin NAME; @FILE in the place of TEXT reads a file",
                        true, [=](const std::string& text) { return plugins->AddConfig(text); }));
  set->Add(PluginOption("plugin_settings", "NAME=@FILE", "Settings of the plugin NAME, as JSON",
                        false,
                        [=](const std::string& text) { return plugins->AddSettings(text); }));
  set->Add(PluginOption("on_plugin_error", "NAME=POLICY",
                        "Error policy of the plugin NAME: fail, continue or deny[:STATUS]", false,
                        [=](const std::string& text) { return plugins->AddErrorPolicy(text); }));
  set->Add(PluginOption(
      "against", "[NAME=]PATH",
      "A plugin of another chain: its responses are compared with those of --plugin, instead of "
      "the recording's. Without =CONFIG it has the configuration and settings of the --plugin at "
      "the same place",
      true, [options](const std::string& text) { return AddPlugin(text, &options->against); }));
}

void AddOptions(ReplayOptions* options, OptionSet* set) {
  set->Add({.name = "file",
            .group = "Recordings",
            .value = "FILE",
            .default_text = "",
            .help = "A recording; a plugin if the name ends with .so, or is PATH.so=CONFIG",
            .repeatable = true,
            .positional = true,
            .secret = true,
            .set = [options](const std::string& text) {
              if (NamesAPlugin(text)) return AddPlugin(text, &options->plugins);
              options->files.push_back(text);
              return absl::OkStatus();
            }});
  AddPluginOptions(options, set);
  set->Add(TextOption("expect", "Differences", "FILE", &options->expect,
                      "Differences that are allowed, as JSON"));
  set->Add(Switch("json", "Differences", &options->json, "Print the report as JSON"));
  set->Add(TextOption("cases", "Cases", "DIR", &options->cases,
                      "Write exchanges as cases of callout-test into DIR, with the recorded "
                      "outcomes as golden files, and play nothing"));
  set->Add(NumberOption("max_cases", "Cases", "N", 1, 1'000'000, &options->cases_max,
                        "Cases that are written"));
  set->Add(NumberOption("jobs", "Running", "N", 0, 1000, &options->jobs,
                        "Threads. 0: as many as there are cores"));
  set->Add(NumberOption("hook_deadline_ms", "Running", "MS", 1, INT_MAX,
                        &options->limits.hook_deadline_ms, "Time limit of a hook, as the host's"));
  set->Add(UpstreamsOption("Running",
                           "The services that plugins may call, as the host's option of this name",
                           &options->upstreams));
  set->Add(ChoiceOption(
      "envoy_mode_override", "Running", "WHAT", {"unknown", "allowed", "ignored"}, 0,
      [options](size_t choice) {
        options->limits.mode_override = static_cast<EnvoyModeOverride>(choice);
      },
      "What Envoy did with mode overrides, as the host's option"));
  set->Add(Switch("version", "Other", &options->version, "Print the version and exit"));
  set->Add(Switch("help", "Other", &options->help, "Print this help and exit"));
}

using Readers = std::vector<std::unique_ptr<RecordingReader>>;

absl::StatusOr<Readers> OpenAll(const std::vector<std::string>& files) {
  Readers readers;
  for (const std::string& file : files) {
    auto reader = RecordingReader::Open(file);
    if (!reader.ok()) return reader.status();
    readers.push_back(*std::move(reader));
  }
  return readers;
}

// A name without a slash is a file here, not one of the system's libraries.
std::string PathOf(const std::string& path) {
  return path.find('/') == path.npos ? "./" + path : path;
}

absl::Status Load(const std::vector<PluginConfig>& plugins, const StreamLimits& limits,
                  InProcessChain* chain) {
  for (const PluginConfig& plugin : plugins) {
    const absl::Status status =
        chain->Add({PathOf(plugin.path), plugin.name, plugin.config, plugin.settings});
    if (!status.ok()) {
      return absl::InvalidArgumentError(
          fmt::format("plugin {}: {}", plugin.name, MessageOf(status)));
    }
  }
  for (const std::string& warning : chain->warnings()) Say(warning);
  return chain->Begin(limits);
}

// What --against does not say.
void TakeConfigs(const std::vector<PluginConfig>& from, std::vector<PluginConfig>* to) {
  for (size_t i = 0; i < std::min(from.size(), to->size()); ++i) {
    PluginConfig& plugin = (*to)[i];
    if (plugin.config.empty()) plugin.config = from[i].config;
    plugin.settings = from[i].settings;
  }
}

double CpuSeconds() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

absl::Status WriteCases(const ReplayOptions& options, const std::vector<PluginConfig>& plugins,
                        const Readers& readers) {
  if (plugins.empty()) {
    return absl::InvalidArgumentError("--cases needs a --plugin, which the cases are for");
  }
  CaseWriter writer(options.cases, plugins, options.cases_max);
  uint64_t number = 0;
  absl::Status damage;
  for (const auto& reader : readers) {
    while (reader->Next()) writer.Add(++number, reader->exchange());
    damage.Update(reader->status());
  }
  if (writer.cases() == 0 && damage.ok()) {
    return absl::InvalidArgumentError(
        "--cases: no exchange can be a case; record with --record_bodies=on");
  }
  if (absl::Status status = writer.Write(); !status.ok()) return status;
  printf("%s: %zu cases; %zu exchanges cannot be cases\n", writer.path().c_str(), writer.cases(),
         writer.left_out());
  return damage;
}

// A run that has compared nothing must not look like one that found no difference.
absl::StatusOr<ExitCode> Verdict(const ReplayResult& result) {
  if (result.summary.differing > 0) return kDifferent;
  if (result.abandoned > 0) {
    Say(fmt::format("in {} exchanges a plugin has not finished its call", result.abandoned));
    return kDifferent;
  }
  if (result.exchanges == 0) {
    return absl::InvalidArgumentError(
        "nothing was compared: the recordings have no exchange; see --record_match and "
        "--record_percent of the host that has recorded them");
  }
  if (result.summary.exchanges == 0) {
    return absl::InvalidArgumentError(fmt::format(
        "nothing was compared: of {} exchanges {} are incomplete in the recording, and a body that "
        "was not recorded decides {}; record with --record_bodies=on, or a higher "
        "--max_record_exchange_bytes",
        result.exchanges, result.incomplete, result.unknown));
  }
  return kSame;
}

absl::StatusOr<ExitCode> Replay(const ReplayOptions& options,
                                const std::vector<PluginConfig>& plugins, const Readers& readers) {
  Expectations expected;
  if (!options.expect.empty()) {
    absl::StatusOr<Expectations> read = ReadExpectations(options.expect);
    if (!read.ok()) return read.status();
    expected = *std::move(read);
  }
  absl::StatusOr<std::vector<PluginConfig>> against = options.against.Finish();
  if (!against.ok()) return against.status();
  TakeConfigs(plugins, &*against);
  auto chain = std::make_unique<InProcessChain>(options.upstreams);
  auto other = against->empty() ? nullptr : std::make_unique<InProcessChain>(options.upstreams);
  if (absl::Status status = Load(plugins, options.limits, chain.get()); !status.ok()) {
    return status;
  }
  if (other != nullptr) {
    absl::Status status = Load(*against, options.limits, other.get());
    if (!status.ok()) return status;
  }
  ReplayReport report;
  report.files = options.files;
  report.has_against = other != nullptr;
  report.threads = options.jobs != 0 ? options.jobs : static_cast<size_t>(UsableCores());
  Replayer replayer({.chain = chain.get(),
                     .against = other.get(),
                     .expected = &expected,
                     .jobs = report.threads});
  const uint64_t begin_ns = MonotonicNs();
  const double begin_cpu = CpuSeconds();
  absl::Status damage;
  for (const auto& reader : readers) damage.Update(replayer.Run(reader.get(), &report.result));
  report.seconds = static_cast<double>(MonotonicNs() - begin_ns) * 1e-9;
  report.cpu_seconds = CpuSeconds() - begin_cpu;
  report.calls = CallTimes(chain->metrics());
  if (other != nullptr) report.against = CallTimes(other->metrics());
  printf("%s", (options.json ? ReplayJson(report) : ReplayText(report)).c_str());
  if (report.result.abandoned > 0) {
    KeepForEver(std::move(chain));
    KeepForEver(std::move(other));
  }
  if (!damage.ok()) return damage;
  return Verdict(report.result);
}

absl::StatusOr<ExitCode> Run(const ReplayOptions& options) {
  if (options.files.empty()) {
    return absl::InvalidArgumentError("no FILE with a recording; see --help");
  }
  absl::StatusOr<std::vector<PluginConfig>> plugins = options.plugins.Finish();
  if (!plugins.ok()) return plugins.status();
  absl::StatusOr<Readers> readers = OpenAll(options.files);
  if (!readers.ok()) return readers.status();
  if (options.cases.empty()) {
    const auto watchdog = WatchHooks(options.limits.hook_deadline_ms);
    if (!watchdog.ok()) return watchdog.status();
    return Replay(options, *plugins, *readers);
  }
  if (absl::Status status = WriteCases(options, *plugins, *readers); !status.ok()) return status;
  return kSame;
}

ExitCode Main(int argc, const char* const* argv) {
  ReplayOptions options;
  OptionSet set("callout-replay", kDescription, "");
  AddOptions(&options, &set);
  absl::Status status = set.Parse(argc, argv, OptionSet::kNoEnvironment);
  if (status.ok() && (options.help || options.version)) {
    printf("%s", options.help ? set.Help().c_str() : "callout-replay " CALLOUT_HOST_VERSION "\n");
    return kSame;
  }
  if (status.ok()) {
    SetLogLevel(LogLevel::kWarning);
    absl::StatusOr<ExitCode> code = Run(options);
    if (code.ok()) return *code;
    status = code.status();
  }
  Say(std::string(MessageOf(status)));
  return kBadInput;
}

}  // namespace
}  // namespace callout::host

int main(int argc, char** argv) {
  callout::host::BeginProcessGuard(
      {.program = "callout-replay", .exit_code = callout::host::kDifferent, .unit = "exchange"});
  return callout::host::EndProcessGuard(callout::host::Main(argc, argv));
}
