// SPDX-License-Identifier: Apache-2.0

// How many stream places each peer has, so that none takes all of them.
//
// The places of a process are --max_live_streams. While half of them are free everybody
// gets what it asks for: a lone sidecar is one peer. Above half a new stream is refused
// to a peer, or to a connection, that has its share already.
//
//   PeerTable table;                                        // one for each process
//   std::shared_ptr<PeerPlaces> places = table.Of(address); // one for each connection
//   PeerCount count(places, batch);                         // one for each loop and peer
//   count.Add();  …  count.Remove();
//
// A peer is an IP address. Those of unix sockets have none, and no share as peers.
//
// Tested by tests/host/transport/h2/h2_connection_test.cc.
#ifndef CALLOUT_HOST_TRANSPORT_PEER_PLACES_H_
#define CALLOUT_HOST_TRANSPORT_PEER_PLACES_H_

#include <atomic>
#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

namespace callout::host {

// What one peer has, over all threads. Any thread.
struct PeerPlaces {
  std::atomic<ptrdiff_t> live{0};
};

// Any thread.
class PeerTable {
 public:
  // The places of the peer at `address`, "ipv4:10.0.0.7:41312", "ipv6:[::1]:41312" or
  // other text; null for what has no IP address.
  std::shared_ptr<PeerPlaces> Of(std::string_view address) {
    if (!address.starts_with("ipv4:") && !address.starts_with("ipv6:")) return nullptr;
    const std::string peer(address.substr(0, address.rfind(':')));
    std::lock_guard<std::mutex> lock(mutex_);
    if (places_.size() >= next_sweep_size_) Sweep();
    std::weak_ptr<PeerPlaces>& known = places_[peer];
    std::shared_ptr<PeerPlaces> places = known.lock();
    if (places == nullptr) known = places = std::make_shared<PeerPlaces>();
    return places;
  }

 private:
  void Sweep() {
    std::erase_if(places_, [](const auto& entry) { return entry.second.expired(); });
    next_sweep_size_ = 64 + 2 * places_.size();
  }

  std::mutex mutex_;  // guards the following
  std::map<std::string, std::weak_ptr<PeerPlaces>> places_;
  size_t next_sweep_size_ = 64;
};

// What one peer has on one thread. It tells the others by the batch, so that streams
// that come and go touch no memory that threads share. One thread's.
class PeerCount {
 public:
  PeerCount(std::shared_ptr<PeerPlaces> places, size_t batch)
      : places_(std::move(places)), batch_(static_cast<ptrdiff_t>(batch)) {}
  ~PeerCount() { Tell(); }
  PeerCount(const PeerCount&) = delete;
  PeerCount& operator=(const PeerCount&) = delete;

  void Add() {
    if (++untold_ > batch_) Tell();
  }
  void Remove() {
    if (--untold_ < -batch_) Tell();
  }
  // Those of the peer in the process, as far as threads have told.
  size_t live() const {
    const ptrdiff_t live = places_->live.load(std::memory_order_relaxed) + untold_;
    return live < 0 ? 0 : static_cast<size_t>(live);
  }

 private:
  void Tell() { places_->live.fetch_add(std::exchange(untold_, 0), std::memory_order_relaxed); }

  const std::shared_ptr<PeerPlaces> places_;
  const ptrdiff_t batch_;
  ptrdiff_t untold_ = 0;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_TRANSPORT_PEER_PLACES_H_
