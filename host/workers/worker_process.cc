// SPDX-License-Identifier: Apache-2.0

#include "host/workers/worker_process.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iterator>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "host/base/plain_codec.h"

// glibc 2.36 does not define it.
extern "C" {
#include <sys/pidfd.h>
}

namespace callout::host {
namespace {

// Not the path of this program: another version may be there by now.
constexpr char kOwnFile[] = "/proc/self/exe";

absl::Status StartError(int error) {
  return absl::UnavailableError(fmt::format("starting a worker: {}", strerror(error)));
}

bool ToDescriptor(std::string_view text, int* fd) {
  return absl::SimpleAtoi({text.data(), text.size()}, fd) && *fd >= 0;
}

// The child's id, or a negative errno.
pid_t Spawn(const WorkerProcess::Launch& launch, int channel) {
  std::vector<std::string> arguments = {
      "callout-host",
      ToWorkerArgument({channel, launch.hooks, launch.metrics, launch.sockets, launch.number})};
  arguments.insert(arguments.end(), launch.options.begin(), launch.options.end());
  std::vector<char*> argv;
  argv.reserve(arguments.size() + 1);
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  if (const int error = posix_spawn_file_actions_init(&actions); error != 0) return -error;
  // Duplicates each descriptor onto itself, which makes the child (only) inherit it.
  int error = posix_spawn_file_actions_adddup2(&actions, channel, channel);
  if (error == 0) error = posix_spawn_file_actions_adddup2(&actions, launch.hooks, launch.hooks);
  if (error == 0) {
    error = posix_spawn_file_actions_adddup2(&actions, launch.metrics, launch.metrics);
  }
  for (const TrafficSocket& socket : launch.sockets) {
    if (error == 0) error = posix_spawn_file_actions_adddup2(&actions, socket.fd, socket.fd);
  }
  pid_t pid = -1;
  if (error == 0) error = posix_spawn(&pid, kOwnFile, &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  return error == 0 ? pid : -error;
}

}  // namespace

std::string ToWorkerArgument(const WorkerDescriptors& descriptors) {
  std::string argument = fmt::format("{}{},{},{},{}", kWorkerArgument, descriptors.channel,
                                     descriptors.hooks, descriptors.metrics, descriptors.number);
  for (const TrafficSocket& socket : descriptors.sockets) {
    argument += fmt::format(",{}:{}", socket.name, socket.fd);
  }
  return argument;
}

std::optional<WorkerDescriptors> ParseWorkerArgument(std::string_view argument) {
  if (!argument.starts_with(kWorkerArgument)) return std::nullopt;
  argument.remove_prefix(kWorkerArgument.size());
  const std::vector<std::string> parts =
      absl::StrSplit(absl::string_view(argument.data(), argument.size()), ',');
  WorkerDescriptors descriptors;
  if (parts.size() < 4 || !ToDescriptor(parts[0], &descriptors.channel) ||
      !ToDescriptor(parts[1], &descriptors.hooks) ||
      !ToDescriptor(parts[2], &descriptors.metrics) ||
      !ToDescriptor(parts[3], &descriptors.number)) {
    return std::nullopt;
  }
  for (size_t i = 4; i < parts.size(); ++i) {
    const size_t colon = parts[i].find(':');
    TrafficSocket& socket = descriptors.sockets.emplace_back();
    socket.name = parts[i].substr(0, colon);
    if (colon == std::string::npos || !ToDescriptor(parts[i].substr(colon + 1), &socket.fd)) {
      return std::nullopt;
    }
  }
  return descriptors;
}

absl::StatusOr<std::unique_ptr<WorkerProcess>> WorkerProcess::Start(const Launch& launch) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return StartError(errno);
  OwnedFd ours(pair[0]);
  const OwnedFd theirs(pair[1]);
  const pid_t pid = Spawn(launch, theirs.get());
  if (pid < 0) return StartError(-pid);
  OwnedFd pid_fd(pidfd_open(pid, 0));
  if (pid_fd.get() < 0) {
    const int error = errno;
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    return StartError(error);
  }
  return std::unique_ptr<WorkerProcess>(new WorkerProcess(pid, std::move(pid_fd), std::move(ours)));
}

WorkerProcess::~WorkerProcess() {
  if (!reaped_) {
    Kill();
    Reap();
  }
  Close(absl::UnavailableError("the worker is no longer there"));
}

void WorkerProcess::Kill() const { pidfd_send_signal(pid_fd_.get(), SIGKILL, nullptr, 0); }

std::future<WorkerProcess::Reply> WorkerProcess::Ask(WorkerMessageKind kind, std::string body) {
  WorkerMessage question{kind, 0, std::move(body)};
  std::promise<Reply> promise;
  std::future<Reply> reply = promise.get_future();
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!closed_.ok()) {
      promise.set_value(closed_);
      return reply;
    }
    question.number = ++last_number_;
    pending_.emplace(question.number, Pending{kind, std::move(promise)});
  }
  // A process with a broken channel will be closed with the reason. A process that does not read is
  // of no use.
  if (!channel_.Send(question)) Kill();
  return reply;
}

void WorkerProcess::Fail(WorkerMessageKind kind, const absl::Status& status) {
  std::lock_guard<std::mutex> lock(mutex_);
  for (auto entry = pending_.begin(); entry != pending_.end();) {
    const bool is_of_kind = entry->second.kind == kind;
    if (is_of_kind) entry->second.promise.set_value(status);
    entry = is_of_kind ? pending_.erase(entry) : std::next(entry);
  }
}

void WorkerProcess::Close(const absl::Status& why) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (closed_.ok()) closed_ = why;
  for (auto& [number, pending] : pending_) pending.promise.set_value(why);
  pending_.clear();
}

void WorkerProcess::HandOut(const WorkerMessage& message) {
  std::optional<WorkerReply> response = Decode<WorkerReply>(message.body);
  std::lock_guard<std::mutex> lock(mutex_);
  const auto pending = pending_.find(message.number);
  if (pending == pending_.end()) return;
  pending->second.promise.set_value(
      response.has_value() ? BodyOf(*std::move(response))
                           : absl::InternalError("the worker's answer cannot be read"));
  pending_.erase(pending);
}

void WorkerProcess::TakeMessages(const std::function<void(const WorkerMessage&)>& on_message) {
  while (std::optional<WorkerMessage> message = channel_.Take()) {
    if (message->kind == WorkerMessageKind::kAnswer) {
      HandOut(*message);
    } else {
      on_message(*message);
    }
  }
}

int WorkerProcess::Reap() {
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  reaped_ = true;
  return status;
}

int WorkerProcess::Attend(const std::function<void(const WorkerMessage&)>& on_message) {
  // The end of the process counts, not that of the channel, since a child process of a plugin may
  // hold the channel open. Everything that the process sent before its end is still read.
  bool open = true;
  for (;;) {
    pollfd readable[] = {{pid_fd_.get(), POLLIN, 0}, {open ? channel_.fd() : -1, POLLIN, 0}};
    if (poll(readable, 2, -1) < 0) continue;
    if (readable[1].revents != 0) {
      open = channel_.Read();
      TakeMessages(on_message);
      if (!open) Kill();
    } else if (readable[0].revents != 0) {
      return Reap();
    }
  }
}

}  // namespace callout::host
