// SPDX-License-Identifier: Apache-2.0

// One thread that accepts the connections of all listening sockets and passes
// each to its listener's callback.
//
// It recovers from running out of descriptors or memory: it pauses, leaves the
// clients in the kernel's backlog, and retries after 10 ms, then less and less
// often, up to every 500 ms, without needing any other event. The only
// descriptor that it owns is the one that wakes it.
//
//   AcceptLoop loop(&metrics, [](const absl::Status& status) { … log … });
//   loop.Start({{.name = "secure", .fd = socket.fd(), .on_connection = …}});
//   …
//   loop.Stop();      // then close the sockets
//
// Metrics: callout_connections_accepted_total{listener},
// callout_connections_refused_total{listener}, callout_accept_pauses_total.
//
// Start, Stop and the destructor belong to one thread; the callbacks run on the
// loop's and must not block.
#ifndef CALLOUT_HOST_NET_ACCEPT_LOOP_H_
#define CALLOUT_HOST_NET_ACCEPT_LOOP_H_

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
    // Gets, and owns, each connection: non-blocking, close-on-exec, with
    // TCP_NODELAY.
    std::function<void(int fd)> on_connection;
    // Called for each connection, which the loop still owns. If it returns false,
    // the connection is closed at once, so that the client tries elsewhere instead
    // of waiting. May be null.
    std::function<bool(int fd)> may_accept;
    // Of the descriptors that the process may have, so many are left to others: without
    // them accepting pauses.
    int descriptors_left = 0;
  };

  // Called once when accepting pauses, and not again before it has resumed.
  using Report = std::function<void(const absl::Status&)>;

  AcceptLoop(Metrics* metrics, Report report);
  ~AcceptLoop();
  AcceptLoop(const AcceptLoop&) = delete;
  AcceptLoop& operator=(const AcceptLoop&) = delete;

  // Call it once. UNAVAILABLE if there is no descriptor to wake the loop; also
  // errors of Metrics.
  absl::Status Start(std::vector<Listener> listeners);

  // Accepts and passes on what is already in the backlog, so that these clients
  // get an answer instead of a reset, and ends the thread. Close the listening
  // sockets afterwards, since they keep queueing. Can be called twice.
  void Stop();

 private:
  struct Counted {
    Listener listener;
    Metrics::Id accepted;
    Metrics::Id refused;
  };

  void Run();
  bool LeavesDescriptors(int count);
  int AcceptSome(const Counted& counted, int connections_max);
  int AcceptFromAll(int connections_max);

  Metrics* const metrics_;
  const Report report_;
  std::vector<Counted> listeners_;
  Metrics::Id pauses_ = 0;
  int wake_fd_ = -1;
  int last_fd_ = 0;  // accepted last
  std::thread thread_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_NET_ACCEPT_LOOP_H_
