// SPDX-License-Identifier: Apache-2.0

#include "host/net/connection_limit.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "host/base/clock.h"

namespace callout::host {
namespace {

// 0: the descriptor is closed.
ino_t InodeOf(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 ? status.st_ino : 0;
}

}  // namespace

ConnectionLimit::Peer ConnectionLimit::PeerOf(int fd) {
  Peer peer{};
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return peer;
  if (address.ss_family == AF_INET6) {
    std::memcpy(peer.data(), &reinterpret_cast<sockaddr_in6*>(&address)->sin6_addr, 16);
  } else if (address.ss_family == AF_INET) {
    peer[10] = peer[11] = 0xff;
    std::memcpy(peer.data() + 12, &reinterpret_cast<sockaddr_in*>(&address)->sin_addr, 4);
  }
  return peer;
}

size_t ConnectionLimit::MaxPerPeer() const {
  constexpr size_t kShareMin = 8;
  if (per_peer_max_ != 0) return per_peer_max_;
  const bool scarce = connections_max_ != 0 && connections_.size() >= connections_max_ / 2;
  return scarce ? std::max(connections_max_ / 8, kShareMin) : SIZE_MAX;
}

bool ConnectionLimit::IsFull(const Peer& peer) const {
  if (connections_max_ != 0 && connections_.size() >= connections_max_) return true;
  if (peer == Peer{}) return false;
  const auto of_peer = per_peer_.find(peer);
  return of_peer != per_peer_.end() && of_peer->second >= MaxPerPeer();
}

bool ConnectionLimit::MayAdd(int fd) {
  if (connections_max_ == 0 && per_peer_max_ == 0) return true;
  const Peer peer = PeerOf(fd);
  std::lock_guard<std::mutex> lock(mutex_);
  if (!IsFull(peer)) return true;
  if (MonotonicNs() < next_sweep_ns_) return false;
  Sweep();
  return !IsFull(peer);
}

void ConnectionLimit::Add(int fd) {
  const ino_t inode = InodeOf(fd);
  const Peer peer = PeerOf(fd);
  std::lock_guard<std::mutex> lock(mutex_);
  if (connections_.size() >= next_sweep_size_) Sweep();
  connections_.push_back({fd, inode, peer});
  ++per_peer_[peer];
}

size_t ConnectionLimit::Count() {
  std::lock_guard<std::mutex> lock(mutex_);
  Sweep();
  return connections_.size();
}

size_t ConnectionLimit::CountLately() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (MonotonicNs() >= next_sweep_ns_) Sweep();
  return connections_.size();
}

void ConnectionLimit::Sweep() {
  std::erase_if(connections_, [](const Connection& connection) {
    return connection.inode == 0 || InodeOf(connection.fd) != connection.inode;
  });
  per_peer_.clear();
  for (const Connection& connection : connections_) ++per_peer_[connection.peer];
  next_sweep_size_ = std::max<size_t>(64, 2 * connections_.size());
  next_sweep_ns_ = MonotonicNs() + kSweepNs;
}

}  // namespace callout::host
