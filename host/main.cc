// SPDX-License-Identifier: Apache-2.0

// callout-host: parse the options, serve until a signal, drain, exit.
//
// SIGTERM, SIGINT: drain, exit 0; a second one ends the process at once. Only SIGTERM
// waits for --drain_delay_ms.
// SIGHUP: reload the certificates and rescan plugin files. Further SIGHUPs meanwhile count as one;
// a signal to drain has precedence.
//
// With --workers the plugins and the streams are in worker processes: this process starts them from
// the same program, so they begin here, too.
//
// Tested by tests/integration/start_test.cc.
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>

#include "absl/synchronization/mutex.h"
#include "host/base/file.h"
#include "host/base/inherited_state.h"
#include "host/base/log.h"
#include "host/base/status_text.h"
#include "host/config/config.h"
#include "host/deploy/config_document.h"
#include "host/deploy/doctor.h"
#include "host/deploy/print_config.h"
#include "host/net/passed_sockets.h"
#include "host/ops/probe.h"
#include "host/ops/service_manager.h"
#include "host/plugin/call_log.h"
#include "host/plugin/crash_report.h"
#include "host/plugin/manifest.h"
#include "host/server.h"
#include "host/worker.h"

namespace callout::host {
namespace {

constexpr int kExitStartError = 2;

// For each step of --probe.
constexpr uint64_t kProbeTimeoutMs = 2000;

// --- Signals reach the main thread as flags and a byte in a pipe that wakes it:
// plugins have threads of their own, so that masks could not keep the signals from
// them. ---

int signal_pipe[2] = {-1, -1};
std::atomic<bool> end_at_once{true};  // false while serving
std::atomic<bool> reload_wanted{false};
std::atomic<int> drain_signal{0};  // 0: none yet
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<int>::is_always_lock_free);

void OnSignal(int number) {
  const int error = errno;
  if (number == SIGHUP) {
    reload_wanted = true;
  } else {
    // Not by the default action, which does nothing in process 1 of a container.
    if (end_at_once.exchange(true)) _exit(128 + number);
    drain_signal = number;
  }
  // If the pipe is full, the main thread will wake anyway.
  [[maybe_unused]] const ssize_t written = write(signal_pipe[1], "", 1);
  errno = error;
}

bool InstallSignals() {
  if (pipe2(signal_pipe, O_CLOEXEC | O_NONBLOCK) != 0) return false;
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  action.sa_flags = SA_RESTART | SA_ONSTACK;  // the latter for Go plugins
  sigemptyset(&action.sa_mask);
  for (int number : {SIGTERM, SIGINT, SIGHUP}) sigaction(number, &action, nullptr);
  signal(SIGPIPE, SIG_IGN);
  return true;
}

// As a first SIGTERM. One that comes later still drains, too.
void RequestDrain() {
  int none = 0;
  drain_signal.compare_exchange_strong(none, SIGTERM);
  [[maybe_unused]] const ssize_t written = write(signal_pipe[1], "", 1);
}

// The signal to drain, or SIGHUP.
int AwaitSignal() {
  for (;;) {
    if (const int number = drain_signal.load(); number != 0) return number;
    if (reload_wanted.exchange(false)) return SIGHUP;
    pollfd readable = {signal_pipe[0], POLLIN, 0};
    poll(&readable, 1, -1);
    char bytes[256];
    while (read(signal_pipe[0], bytes, sizeof(bytes)) > 0) {
    }
  }
}

// Raises the soft limit on descriptors: each connection is one, and 1024 are few.
void RaiseDescriptorLimit() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

// gRPC aborts if it runs out of them at the start.
absl::Status CheckDescriptorLimit() {
  constexpr rlim_t kDescriptorsMin = 64;
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= kDescriptorsMin) {
    return absl::OkStatus();
  }
  return absl::UnavailableError(
      fmt::format("this process may have {} file descriptors; it needs {} to start, and one for "
                  "each connection: raise ulimit -n",
                  limit.rlim_cur, kDescriptorsMin));
}

