// SPDX-License-Identifier: Apache-2.0

#include "host/net/accept_loop.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <cstring>
#include <utility>

#include "host/net/listener.h"

#include "host/base/thread.h"

namespace callout::host {
namespace {

// Connections that the loop accepts from one socket before it turns to the others.
constexpr int kConnectionsPerTurn = 64;
constexpr int kPauseMsMin = 10;
constexpr int kPauseMsMax = 500;

// accept(2) reports errors of a connection that was queued; the next one may be
// fine.
bool IsTheConnectionsOwn(int error) {
  switch (error) {
    case EINTR:
    case ECONNABORTED:
    case EPERM:  // a firewall rule
    case EPROTO:
    case ENOPROTOOPT:
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENONET:
    case ETIMEDOUT:
      return true;
    default:
      return false;
  }
}

absl::Status PauseStatus(int error) {
  const bool no_descriptor = error == EMFILE || error == ENFILE;
  return absl::ResourceExhaustedError(
      fmt::format("accept paused; connections stay in the backlog: {}{}", strerror(error),
                  no_descriptor ? "; raise ulimit -n or lower --max_connections" : ""));
}

}  // namespace

AcceptLoop::AcceptLoop(Metrics* metrics, Report report, std::function<size_t()> connections)
    : metrics_(metrics), report_(std::move(report)), connections_(std::move(connections)) {}

// Twice as many connections are a quarter of a millisecond, which is several times what a thread
// takes to wake. Who has many may take several at once, so that a flood is not kept waiting.
AcceptLoop::Share AcceptLoop::ShareOf(size_t connections) {
  constexpr int kMicrosPerDoubling = 250;
  constexpr int kDoublingsMax = 12;
  const int doublings = std::min(static_cast<int>(std::bit_width(connections)), kDoublingsMax);
  return {std::chrono::microseconds(kMicrosPerDoubling * doublings),
          1 + static_cast<int>(std::min<size_t>(connections / 8, kConnectionsPerTurn - 1))};
}

AcceptLoop::~AcceptLoop() { Stop(); }

absl::Status AcceptLoop::Start(std::vector<Listener> listeners) {
  for (Listener& listener : listeners) {
    const Metrics::Labels labels = {{"listener", listener.name}};
    auto accepted = metrics_->Define(Metrics::Kind::kCounter, "callout_connections_accepted_total",
                                     "Connections accepted.", labels);
    if (!accepted.ok()) return accepted.status();
    auto refused = metrics_->Define(Metrics::Kind::kCounter, "callout_connections_refused_total",
                                    "Connections closed at once because of a limit.", labels);
    if (!refused.ok()) return refused.status();
    listeners_.push_back({std::move(listener), *accepted, *refused});
  }
  auto pauses = metrics_->Define(Metrics::Kind::kCounter, "callout_accept_pauses_total",
                                 "Times that accepting paused for lack of descriptors or memory.");
  if (!pauses.ok()) return pauses.status();
  pauses_ = *pauses;
  wake_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake_fd_ < 0) {
    return absl::UnavailableError(
        fmt::format("cannot start accepting connections: eventfd: {}", strerror(errno)));
  }
  absl::StatusOr<std::thread> thread = StartThread("accepting connections", [this] { Run(); });
  if (!thread.ok()) return thread.status();
  thread_ = *std::move(thread);
  return absl::OkStatus();
}

void AcceptLoop::Stop() {
  if (!thread_.joinable()) return;
  // Cannot fail: the counter is far below its maximum.
  eventfd_write(wake_fd_, 1);
  thread_.join();
  close(std::exchange(wake_fd_, -1));
}

void AcceptLoop::Run() {
  std::vector<pollfd> polled = {{wake_fd_, POLLIN, 0}};
  for (const Counted& counted : listeners_) polled.push_back({counted.listener.fd, POLLIN, 0});
  int pause_ms = 0;
  for (;;) {
    // During a pause only Stop wakes the thread, since the sockets stay readable.
    poll(polled.data(), pause_ms > 0 ? 1 : polled.size(), pause_ms > 0 ? pause_ms : -1);
    if (polled[0].revents != 0) break;
    const int error = connections_ == nullptr ? AcceptFromAll(kConnectionsPerTurn) : AcceptShare();
    if (error == 0) {
      pause_ms = 0;
      continue;
    }
    if (pause_ms == 0) {
      metrics_->Add(pauses_);
      report_(PauseStatus(error));
    }
    pause_ms = std::clamp(pause_ms * 2, kPauseMsMin, kPauseMsMax);
  }
  AcceptFromAll(ListenSocket::kBacklog);
}

// Stop wakes the thread while it waits, too.
int AcceptLoop::AcceptShare() {
  const Share share = ShareOf(connections_());
  pollfd wake = {wake_fd_, POLLIN, 0};
  const timespec wait = {0, std::chrono::nanoseconds(share.wait).count()};
  if (share.wait.count() > 0) ppoll(&wake, 1, &wait, nullptr);
  return AcceptFromAll(share.connections_max);
}

// Returns 0, or the errno that makes the loop pause.
int AcceptLoop::AcceptFromAll(int connections_max) {
  for (const Counted& counted : listeners_) {
    if (const int error = AcceptSome(counted, connections_max); error != 0) return error;
  }
  return 0;
}

// The lowest number that is free tells how many are taken below it. It is asked for only
// once numbers come near the limit.
bool AcceptLoop::LeavesDescriptors(int count) {
  rlimit limit;
  if (count == 0 || getrlimit(RLIMIT_NOFILE, &limit) != 0) return true;
  const auto most = static_cast<int64_t>(std::min<rlim_t>(limit.rlim_cur, INT_MAX)) - count;
  if (last_fd_ + 1 < most) return true;
  last_fd_ = fcntl(wake_fd_, F_DUPFD_CLOEXEC, 0);
  if (last_fd_ < 0) return false;
  close(last_fd_);
  return last_fd_ < most;
}

int AcceptLoop::AcceptSome(const Counted& counted, int connections_max) {
  for (int i = 0; i < connections_max; ++i) {
    if (!LeavesDescriptors(counted.listener.descriptors_left)) return EMFILE;
    const int fd = accept4(counted.listener.fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EAGAIN || errno == EWOULDBLOCK) return 0;
      if (IsTheConnectionsOwn(errno)) continue;
      return errno;
    }
    last_fd_ = fd;
    if (counted.listener.may_accept != nullptr && !counted.listener.may_accept(fd)) {
      metrics_->Add(counted.refused);
      close(fd);
      continue;
    }
    // Small responses must not wait for each other. This fails on unix sockets, which do not need
    // it.
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    metrics_->Add(counted.accepted);
    counted.listener.on_connection(fd);
  }
  return 0;
}

}  // namespace callout::host
