// One thread that accepts the connections of all listening sockets and hands
// each to its listener's callback.
//
// It outlives what ends other accept loops: out of descriptors or memory it
// stops accepting, leaves clients waiting in the kernel's queue, looks again
// after 10 ms and then ever more rarely, up to 500 ms, and serves them when
// there is room, with no other event needed. It keeps no descriptor of its own
// but the one that wakes it.
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
    // Listening and non-blocking. Stays the caller's, who keeps it open until
    // Stop has returned.
    int fd = -1;
    // Gets each connection, and owns it: non-blocking, close-on-exec, with
    // TCP_NODELAY.
    std::function<void(int fd)> on_connection;
    // Asked for each connection, which is the loop's still; where it says no, the
    // connection is closed at once, so that the client tries elsewhere instead of
    // waiting. May be null.
    std::function<bool(int fd)> may_accept;
  };

  // Told once when accepting has to pause, not again before it has resumed.
  using Report = std::function<void(const absl::Status&)>;

  AcceptLoop(Metrics* metrics, Report report);
  ~AcceptLoop();
  AcceptLoop(const AcceptLoop&) = delete;
  AcceptLoop& operator=(const AcceptLoop&) = delete;

  // Once. UNAVAILABLE if the system gives no descriptor to wake the loop with;
  // or Metrics' own reason.
  absl::Status Start(std::vector<Listener> listeners);

  // Accepts and hands over what the kernel has queued already, so that those
  // clients hear from the server and not of a reset, and ends the thread. Close
  // the listening sockets after it: they go on queueing. Harmless twice.
  void Stop();

 private:
  struct Counted {
    Listener listener;
    Metrics::Id accepted;
    Metrics::Id refused;
  };

  void Run();
  int AcceptSome(const Counted& counted, int connections_max);
  int AcceptFromAll(int connections_max);

  Metrics* const metrics_;
  const Report report_;
  std::vector<Counted> listeners_;
  Metrics::Id pauses_ = 0;
  int wake_fd_ = -1;
  std::thread thread_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_NET_ACCEPT_LOOP_H_