int FailStart(const absl::Status& status, LogFormat format) {
  const std::string text = EscapeControls(MessageOf(status));
  if (format == LogFormat::kJson) {
    LogText(LogLevel::kError, text);
  } else {
    FlushLog(kLastLinesMs);
    fprintf(stderr, "callout-host: %s\n", text.c_str());
  }
  return kExitStartError;
}

int Print(const std::string& text) {
  fputs(text.c_str(), stdout);
  return fflush(stdout) == 0 ? 0 : kExitStartError;
}

// --probe, the health command of a container image without other programs.
int Probe(const Config& config) {
  constexpr int kExitNotReady = 1;
  if (!config.health_check_address.has_value()) {
    return FailStart(absl::FailedPreconditionError(
                         "--probe needs the health listener: leave --combined_health_check out"),
                     config.log_format);
  }
  const absl::Status health =
      ProbeHealth(*config.health_check_address, config.secure_health_check, kProbeTimeoutMs);
  if (health.ok()) return Print("ready\n");
  FailStart(health, config.log_format);
  return kExitNotReady;
}

// Static destructors of plugins are of no use, and some crash the process. A build with
// AddressSanitizer looks for leaks at a normal end.
int EndWithoutDestructors(int code) {
  FlushLog(kLastLinesMs);
  fflush(nullptr);
#ifndef __SANITIZE_ADDRESS__
  _exit(code);
#endif
  return code;
}

int Check(const Config& config) {
  absl::StatusOr<CheckReport> checked = CheckConfig(config);
  if (!checked.ok()) return FailStart(checked.status(), config.log_format);
  const int code = Print(checked->text);
  if (!config.strict_check || checked->warnings == 0) return code;
  return FailStart(absl::FailedPreconditionError(fmt::format(
                       "--check --strict: there were warnings ({}); fix what they name, or check "
                       "without --strict",
                       checked->warnings)),
                   config.log_format);
}

int PrintTargetConfig(const Config& config) {
  const absl::StatusOr<EnvoyNeeds> needs = LoadNeeds(config);
  if (!needs.ok()) return FailStart(needs.status(), config.log_format);
  return Print(PrintConfig(*config.deploy.print, *needs));
}

int PrintManifests(const Config& config) {
  std::vector<std::string> paths;
  for (const PluginConfig& plugin : config.plugins) paths.push_back(plugin.path);
  const absl::StatusOr<std::string> manifests = ManifestsJson(paths);
  if (!manifests.ok()) return FailStart(manifests.status(), config.log_format);
  return Print(*manifests);
}

int Doctor(const Config& config) {
  constexpr int kExitFindings = 1;
  const std::string& file = config.deploy.doctor_file;
  const absl::StatusOr<std::string> text = ReadFile(file, kDocumentBytesMax);
  if (!text.ok()) {
    return FailStart(absl::InvalidArgumentError(fmt::format("--doctor={}: cannot read it: {}", file,
                                                            MessageOf(text.status()))),
                     config.log_format);
  }
  const absl::StatusOr<EnvoyNeeds> needs = LoadNeeds(config);
  if (!needs.ok()) return FailStart(needs.status(), config.log_format);
  const absl::StatusOr<Diagnosis> diagnosis = Examine(file, *text, *needs);
  if (!diagnosis.ok()) return FailStart(diagnosis.status(), config.log_format);
  const int code = Print(diagnosis->Text(file));
  return code == 0 && !diagnosis->findings.empty() ? kExitFindings : code;
}

// Loads the plugins, and serves nothing.
int RunTool(const Config& config) {
  if (config.command == Config::Command::kPrintConfig) return PrintTargetConfig(config);
  if (config.command == Config::Command::kDoctor) return Doctor(config);
  if (config.command == Config::Command::kManifest) return PrintManifests(config);
  return Check(config);
}

