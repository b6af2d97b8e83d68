// SPDX-License-Identifier: Apache-2.0

#include "child_process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

namespace callout::tests {
namespace {

// Runs in the child of a process with threads: system calls only.
[[noreturn]] void Become(char* const* argv, int output) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  dup2(output, STDOUT_FILENO);
  dup2(output, STDERR_FILENO);
  execv(argv[0], argv);
  constexpr char kMessage[] = "cannot be executed\n";
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, kMessage, sizeof(kMessage) - 1);
  _exit(127);
}

std::optional<std::string> FindLine(const std::string& text, const std::string& prefix) {
  for (size_t at = 0; (at = text.find(prefix, at)) != std::string::npos; ++at) {
    const size_t end = text.find('\n', at);
    if (end == std::string::npos) return std::nullopt;  // not all of it is there
    if (at == 0 || text[at - 1] == '\n' || text[at - 1] == ' ') {
      return text.substr(at + prefix.size(), end - at - prefix.size());
    }
  }
  return std::nullopt;
}

}  // namespace

ChildProcess::ChildProcess(std::vector<std::string> command) : name_(command.front()) {
  int ends[2] = {-1, -1};
  if (pipe2(ends, O_CLOEXEC) != 0) {
    ADD_FAILURE() << "pipe2: " << strerror(errno);
    return;
  }
  read_end_ = host::Descriptor(ends[0]);
  host::Descriptor write_end(ends[1]);
  std::vector<char*> argv;
  for (std::string& word : command) argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_ = fork();
  if (pid_ == 0) Become(argv.data(), write_end.get());
  EXPECT_GT(pid_, 0) << "fork: " << strerror(errno);
  collector_ = std::thread([this] { Collect(); });
}

ChildProcess::~ChildProcess() {
  if (running()) {
    kill(pid_, SIGKILL);
    Await();
  }
  if (collector_.joinable()) collector_.join();
}

void ChildProcess::Collect() {
  char buffer[4096];
  for (;;) {
    const ssize_t size = read(read_end_.get(), buffer, sizeof(buffer));
    if (size < 0 && errno == EINTR) continue;
    output_.Update([&](Collected& output) {
      if (size > 0) output.text.append(buffer, static_cast<size_t>(size));
      output.ended = size <= 0;
    });
    if (size <= 0) return;
  }
}

std::optional<std::string> ChildProcess::AwaitLine(const std::string& prefix) {
  std::optional<std::string> line;
  const bool in_time = output_.Await([&](const Collected& output) {
    line = FindLine(output.text, prefix);
    return line.has_value() || output.ended;
  });
  if (!line.has_value()) {
    ADD_FAILURE() << name_ << (in_time ? " ended" : " went on") << " without a line \"" << prefix
                  << "…\"; it printed:\n"
                  << Output();
  }
  return line;
}

bool ChildProcess::running() {
  if (pid_ <= 0 || exit_status_.has_value()) return false;
  int status = 0;
  if (waitpid(pid_, &status, WNOHANG) == 0) return true;
  exit_status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return false;
}

int ChildProcess::Terminate() {
  if (running()) kill(pid_, SIGTERM);
  return AwaitEnd();
}

int ChildProcess::AwaitEnd() {
  if (!output_.Await([](const Collected& output) { return output.ended; })) {
    ADD_FAILURE() << name_ << " does not end; it printed:\n" << Output();
    kill(pid_, SIGKILL);
  }
  return Await();
}

int ChildProcess::Await() {
  if (!exit_status_.has_value() && pid_ > 0) {
    int status = 0;
    while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    exit_status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  return exit_status_.value_or(-1);
}

bool Poll(const std::function<bool()>& done) {
  const auto give_up =
      std::chrono::steady_clock::now() + std::chrono::milliseconds(host::kGiveUpMs);
  while (!done()) {
    if (std::chrono::steady_clock::now() > give_up) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

}  // namespace callout::tests
