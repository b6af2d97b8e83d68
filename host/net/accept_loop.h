// SPDX-License-Identifier: Apache-2.0

// One thread that accepts the connections of all listening sockets and passes
// each to its listener's callback.
//
// If descriptors or memory run out, it pauses and leaves the clients in the kernel's backlog. It
// retries after 10 ms, then after longer pauses of up to 500 ms, and needs no other event for that.
// The only descriptor that it owns is the one that wakes it.
//
//   AcceptLoop loop(&metrics, [](const absl::Status& status) { … log … });
//   loop.Start({{.name = "secure", .fd = socket.fd(), .on_connection = …}});
//   …
//   loop.Stop();      // then close the sockets
//
// If other processes accept from the same sockets, each loop waits before it accepts, the longer
// the more connections its process has. So the one with the fewest comes first, without a word
// between them; the kernel alone would give nearly all to the process that wakes first.
//
// Metrics: callout_connections_accepted_total{listener},
// callout_connections_refused_total{listener}, callout_accept_pauses_total.
//
// Start, Stop and the destructor belong to one thread; the callbacks run on the
// loop's and must not block.
#ifndef CALLOUT_HOST_NET_ACCEPT_LOOP_H_
#define CALLOUT_HOST_NET_ACCEPT_LOOP_H_

#include <chrono>
#include <cstddef>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "host/metrics/metrics.h"

namespace callout::host {

class AcceptLoop {
 public:
  struct Listener {
    std::string name;  // the metrics' label
    // Listening and non-blocking. Owned by the caller, who keeps it open until
    // Stop has returned.
    int fd = -1;
    // Gets each connection and owns it: non-blocking, close-on-exec, with TCP_NODELAY.
    std::function<void(int fd)> on_connection;
    // Called for each connection, which the loop still owns. If it returns false, the loop closes
    // the connection at once, so that the client tries another host instead of waiting. May be
    // null.
    std::function<bool(int fd)> may_accept;
    // Of the descriptors that the process may have, so many are left to others: without
    // them accepting pauses.
    int descriptors_left = 0;
  };

  // Called once when accepting pauses, and not again before it has resumed.
  using Report = std::function<void(const absl::Status&)>;

  // What a loop that shares its sockets does with `connections` open.
  struct Share {
    std::chrono::microseconds wait;  // before it accepts; at most 3 ms
    int connections_max;             // that it then accepts from one socket
  };
  static Share ShareOf(size_t connections);

  // `connections`: how many are open, for a loop that shares its sockets with other processes;
  // null: it shares them with none. Called on the loop's thread.
  AcceptLoop(Metrics* metrics, Report report, std::function<size_t()> connections = nullptr);
  ~AcceptLoop();
  AcceptLoop(const AcceptLoop&) = delete;
  AcceptLoop& operator=(const AcceptLoop&) = delete;

  // Call it once. UNAVAILABLE if there is no descriptor to wake the loop; also
  // errors of Metrics.
  absl::Status Start(std::vector<Listener> listeners);

  // Accepts the connections that are already in the backlog, so that these clients get a response
  // instead of a reset, and ends the thread. Close the listening sockets afterwards, since they
  // keep queueing. Can be called twice.
  void Stop();

 private:
  struct Counted {
    Listener listener;
    Metrics::Id accepted;
    Metrics::Id refused;
  };

  void Run();
  int AcceptShare();
  bool LeavesDescriptors(int count);
  int AcceptSome(const Counted& counted, int connections_max);
  int AcceptFromAll(int connections_max);

  Metrics* const metrics_;
  const Report report_;
  const std::function<size_t()> connections_;
  std::vector<Counted> listeners_;
  Metrics::Id pauses_ = 0;
  int wake_fd_ = -1;
  int last_fd_ = 0;  // accepted last
  std::thread thread_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_NET_ACCEPT_LOOP_H_
