#include "host/connection_limit.h"

#include <sys/stat.h>

#include <algorithm>

#include "host/stream_environment.h"

namespace callout::host {
namespace {

// 0: the descriptor is closed.
ino_t InodeOf(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 ? status.st_ino : 0;
}

}  // namespace

bool ConnectionLimit::MayAdd() {
  if (connections_max_ == 0) return true;
  std::lock_guard<std::mutex> lock(mutex_);
  if (connections_.size() >= connections_max_ && MonotonicNs() >= next_sweep_ns_) Sweep();
  return connections_.size() < connections_max_;
}

void ConnectionLimit::Add(int fd) {
  const ino_t inode = InodeOf(fd);
  std::lock_guard<std::mutex> lock(mutex_);
  if (connections_.size() >= next_sweep_size_) Sweep();
  connections_.push_back({fd, inode});
}

size_t ConnectionLimit::Count() {
  std::lock_guard<std::mutex> lock(mutex_);
  Sweep();
  return connections_.size();
}

void ConnectionLimit::Sweep() {
  std::erase_if(connections_, [](const Connection& connection) {
    return connection.inode == 0 || InodeOf(connection.fd) != connection.inode;
  });
  next_sweep_size_ = std::max<size_t>(64, 2 * connections_.size());
  next_sweep_ns_ = MonotonicNs() + kSweepNs;
}

}  // namespace callout::host
