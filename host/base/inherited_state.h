// SPDX-License-Identifier: Apache-2.0

// What a process has from whoever started it, put in order before anything else: shells,
// service managers and test runners pass on more than they mean to.
//
//   int main() { if (!PutInheritedStateInOrder()) _exit(2);  … }
//
// - Standard descriptors that are closed are opened on /dev/null. Else the next files
//   would get their numbers, and what is printed would go into a socket or a pipe.
// - No signal is blocked: SIGTERM would not end the process, and a crash would leave no
//   report. An ignored SIGCHLD would take the ends of workers away.
// - A file that may not grow (ulimit -f) is an error to whoever writes, and not the end
//   of the process by SIGXFSZ.
// - Timers that end the process (alarm) are stopped.
// - The umask leaves the owner's own bits.
//
// Once, while there is one thread.
//
// Tested by tests/integration/start_test.cc.
#ifndef CALLOUT_HOST_BASE_INHERITED_STATE_H_
#define CALLOUT_HOST_BASE_INHERITED_STATE_H_

namespace callout::host {

// False if /dev/null cannot be opened where it is needed.
bool PutInheritedStateInOrder();

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_INHERITED_STATE_H_
