// callout-host: parse the options, serve until a signal, drain, exit.
//
// SIGTERM, SIGINT: drain, exit 0; a second one ends the process at once.
// SIGHUP: read the certificates again, and look at the plugins' files.
//
// With --workers the plugins and the streams are in processes of the same program,
// which this one starts, and which begin here as well.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>

#include "absl/synchronization/mutex.h"
#include "host/base/log.h"
#include "host/base/status_text.h"
#include "host/config/config.h"
#include "host/plugin/call_log.h"
#include "host/plugin/crash_report.h"
#include "host/server.h"
#include "host/worker.h"

namespace callout::host {
namespace {

constexpr int kExitStartError = 2;

// --- Signals reach the main thread as bytes in a pipe: plugins have threads of
// their own, so that masks could not keep the signals from them. ---

int signal_pipe[2] = {-1, -1};
std::atomic<bool> end_at_once{true};  // but while serving
static_assert(std::atomic<bool>::is_always_lock_free);

void OnSignal(int number) {
  const int error = errno;
  // Not the default action, which does not exist for the first process of a container.
  if (number != SIGHUP && end_at_once.exchange(true)) _exit(128 + number);
  const char byte = number == SIGHUP ? 'r' : 'd';
  [[maybe_unused]] const ssize_t written = write(signal_pipe[1], &byte, 1);
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

// True: read the configuration again; false: drain.
bool AwaitSignal() {
  for (;;) {
    pollfd readable = {signal_pipe[0], POLLIN, 0};
    poll(&readable, 1, -1);
    char byte = 0;
    if (read(signal_pipe[0], &byte, 1) == 1) return byte == 'r';
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
    fprintf(stderr, "callout-host: %s\n", text.c_str());
  }
  return kExitStartError;
}

int Print(const std::string& text) {
  fputs(text.c_str(), stdout);
  return fflush(stdout) == 0 ? 0 : kExitStartError;
}

int Serve(const Config& config) {
  absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(config);
  if (!server.ok()) return FailStart(server.status(), config.log_format);
  end_at_once = false;
  (*server)->Announce();
  while (AwaitSignal()) (*server)->Reload();
  if ((*server)->Drain()) return 0;
  // A plugin still holds a call: nothing of what it may touch can be destroyed.
  fflush(nullptr);
  _exit(0);
}

void ApplyToProcess(const Config& config) {
  SetLogLevel(config.log_level);
  SetLogFormat(config.log_format);
  SetRedactedHeaders(config.redacted_headers);
  RaiseDescriptorLimit();
  ReportCrashes();
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
  ApplyToProcess(*config);
  if (!InstallSignals()) {
    return FailStart(absl::UnavailableError("no free file descriptor: raise ulimit -n"),
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

int main(int argc, char** argv) { return callout::host::Main(argc, argv); }
