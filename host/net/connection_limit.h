// Counts the connections that were handed to a transport, and says when there
// are too many, of all clients or of one IP address.
//
// The transport closes them and tells nobody, gRPC at least. So a connection is
// remembered by its descriptor and the socket's inode, and those whose
// descriptor is closed, or is another socket by now, are forgotten when the
// limit is reached or as many again have been added, and by Count.
//
//   ConnectionLimit limit(config.connections_max, per_peer_max);
//   {… .on_connection = [&](int fd) { limit.Add(fd); transport->Handle(fd); },
//      .may_accept = [&](int fd) { return limit.MayAdd(fd); }}
//
// Any thread.
#ifndef CALLOUT_HOST_NET_CONNECTION_LIMIT_H_
#define CALLOUT_HOST_NET_CONNECTION_LIMIT_H_

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <vector>

namespace callout::host {

class ConnectionLimit {
 public:
  // 0: no limit. Without a limit for each IP address one may still have no more than an
  // eighth of `connections_max`, and no less than 8, once more than half of them are
  // open: so it cannot keep everybody else out, and a lone client is not held up.
  explicit ConnectionLimit(size_t connections_max, size_t per_peer_max = 0)
      : connections_max_(connections_max), per_peer_max_(per_peer_max) {}
  ConnectionLimit(const ConnectionLimit&) = delete;
  ConnectionLimit& operator=(const ConnectionLimit&) = delete;

  // Looks at each connection's descriptor at most every kSweepNs, so that a
  // flood of clients to refuse costs no more than that. Clients of unix sockets
  // have no address, and count for the whole only.
  bool MayAdd(int fd);
  // An open socket, still the caller's.
  void Add(int fd);
  // Open connections, by a look at each.
  size_t Count();

 private:
  static constexpr uint64_t kSweepNs = 10'000'000;

  // An IPv6 address, or an IPv4 one as IPv6 writes it; zeros: none.
  using Peer = std::array<unsigned char, 16>;
  struct Connection {
    int fd;
    ino_t inode;
    Peer peer;
  };
  static Peer PeerOf(int fd);
  bool IsFull(const Peer& peer) const;  // under mutex_
  size_t MaxPerPeer() const;            // under mutex_
  void Sweep();                         // under mutex_

  const size_t connections_max_;
  const size_t per_peer_max_;
  std::mutex mutex_;  // guards the following
  std::vector<Connection> connections_;
  std::map<Peer, size_t> per_peer_;  // how many of them
  uint64_t next_sweep_ns_ = 0;
  size_t next_sweep_size_ = 64;  // where there is no limit to sweep at
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_NET_CONNECTION_LIMIT_H_
