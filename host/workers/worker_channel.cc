// SPDX-License-Identifier: Apache-2.0

#include "host/workers/worker_channel.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>

namespace callout::host {
namespace {

// Precedes each body: its size, the number, the kind.
struct Head {
  uint64_t body_size = 0;
  uint64_t number = 0;
  WorkerMessageKind kind = WorkerMessageKind::kAnswer;
};
constexpr size_t kHeadBytes = 17;

std::string ToBytes(const WorkerMessage& message) {
  const uint64_t size = message.body.size();
  std::string bytes(kHeadBytes, '\0');
  std::memcpy(bytes.data(), &size, 8);
  std::memcpy(bytes.data() + 8, &message.number, 8);
  bytes[16] = static_cast<char>(message.kind);
  return bytes + message.body;
}

Head HeadOf(const char* bytes) {
  Head head;
  std::memcpy(&head.body_size, bytes, 8);
  std::memcpy(&head.number, bytes + 8, 8);
  head.kind = static_cast<WorkerMessageKind>(bytes[16]);
  return head;
}

}  // namespace

WorkerChannel::WorkerChannel(int fd) : fd_(fd) {
  const timeval timeout = {kSendTimeoutMs / 1000, 0};
  setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
}

WorkerChannel::~WorkerChannel() { close(fd_); }

bool WorkerChannel::Send(const WorkerMessage& message) {
  const std::string bytes = ToBytes(message);
  std::string_view rest = bytes;
  std::lock_guard<std::mutex> lock(send_mutex_);
  while (!rest.empty()) {
    const ssize_t sent = send(fd_, rest.data(), rest.size(), MSG_NOSIGNAL);
    if (sent > 0) {
      rest.remove_prefix(static_cast<size_t>(sent));
    } else if (errno != EINTR) {
      // A part of it is sent already, so the channel cannot be used any more.
      shutdown(fd_, SHUT_RDWR);
      return false;
    }
  }
  return true;
}

bool WorkerChannel::Read() {
  std::array<char, 65536> buffer;
  const ssize_t size = recv(fd_, buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (size < 0) return errno == EAGAIN || errno == EINTR;
  received_.append(buffer.data(), static_cast<size_t>(size));
  return size > 0 && !broken_;
}

std::optional<WorkerMessage> WorkerChannel::Take() {
  const size_t there = received_.size() - taken_;
  const Head head = there < kHeadBytes ? Head() : HeadOf(received_.data() + taken_);
  if (head.body_size > kMessageBytesMax) {
    broken_ = true;
    shutdown(fd_, SHUT_RDWR);
  }
  if (broken_ || there < kHeadBytes || there - kHeadBytes < head.body_size) {
    received_.erase(0, std::exchange(taken_, 0));
    return std::nullopt;
  }
  WorkerMessage message;
  message.kind = head.kind;
  message.number = head.number;
  message.body = received_.substr(taken_ + kHeadBytes, head.body_size);
  taken_ += kHeadBytes + head.body_size;
  return message;
}

}  // namespace callout::host
