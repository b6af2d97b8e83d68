// SPDX-License-Identifier: Apache-2.0

#include "host/tester/child.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <fstream>
#include <sstream>
#include <thread>

namespace callout::host {
namespace {

constexpr std::chrono::milliseconds kPause{5};
constexpr int kPausesMax = 1000;  // until SIGKILL
constexpr size_t kShownBytes = 2000;

}  // namespace

absl::StatusOr<std::unique_ptr<Child>> Child::Start(const std::vector<std::string>& command,
                                                    const std::string& log_path) {
  std::vector<char*> arguments;
  for (const std::string& argument : command)
    arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, log_path.c_str(),
                                   O_WRONLY | O_CREAT | O_APPEND, 0600);
  posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  pid_t pid = 0;
  const int error = posix_spawnp(&pid, arguments[0], &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error == 0) return std::unique_ptr<Child>(new Child(pid, log_path));
  return absl::UnavailableError(fmt::format("cannot start {}: {}", command[0], strerror(error)));
}

bool Child::IsRunning() {
  if (pid_ != 0 && waitpid(pid_, nullptr, WNOHANG) != 0) pid_ = 0;
  return pid_ != 0;
}

Child::~Child() {
  if (!IsRunning()) return;
  kill(pid_, SIGTERM);
  for (int i = 0; i < kPausesMax && IsRunning(); ++i) std::this_thread::sleep_for(kPause);
  if (!IsRunning()) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

std::string Child::LastLines() const {
  std::stringstream text;
  text << std::ifstream(log_path_).rdbuf();
  const std::string all = text.str();
  return all.size() <= kShownBytes ? all : all.substr(all.size() - kShownBytes);
}

}  // namespace callout::host
