// SPDX-License-Identifier: Apache-2.0

// callout-test: runs cases in YAML through a chain of plugins and says what is different.
// docs/testing.md describes the cases.
//
// Tested by tests/tester/tester_test.cc.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "host/base/cores.h"
#include "host/base/log.h"
#include "host/base/status_text.h"
#include "host/base/thread.h"
#include "host/config/option_kinds.h"
#include "host/config/options.h"
#include "host/tester/case_file.h"
#include "host/tester/chain_runner.h"
#include "host/tester/check.h"
#include "host/tester/envoy_runner.h"
#include "host/tester/in_process.h"
#include "host/tester/process_guard.h"
#include "host/tester/report.h"
#include "host/tester/services.h"

namespace callout::host {
namespace {

namespace fs = std::filesystem;

constexpr char kDescription[] =
    "Runs the cases in the YAML files of each DIR through the chains of plugins that they name, in "
    "this\n"
    "process or through a real Envoy, and prints what is different from what they expect. DIR may\n"
    "also be a file.\n"
    "\n"
    "Exit code: 0 all cases passed; 1 some failed; 2 invalid arguments, cases or plugins, or all "
    "cases\n"
    "were skipped.";

enum ExitCode { kPassed = 0, kFailed = 1, kBadUsage = 2 };

struct TestOptions {
  std::vector<std::string> places;  // directories and files
  std::vector<std::string> tags;
  std::string plugins_dir, junit, json, envoy_path, host_path;
  std::string upstreams;  // what the file of --upstreams holds; empty: none is given
  size_t jobs = 0;
  bool update = false, list = false, envoy = false, help = false, version = false;
  ChainRunner::Options runner;
};

void Say(const std::string& text) {
  fprintf(stderr, "callout-test: %s\n", EscapeControls(text).c_str());
}

OptionSet::Option ListOption(const char* name, const char* value, std::vector<std::string>* target,
                             const char* help) {
  return {.name = name,
          .group = "Cases",
          .value = value,
          .default_text = "",
          .help = help,
          .repeatable = true,
          .set = [=](const std::string& text) {
            target->push_back(text);
            return absl::OkStatus();
          }};
}

void AddOptions(TestOptions* options, OptionSet* set) {
  OptionSet::Option places =
      ListOption("dir", "DIR", &options->places, "A directory with *.yaml files, or such a file");
  places.positional = true;
  set->Add(std::move(places));
  set->Add(
      ListOption("tag", "TAG", &options->tags, "Only cases with this tag, or with one of them"));
  set->Add(TextOption("plugins_dir", "Cases", "DIR", &options->plugins_dir,
                      "Where plugins are whose name has no slash; default: beside the file"));
  set->Add({.name = "upstreams",
            .group = "Cases",
            .value = "FILE",
            .default_text = "",
            .help = "The services that plugins may call, as the host's option of this name. "
                    "Those of a case file come in addition",
            .set = [options](const std::string& path) {
              // Once, whatever the number of case files is.
              return ReadUpstreams(path, &options->upstreams).status();
            }});
  set->Add(NumberOption("hook_deadline_ms", "Cases", "MS", 1, INT_MAX,
                        &options->runner.hook_deadline_ms, "Time limit of a hook, as the host's"));
  set->Add(NumberOption("jobs", "Cases", "N", 0, 1000, &options->jobs,
                        "Cases at a time. 0: as many as there are cores"));
  set->Add(Switch("update", "Cases", &options->update, "Write golden files instead of comparing"));
  set->Add(
      Switch("envoy", "Envoy", &options->envoy,
             "Run the cases through callout-host and a real Envoy. Cases that no HTTP client can "
             "bring about are skipped"));
  set->Add(TextOption("envoy_path", "Envoy", "PATH", &options->envoy_path,
                      "The Envoy to run; default: CALLOUT_ENVOY, else envoy in PATH"));
  set->Add(TextOption("host_path", "Envoy", "PATH", &options->host_path,
                      "The callout-host to run; default: the one beside callout-test"));
  set->Add(Switch("list", "Cases", &options->list, "Print the cases and exit"));
  set->Add(TextOption("junit", "Reports", "FILE", &options->junit, "Write JUnit's XML"));
  set->Add(TextOption("json", "Reports", "FILE", &options->json, "Write JSON"));
  set->Add(Switch("version", "Other", &options->version, "Print the version and exit"));
  set->Add(Switch("help", "Other", &options->help, "Print this help and exit"));
}

bool IsYaml(const fs::path& path) {
  return path.extension() == ".yaml" || path.extension() == ".yml";
}

absl::StatusOr<std::vector<std::string>> FindFiles(const std::vector<std::string>& places) {
  std::vector<std::string> files;
  for (const std::string& place : places) {
    std::error_code error;
    const size_t before = files.size();
    if (!fs::is_directory(place, error)) {
      files.push_back(place);
      continue;
    }
    fs::recursive_directory_iterator entry(place, error);
    for (; !error && entry != fs::recursive_directory_iterator(); entry.increment(error)) {
      if (entry->is_regular_file() && IsYaml(entry->path()))
        files.push_back(entry->path().string());
    }
    if (error) {
      return absl::InvalidArgumentError(fmt::format("reading {}: {}", place, error.message()));
    }
    if (files.size() == before) {
      return absl::InvalidArgumentError(fmt::format("{} has no *.yaml file", place));
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

bool IsChosen(const Case& tested, const std::vector<std::string>& tags) {
  return tags.empty() || std::any_of(tags.begin(), tags.end(), [&](const std::string& tag) {
           return std::find(tested.tags.begin(), tested.tags.end(), tag) != tested.tags.end();
         });
}

std::string EnvoyPath(const TestOptions& options) {
  const char* const named = getenv("CALLOUT_ENVOY");
  if (!options.envoy_path.empty()) return options.envoy_path;
  return named != nullptr && *named != '\0' ? named : "envoy";
}

std::string HostPath(const TestOptions& options) {
  if (!options.host_path.empty()) return options.host_path;
  std::error_code error;
  const fs::path own = fs::read_symlink("/proc/self/exe", error);
  return (own.parent_path() / "callout-host").string();
}

using RunOne = std::function<absl::StatusOr<Outcome>(const Case&)>;

CaseResult ResultOf(const CaseFile& file, const Case& tested) {
  CaseResult result;
  result.file = file.path;
  result.name = tested.name;
  result.line = tested.line;
  return result;
}

absl::StatusOr<CaseResult> RunCase(const CaseFile& file, const Case& tested, const RunOne& run,
                                   bool update) {
  const auto begin = std::chrono::steady_clock::now();
  absl::StatusOr<Outcome> outcome = run(tested);
  if (!outcome.ok()) {
    return absl::Status(outcome.status().code(), fmt::format("{}:{}: {}", file.path, tested.line,
                                                             MessageOf(outcome.status())));
  }
  CaseResult result = ResultOf(file, tested);
  result.milliseconds =
      std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  result.differences = Check(tested, *outcome);
  if (!tested.golden) return result;
  auto golden = CheckGolden(GoldenPath(file, tested), update, tested.line, *outcome);
  if (!golden.ok()) return golden.status();
  result.differences.insert(result.differences.end(), golden->begin(), golden->end());
  return result;
}

using Chosen = std::vector<const Case*>;

// `jobs` at a time; results in the order of the file.
absl::StatusOr<std::vector<CaseResult>> RunInProcess(const CaseFile& file, const Chosen& chosen,
                                                     ChainRunner* runner,
                                                     const TestOptions& options) {
  std::vector<CaseResult> results(chosen.size());
  std::atomic<size_t> next{0};
  std::mutex mutex;
  absl::Status failure;  // guarded by mutex
  const auto work = [&] {
    for (size_t i = next++; i < chosen.size(); i = next++) {
      auto result = RunCase(
          file, *chosen[i], [&](const Case& tested) { return runner->Run(tested); },
          options.update);
      if (result.ok()) {
        results[i] = *std::move(result);
        continue;
      }
      const std::lock_guard lock(mutex);
      failure = result.status();
    }
  };
  const size_t jobs = options.jobs != 0 ? options.jobs : static_cast<size_t>(UsableCores());
  std::vector<std::thread> threads;
  for (size_t i = 1; i < std::min(jobs, chosen.size()); ++i) {
    absl::StatusOr<std::thread> thread = StartThread("cases", work);
    if (!thread.ok()) break;  // fewer at a time
    threads.push_back(*std::move(thread));
  }
  work();
  for (std::thread& thread : threads) thread.join();
  if (!failure.ok()) return failure;
  return results;
}

// One after the other. `in_process` tells which metadata Envoy is to be asked for.
absl::StatusOr<std::vector<CaseResult>> RunThroughEnvoy(const CaseFile& file, const Chosen& chosen,
                                                        ChainRunner* in_process,
                                                        const Services& services,
                                                        const TestOptions& options) {
  EnvoyRunner::Options envoy = {.envoy = EnvoyPath(options),
                                .host = HostPath(options),
                                .hook_deadline_ms = options.runner.hook_deadline_ms,
                                .upstreams = services.text(),
                                .namespaces = {}};
  for (const Case* tested : chosen) {
    if (!tested->only_in_process.empty()) continue;
    for (const auto& [path, matcher] : tested->expected.metadata) {
      envoy.namespaces.insert(path.substr(0, path.find('/')));
    }
    const Outcome outcome = in_process->Run(*tested);
    for (const auto& [name, value] : outcome.metadata.items()) envoy.namespaces.insert(name);
  }
  std::vector<CaseResult> results;
  std::unique_ptr<EnvoyRunner> runner;
  for (const Case* tested : chosen) {
    if (!tested->only_in_process.empty()) {
      results.push_back(ResultOf(file, *tested));
      results.back().skipped =
          fmt::format("no HTTP client can bring about its {}", tested->only_in_process);
      continue;
    }
    if (runner == nullptr) {
      auto started = EnvoyRunner::Start(file, envoy);
      if (!started.ok()) return started.status();
      runner = *std::move(started);
    }
    auto result = RunCase(
        file, *tested, [&](const Case& one) { return runner->Run(one); }, false);
    if (!result.ok()) return result.status();
    results.push_back(*std::move(result));
  }
  return results;
}

absl::StatusOr<std::vector<CaseResult>> RunFile(const CaseFile& file, const TestOptions& options) {
  Chosen chosen;
  for (const Case& tested : file.cases) {
    if (IsChosen(tested, options.tags)) chosen.push_back(&tested);
  }
  if (chosen.empty()) return std::vector<CaseResult>();
  auto services = Services::Start(file, options.upstreams);
  if (!services.ok()) return services.status();
  ChainRunner::Options with = options.runner;
  with.upstreams = (*services)->upstreams();
  auto runner = ChainRunner::Create(file, with);
  if (!runner.ok()) return runner.status();
  for (const std::string& warning : (*runner)->warnings()) {
    Say(fmt::format("{}: {}", file.path, warning));
  }
  auto results = options.envoy ? RunThroughEnvoy(file, chosen, runner->get(), **services, options)
                               : RunInProcess(file, chosen, runner->get(), options);
  if ((*runner)->has_unfinished_calls()) {
    KeepForEver(*std::move(services));
    KeepForEver(*std::move(runner));
  }
  return results;
}

// Names are made of those of cases, and the last of two would win.
absl::Status CheckGoldenNames(const std::vector<CaseFile>& files) {
  std::map<std::string, std::string> owners;  // "FILE:LINE" by the golden file's path
  for (const CaseFile& file : files) {
    for (const Case& tested : file.cases) {
      if (!tested.golden) continue;
      const std::string path = GoldenPath(file, tested);
      const std::string here = fmt::format("{}:{}", file.path, tested.line);
      const auto [owner, is_new] = owners.emplace(path, here);
      if (is_new) continue;
      return absl::InvalidArgumentError(
          fmt::format("{}: the golden file {} is that of {}, too; give the case another name", here,
                      path, owner->second));
    }
  }
  return absl::OkStatus();
}

absl::Status WriteReport(const std::string& path, const std::string& text) {
  if (path.empty()) return absl::OkStatus();
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  if (file) return absl::OkStatus();
  return absl::UnavailableError(fmt::format("cannot write {}", path));
}

void List(const CaseFile& file, const TestOptions& options) {
  for (const Case& tested : file.cases) {
    if (!IsChosen(tested, options.tags)) continue;
    printf("%s\n",
           fmt::format("{}:{}: {}", file.path, tested.line, EscapeControls(tested.name)).c_str());
  }
}

// A run in which no case ran must not look like one in which all passed.
absl::StatusOr<ExitCode> Verdict(const std::vector<CaseResult>& all) {
  const auto is_skipped = [](const CaseResult& result) { return !result.skipped.empty(); };
  if (std::all_of(all.begin(), all.end(), is_skipped)) {
    return absl::InvalidArgumentError(
        fmt::format("no case ran: {}; run them without --envoy", all.front().skipped));
  }
  const auto passed = [](const CaseResult& result) { return result.differences.empty(); };
  return std::all_of(all.begin(), all.end(), passed) ? kPassed : kFailed;
}

absl::StatusOr<ExitCode> Run(const TestOptions& options) {
  auto paths = FindFiles(options.places);
  if (!paths.ok()) return paths.status();
  std::vector<CaseFile> files;
  for (const std::string& path : *paths) {
    auto file = ReadCaseFile(path, options.plugins_dir);
    if (!file.ok()) return file.status();
    files.push_back(*std::move(file));
  }
  if (absl::Status status = CheckGoldenNames(files); !status.ok()) return status;
  const auto watchdog = WatchHooks(options.runner.hook_deadline_ms);
  if (!watchdog.ok()) return watchdog.status();
  std::vector<CaseResult> all;
  for (const CaseFile& file : files) {
    if (options.list) {
      List(file, options);
      continue;
    }
    auto results = RunFile(file, options);
    if (!results.ok()) return results.status();
    for (CaseResult& result : *results) all.push_back(std::move(result));
  }
  if (options.list) return kPassed;
  if (all.empty()) return absl::InvalidArgumentError("no case has such a tag");
  for (const CaseResult& result : all) printf("%s", FailureText(result).c_str());
  printf("%s\n", SummaryText(all).c_str());
  for (const absl::Status& status :
       {WriteReport(options.junit, JunitXml(all)), WriteReport(options.json, JsonReport(all))}) {
    if (!status.ok()) return status;
  }
  return Verdict(all);
}

ExitCode Main(int argc, const char* const* argv) {
  TestOptions options;
  OptionSet set("callout-test", kDescription, "");
  AddOptions(&options, &set);
  absl::Status status = set.Parse(argc, argv, OptionSet::kNoEnvironment);
  if (status.ok() && (options.help || options.version)) {
    printf("%s", options.help ? set.Help().c_str() : "callout-test " CALLOUT_HOST_VERSION "\n");
    return kPassed;
  }
  if (status.ok() && options.update && options.envoy) {
    status = absl::InvalidArgumentError("--update writes golden files without --envoy only");
  }
  if (status.ok() && options.places.empty()) {
    status = absl::InvalidArgumentError("no DIR with cases; see --help");
  }
  if (status.ok()) {
    SetLogLevel(LogLevel::kWarning);
    absl::StatusOr<ExitCode> code = Run(options);
    if (code.ok()) return *code;
    status = code.status();
  }
  Say(std::string(MessageOf(status)));
  return kBadUsage;
}

}  // namespace
}  // namespace callout::host

int main(int argc, char** argv) {
  callout::host::BeginProcessGuard(
      {.program = "callout-test", .exit_code = callout::host::kFailed, .unit = "case"});
  return callout::host::EndProcessGuard(callout::host::Main(argc, argv));
}