void WarnIfNot(const absl::Status& status) {
  if (!status.ok()) Log(LogLevel::kWarning, "{}", MessageOf(status));
}

int Serve(const Config& config) {
  const ServiceManager manager = ServiceManager::FromEnvironment();
  absl::StatusOr<PassedSockets> passed = TakePassedSockets();
  if (!passed.ok()) return FailStart(passed.status(), config.log_format);
  if (absl::Status status = CheckDescriptorLimit(); !status.ok()) {
    return FailStart(status, config.log_format);
  }
  absl::StatusOr<std::unique_ptr<Server>> server =
      Server::Start(config, *std::move(passed), RequestDrain);
  if (!server.ok()) return FailStart(server.status(), config.log_format);
  end_at_once = false;
  (*server)->Announce();
  WarnIfNot(manager.Ready());
  bool may_delay = true;
  int number = AwaitSignal();
  for (; number == SIGHUP; number = AwaitSignal()) {
    // Who asks for health while a signal to drain waits for this reload has come too late to be
    // waited for.
    may_delay = (*server)->WantsDrainDelay();
    (*server)->Reload();
    if (drain_signal.load() == 0) may_delay = true;
  }
  WarnIfNot(manager.Stopping());
  if ((*server)->Drain(may_delay && number == SIGTERM)) {
    server->reset();
    return EndWithoutDestructors(0);
  }
  // A plugin still holds a call or a thread, so nothing that it may touch can be destroyed.
  FlushLog(kLastLinesMs);
  fflush(nullptr);
  _exit(0);
}

void ApplyToProcess(const Config& config) {
  SetLogLevel(config.log_level);
  SetLogFormat(config.log_format);
  SetRedactedHeaders(config.redacted_headers);
  RaiseDescriptorLimit();
  // Unlike a limit on the size of cores, this also holds for those that the kernel pipes to a
  // program.
  if (!config.core_dumps) prctl(PR_SET_DUMPABLE, 0);
  ReportCrashes();
  if (absl::Status status = StartAsyncLog(config.log_queue_bytes_max); !status.ok()) {
    Log(LogLevel::kWarning, "{}", MessageOf(status));
  }
}

// A worker, as its supervisor starts it.
int MainOfWorker(const WorkerDescriptors& descriptors, int argc, const char* const* argv) {
  absl::StatusOr<Config> config = ParseConfig(argc, argv, OptionSet::kNoEnvironment);
  if (!config.ok()) return FailStart(config.status(), LogFormat::kText);
  config->traces = ReadOtlpConfig(environ);
  ApplyToProcess(*config);
  return RunWorker(descriptors, *config);
}

int Main(int argc, const char* const* argv) {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  if (argc > 1) {
    const std::optional<WorkerDescriptors> descriptors = ParseWorkerArgument(argv[1]);
    if (descriptors.has_value()) return MainOfWorker(*descriptors, argc - 1, argv + 1);
  }
  absl::StatusOr<Config> config = ParseConfig(argc, argv, environ);
  if (!config.ok()) return FailStart(config.status(), LogFormat::kText);
  if (config->command == Config::Command::kPrint) return Print(config->text);
  config->traces = ReadOtlpConfig(environ);
  config->warnings.insert(config->warnings.end(), config->traces.warnings.begin(),
                          config->traces.warnings.end());
  if (config->command == Config::Command::kProbe) return Probe(*config);
  ApplyToProcess(*config);
  if (!InstallSignals()) {
    return FailStart(absl::UnavailableError("no free file descriptor; raise ulimit -n"),
                     config->log_format);
  }
  if (config->command == Config::Command::kServe) return Serve(*config);
  return EndWithoutDestructors(RunTool(*config));
}

}  // namespace
}  // namespace callout::host

int main(int argc, char** argv) {
  if (!callout::host::PutInheritedStateInOrder()) _exit(callout::host::kExitStartError);
  const int status = callout::host::Main(argc, argv);
  callout::host::FlushLog(callout::host::kLastLinesMs);
  return status;
}
