// SPDX-License-Identifier: Apache-2.0

// The channel between a supervisor and one of its workers: whole messages over a pair of connected
// sockets.
//
//   WorkerChannel channel(fd);
//   channel.Send({WorkerMessageKind::kServe, 7, ""});
//   … poll(channel.fd(), POLLIN) …
//   const bool open = channel.Read();
//   while (std::optional<WorkerMessage> message = channel.Take()) …
//
// Send may be called from any thread, the rest from one.
#ifndef CALLOUT_HOST_WORKERS_WORKER_CHANNEL_H_
#define CALLOUT_HOST_WORKERS_WORKER_CHANNEL_H_

#include <cstddef>
#include <mutex>
#include <optional>
#include <string>

#include "host/workers/worker_messages.h"

namespace callout::host {

class WorkerChannel {
 public:
  // Larger than the largest configuration and settings together.
  static constexpr size_t kMessageBytesMax = 67108864;
  // Time for the other end to receive a message.
  static constexpr int kSendTimeoutMs = 10000;

  // Takes over a stream socket.
  explicit WorkerChannel(int fd);
  ~WorkerChannel();
  WorkerChannel(const WorkerChannel&) = delete;
  WorkerChannel& operator=(const WorkerChannel&) = delete;

  // False if the other end has gone or does not read; the channel is then closed in both
  // directions.
  bool Send(const WorkerMessage& message);

  // Reads what has arrived, without blocking. False if no more will arrive or if it is not a
  // message.
  bool Read();
  // The next message that has arrived completely.
  std::optional<WorkerMessage> Take();

  int fd() const { return fd_; }

 private:
  const int fd_;
  std::mutex send_mutex_;  // one message at a time
  std::string received_;
  size_t taken_ = 0;  // bytes of it
  bool broken_ = false;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_WORKERS_WORKER_CHANNEL_H_
