// SPDX-License-Identifier: Apache-2.0

// callout-host: parse the options, serve until a signal, drain, exit.
//
// SIGTERM, SIGINT: drain, exit 0; a second one ends the process at once. Only SIGTERM
// waits for --drain_delay_ms.
// SIGHUP: read the certificates again, and look at the plugins' files. Any number of
// them that come meanwhile are one, and a signal to drain goes before them.
//
// With --workers the plugins and the streams are in processes of the same program,
// which this one starts, and which begin here as well.
//
// Tested by tests/integration/start_test.cc.
#include <fcntl.h>
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
#include "host/base/log.h"
#include "host/base/status_text.h"
#include "host/config/config.h"
#include "host/ops/probe.h"
#include "host/plugin/call_log.h"
#include "host/plugin/crash_report.h"
#include "host/server.h"
#include "host/worker.h"

namespace callout::host {
namespace {

constexpr int kExitStartError = 2;

// For each step of --probe.
constexpr uint64_t kProbeTimeoutMs = 2000;
// How long the end of the process waits for the log's reader.
constexpr uint64_t kLastLinesMs = 1000;

// Whoever started the process may have closed these. Then the next files would get
// their numbers, and what is printed would go into a socket or a signal pipe.
void OpenStandardDescriptors() {
  for (int fd = 0; fd <= 2; ++fd) {
    // The lowest number that is free, which is this one.
    if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd) _exit(kExitStartError);
  }
}

// --- Signals reach the main thread as flags and a byte in a pipe that wakes it:
// plugins have threads of their own, so that masks could not keep the signals from
// them. ---

int signal_pipe[2] = {-1, -1};
std::atomic<bool> end_at_once{true};  // but while serving
std::atomic<bool> reload_wanted{false};
std::atomic<int> drain_signal{0};  // 0: none yet
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<int>::is_always_lock_free);

void OnSignal(int number) {
  const int error = errno;
  if (number == SIGHUP) {
    reload_wanted = true;
  } else {
    // Not the default action, which does not exist for the first process of a container.
    if (end_at_once.exchange(true)) _exit(128 + number);
    drain_signal = number;
  }
  // Full is as good as written: the main thread will wake.
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

// Connections are descriptors, and the usual soft limit of 1024 is soon reached.
void RaiseDescriptorLimit() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
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

// The health command of an image: there is no other program in it.
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

int Serve(const Config& config) {
  absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(config);
  if (!server.ok()) return FailStart(server.status(), config.log_format);
  end_at_once = false;
  (*server)->Announce();
  int number = AwaitSignal();
  for (; number == SIGHUP; number = AwaitSignal()) (*server)->Reload();
  if ((*server)->Drain(/*may_delay=*/number == SIGTERM)) return 0;
  // A plugin still holds a call or a thread: nothing of what it may touch can be destroyed.
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

// As a supervisor starts it.
int MainOfWorker(const WorkerDescriptors& descriptors, int argc, const char* const* argv) {
  absl::StatusOr<Config> config = ParseConfig(argc, argv, OptionSet::kNoEnvironment);
  if (!config.ok()) return FailStart(config.status(), LogFormat::kText);
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
  if (config->command == Config::Command::kProbe) return Probe(*config);
  ApplyToProcess(*config);
  if (!InstallSignals()) {
    return FailStart(absl::UnavailableError("no free file descriptor; raise ulimit -n"),
                     config->log_format);
  }
  if (config->command == Config::Command::kServe) return Serve(*config);
  absl::StatusOr<CheckReport> checked = CheckConfig(*config);
  if (!checked.ok()) return FailStart(checked.status(), config->log_format);
  int code = Print(checked->text);
  if (config->strict_check && checked->warnings > 0) {
    code =
        FailStart(absl::FailedPreconditionError(fmt::format(
                      "--check --strict: there were warnings ({}); mend what they name, or check "
                      "without --strict",
                      checked->warnings)),
                  config->log_format);
  }
  // Static destructors of plugins prove nothing, and some end the process.
  fflush(nullptr);
  _exit(code);
}

}  // namespace
}  // namespace callout::host

int main(int argc, char** argv) {
  callout::host::OpenStandardDescriptors();
  const int status = callout::host::Main(argc, argv);
  callout::host::FlushLog(callout::host::kLastLinesMs);
  return status;
}
