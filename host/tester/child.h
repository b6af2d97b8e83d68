// SPDX-License-Identifier: Apache-2.0

// A program that callout-test starts for --envoy, and ends.
//
//   absl::StatusOr<std::unique_ptr<Child>> envoy = Child::Start({"envoy", "-c", path}, log_path);
//   if (!(*envoy)->IsRunning()) … (*envoy)->LastLines() …
//
// It gets SIGTERM with the object, and SIGKILL if that takes too long. For one thread.
//
// Tested by tests/tester/tester_test.cc.
#ifndef CALLOUT_HOST_TESTER_CHILD_H_
#define CALLOUT_HOST_TESTER_CHILD_H_

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace callout::host {

class Child {
 public:
  // Searches PATH for a name without a slash. What the program writes goes to the file `log_path`.
  // UNAVAILABLE with the system's reason.
  static absl::StatusOr<std::unique_ptr<Child>> Start(const std::vector<std::string>& command,
                                                      const std::string& log_path);
  ~Child();
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  bool IsRunning();
  // The end of what it has written, for an error.
  std::string LastLines() const;

 private:
  Child(pid_t pid, std::string log_path) : pid_(pid), log_path_(std::move(log_path)) {}

  pid_t pid_;  // 0: it has ended
  const std::string log_path_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_TESTER_CHILD_H_
