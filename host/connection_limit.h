// Counts the connections that were handed to a transport, and says when there
// are too many.
//
// The transport closes them and tells nobody, gRPC at least. So a connection is
// remembered by its descriptor and the socket's inode, and those whose
// descriptor is closed, or is another socket by now, are forgotten when the
// limit is reached or as many again have been added, and by Count.
//
//   ConnectionLimit limit(config.connections_max);
//   {… .on_connection = [&](int fd) { limit.Add(fd); transport->Handle(fd); },
//      .may_accept = [&] { return limit.MayAdd(); }}
//
// Any thread.
#ifndef CALLOUT_HOST_CONNECTION_LIMIT_H_
#define CALLOUT_HOST_CONNECTION_LIMIT_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

namespace callout::host {

class ConnectionLimit {
 public:
  // 0: no limit.
  explicit ConnectionLimit(size_t connections_max) : connections_max_(connections_max) {}
  ConnectionLimit(const ConnectionLimit&) = delete;
  ConnectionLimit& operator=(const ConnectionLimit&) = delete;

  // Looks at each connection's descriptor at most every kSweepNs, so that a
  // flood of clients to refuse costs no more than that.
  bool MayAdd();
  // An open socket, still the caller's.
  void Add(int fd);
  // Open connections, by a look at each.
  size_t Count();

 private:
  static constexpr uint64_t kSweepNs = 10'000'000;

  struct Connection {
    int fd;
    ino_t inode;
  };
  void Sweep();  // under mutex_

  const size_t connections_max_;
  std::mutex mutex_;  // guards the following
  std::vector<Connection> connections_;
  uint64_t next_sweep_ns_ = 0;
  size_t next_sweep_size_ = 64;  // where there is no limit to sweep at
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_CONNECTION_LIMIT_H_
