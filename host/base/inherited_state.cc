// SPDX-License-Identifier: Apache-2.0

#include "host/base/inherited_state.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

namespace callout::host {
namespace {

bool OpenStandardDescriptors() {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
    // The lowest number that is free, which is this one.
    if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd) return false;
  }
  return true;
}

void ResetSignals() {
  signal(SIGCHLD, SIG_DFL);
  // A handler that does nothing: unlike SIG_IGN, not for the programs that plugins start.
  struct sigaction action = {};
  action.sa_handler = [](int) {};
  action.sa_flags = SA_RESTART | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  sigaction(SIGXFSZ, &action, nullptr);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

void StopTimers() {
  const itimerval never = {};
  setitimer(ITIMER_REAL, &never, nullptr);
  setitimer(ITIMER_VIRTUAL, &never, nullptr);
  setitimer(ITIMER_PROF, &never, nullptr);
}

}  // namespace

bool PutInheritedStateInOrder() {
  const bool opened = OpenStandardDescriptors();
  StopTimers();
  ResetSignals();
  constexpr mode_t kOwner = 0700;
  umask(umask(kOwner) & ~kOwner);
  return opened;
}

}  // namespace callout::host
