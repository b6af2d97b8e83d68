// SPDX-License-Identifier: Apache-2.0

// Counts the connections of a transport, and says when there are too many, in total or of one IP
// address.
//
// gRPC does not report when it closes a connection. So the limit remembers a connection by its
// descriptor and its socket's inode, and forgets it once the descriptor is closed or refers to
// another socket. It checks that when the limit is reached, when the number of connections has
// doubled, and in Count.
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
  // 0: no limit. Without a limit per IP address, an address gets at most an eighth of
  // `connections_max`, but at least 8, once more than half of them are open: so one address cannot
  // exclude all others, and a lone client is not limited.
  explicit ConnectionLimit(size_t connections_max, size_t per_peer_max = 0)
      : connections_max_(connections_max), per_peer_max_(per_peer_max) {}
  ConnectionLimit(const ConnectionLimit&) = delete;
  ConnectionLimit& operator=(const ConnectionLimit&) = delete;

  // Checks the descriptors at most every kSweepNs, to limit the cost of a flood of refused clients.
  // Clients of unix sockets have no address and only count towards the total.
  bool MayAdd(int fd);
  // An open socket, which the caller still owns.
  void Add(int fd);
  // The number of open connections; checks each.
  size_t Count();
  // The same, checked at most every kSweepNs.
  size_t CountLately();

 private:
  static constexpr uint64_t kSweepNs = 10'000'000;

  // An IPv6 address, or an IPv4 address in IPv6 form; zeros: none.
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
