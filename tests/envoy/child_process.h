// SPDX-License-Identifier: Apache-2.0

// A program that a test starts and stops, with what it prints.
//
//   ChildProcess host({path, "--plaintext_address=127.0.0.1:0"});
//   std::optional<std::string> line = host.AwaitLine("listening plaintext ");
//   host.Terminate();                        // SIGTERM, and waits
//
// A thread of its own collects standard output and error together. The program is killed with the
// object, or when the test dies.
//
// It belongs to the thread that made it, which must live as long. Any thread may call Output and
// AwaitLine.
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

  // The rest of the first line that begins with `prefix` or has it after a blank (the text of a log
  // line). Fails the test, with the output, if the program ends or the time is up before.
  std::optional<std::string> AwaitLine(const std::string& prefix);

  std::string Output() { return output_.Get().text; }
  bool running();
  pid_t pid() const { return pid_; }

  // Sends SIGTERM and waits for the end. Returns the exit status as a shell does; fails the test if
  // it takes too long.
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
