// SPDX-License-Identifier: Apache-2.0

// A program that a test starts and stops, with what it prints.
//
//   ChildProcess host({path, "--plaintext_address=127.0.0.1:0"});
//   std::optional<std::string> line = host.AwaitLine("listening plaintext ");
//   host.Terminate();                        // SIGTERM, and waits
//
// Standard output and error are collected together by a thread of its own. The
// program is killed with the object, and should the test itself die first.
//
// For one thread, the one that made it, which has to live as long; Output and
// AwaitLine may be called from any.
#ifndef CALLOUT_TESTS_ENVOY_CHILD_PROCESS_H_
#define CALLOUT_TESTS_ENVOY_CHILD_PROCESS_H_

#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "../host/sockets.h"

namespace callout::tests {

// Asks again and again, for a program can only be asked whether it is ready yet. False
// if the time is up.
bool Poll(const std::function<bool()>& done);

class ChildProcess {
 public:
  // Fails the test if the program cannot be started.
  explicit ChildProcess(std::vector<std::string> command);
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  // What follows `prefix` in the first line that begins with it or has it after
  // a blank (a log line's text). Fails the test, showing the output, if the
  // program ends or the time is up before there is one.
  std::optional<std::string> AwaitLine(const std::string& prefix);

  std::string Output() { return output_.Get().text; }
  bool running();
  pid_t pid() const { return pid_; }

  // Asks the program to end and waits for it. Its exit status as the shell
  // would give it; fails the test if it takes too long.
  int Terminate();
  // Waits for its end without asking.
  int AwaitEnd();

 private:
  struct Collected {
    std::string text;
    bool ended = false;
  };

  void Collect();
  int Await();

  const std::string name_;
  host::Descriptor read_end_;
  pid_t pid_ = -1;
  std::optional<int> exit_status_;
  host::Watched<Collected> output_;
  std::thread collector_;
};

}  // namespace callout::tests

#endif  // CALLOUT_TESTS_ENVOY_CHILD_PROCESS_H_
