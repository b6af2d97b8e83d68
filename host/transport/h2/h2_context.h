// SPDX-License-Identifier: Apache-2.0

// What the connections of one event loop share, without any I/O of its own: the
// limits, the deadlines, the counts, the memory of RPCs, and the way for other
// threads to reach an RPC.
//
// All for the loop's thread, but for what says otherwise.
//
// Tested by tests/host/transport/h2/h2_connection_test.cc.
#ifndef CALLOUT_HOST_TRANSPORT_H2_H2_CONTEXT_H_
#define CALLOUT_HOST_TRANSPORT_H2_H2_CONTEXT_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "host/base/memory_budget.h"
#include "host/metrics/metrics.h"
#include "host/plugin/rpc_context.h"
#include "host/stream/live_count.h"
#include "host/stream/stream_environment.h"
#include "host/transport/builtin_rpcs.h"
#include "host/transport/deadlines.h"
#include "host/transport/h2/h2_guard.h"
#include "host/transport/limits.h"
#include "host/transport/mailbox.h"
#include "host/transport/peer_places.h"
#include "host/transport/stream_times.h"

namespace callout::host {

struct H2Options : TransportLimits {
  ServiceSet services = ServiceSet::kAll;
  // Messages and answers in memory for one connection; a message alone may be larger.
  size_t connection_memory_bytes_max = 67108864;
  H2Guard::Limits guard;
  uint64_t unanswered_resets_max = 1000;
  size_t loop_connections_max = 0;      // over it, the least used one goes; 0: no limit
  size_t turn_messages_max = 256;       // of a connection, before others have their turn
  size_t turn_handshakes_max = 1;       // of a loop
  uint64_t handshake_percent_max = 25;  // of a loop's time
  uint64_t keepalive_ms = 60000;        // without a byte from the peer: PING
  uint64_t keepalive_timeout_ms = 20000;
};

// The limits that end or refuse a stream, and nothing beside it; also the metric's
// label. Those on time are StreamTime's.
enum class H2StreamLimit : uint8_t {
  kPeerShare,  // --max_live_streams_per_peer
  kConnectionShare,
  kMetadata,  // --max_metadata_bytes
  kMessage,   // --max_message_bytes
  kMemory,    // --memory_budget_bytes, or the system gives none
};
inline constexpr size_t kH2StreamLimitCount = 5;

// What a turn of a loop has left for the next.
enum class H2TurnLimit : uint8_t { kMessages, kBytes, kHandshakes };
inline constexpr size_t kH2TurnLimitCount = 3;

struct H2Metrics {
  // callout_h2_connections_closed_total{reason}, callout_h2_streams_refused_total,
  // callout_h2_stream_limits_total{limit}, callout_h2_turns_cut_total{limit},
  // callout_h2_connections_drained_total, and those of StreamTimeMetrics.
  static absl::StatusOr<H2Metrics> Define(Metrics* metrics);

  std::array<Metrics::Id, kH2ReasonCount> closed{};
  std::array<Metrics::Id, kH2StreamLimitCount> stream_limits{};
  std::array<Metrics::Id, kH2TurnLimitCount> turns_cut{};
  Metrics::Id streams_refused = 0;
  Metrics::Id connections_drained = 0;
  StreamTimeMetrics times;
};

// What a deadline is for.
class H2Timed {
 public:
  virtual void OnTime(uint64_t now_ns) = 0;

 protected:
  ~H2Timed() = default;
};

class H2Call;

// Who is at the other end of a connection.
struct H2Peer {
  std::string address;   // RpcContext::peer
  std::string identity;  // RpcContext::peer_identity
  bool secure = false;
  std::shared_ptr<PeerCount> count;  // of its IP address, on this loop; null: it has none
};

// What the loops of a process share.
struct H2Shared {
  // `budget` outlives it.
  explicit H2Shared(MemoryBudget* budget) : memory(budget) {}

  MemoryBudget* const memory;
  PeerTable peers;
};

class H2Context {
 public:
  // `wake` is called on any thread, when TakePosted() has something to take.
  // Everything outlives the context.
  H2Context(const H2Options& options, StreamEnvironment* environment, const H2Metrics& metrics,
            H2Shared* shared, const std::atomic<bool>* serving, std::function<void()> wake);
  ~H2Context();
  H2Context(const H2Context&) = delete;
  H2Context& operator=(const H2Context&) = delete;

  const H2Options& options() const { return options_; }
  StreamEnvironment* environment() { return environment_; }
  const std::atomic<bool>* serving() const { return serving_; }
  void CountClosed(H2Reason reason) {
    environment_->metrics().Add(metrics_.closed[static_cast<size_t>(reason)]);
  }
  void CountRefused() { environment_->metrics().Add(metrics_.streams_refused); }
  void CountLimit(H2StreamLimit limit) {
    environment_->metrics().Add(metrics_.stream_limits[static_cast<size_t>(limit)]);
  }
  void CountCut(H2TurnLimit limit) {
    environment_->metrics().Add(metrics_.turns_cut[static_cast<size_t>(limit)]);
  }
  void CountDrained() { environment_->metrics().Add(metrics_.connections_drained); }

  // The time as of the loop's last turn, CLOCK_MONOTONIC.
  uint64_t now_ns() const { return now_ns_; }
  void SetNow(uint64_t now_ns) { now_ns_ = now_ns; }

  // How many connections have something to do in this turn of the loop. Beyond a few each
  // gets a part of what it would get alone, so that nobody waits for all the others' turns.
  void SetBusy(size_t connections) { turn_share_ = std::max<size_t>(connections / kBusyFew, 1); }
  // What a connection gets of `whole` in this turn, at least `least`.
  size_t TurnPart(size_t whole, size_t least) const {
    return std::max(whole / turn_share_, std::min(whole, least));
  }
  size_t turn_messages() const { return TurnPart(options_.turn_messages_max, kTurnMessagesMin); }

  // Moves a deadline; 0: none.
  void SetDeadline(H2Timed* timed, uint64_t old_ns, uint64_t new_ns) {
    deadlines_.Move(timed, old_ns, new_ns);
  }
  uint64_t next_deadline_ns() const {
    return EarlierDeadline(deadlines_.next_ns(), times_.next_ns());
  }
  // Calls OnTime of those whose deadline has come, each of which must move its own, and
  // ends the RPCs that have reached a limit on time.
  void TakeDeadlines();
  StreamTimes<H2Call>& times() { return times_; }

  // Any thread.
  void Post(H2Call* call, CallState* state, RpcContext::Event event) {
    posted_.Put({call, state, event});
  }
  void TakePosted();

  // For a new RPC of `peer`, whose connection has `of_connection` of them; null if too
  // many live in the process, if the peer or the connection has its share, or if memory
  // is scarce. Memory of RPCs is kept for the next ones.
  H2Call* Acquire(const H2Peer& peer, size_t of_connection);
  void Release(H2Call* call, const H2Peer& peer);
  // The count of the peer at `address` on this loop; null if it has no IP address.
  std::shared_ptr<PeerCount> CountOf(std::string_view address);

  // What this loop draws of the process's memory.
  MemoryShare& memory() { return memory_share_; }

  // And that of messages up to 32 KiB, 1 MiB in all: a stream that waits for its
  // next message holds none.
  std::vector<char> TakeMemory();
  void KeepMemory(std::vector<char> memory);

  // RPCs that are not released yet, those whose connection is gone included. Any
  // thread.
  size_t live() const { return live_.live(); }

 private:
  struct Posted {
    H2Call* call;
    CallState* state;
    RpcContext::Event event;
  };
  bool HasShare(const H2Peer& peer, size_t of_connection);

  static constexpr size_t kBusyFew = 3;
  static constexpr size_t kTurnMessagesMin = 16;
  static constexpr size_t kSpareMax = 256;
  static constexpr size_t kMemoryBytesMax = 1 << 20;
  static constexpr size_t kMessageBytesMax = 32768;

  const H2Options& options_;
  StreamEnvironment* const environment_;
  const H2Metrics& metrics_;
  H2Shared* const shared_;
  const std::atomic<bool>* const serving_;
  MemoryShare memory_share_;
  uint64_t now_ns_;
  size_t turn_share_ = 1;  // into how many parts a turn is divided
  Deadlines<H2Timed> deadlines_;
  StreamTimes<H2Call> times_;
  std::vector<std::unique_ptr<H2Call>> spare_;
  std::vector<std::vector<char>> memory_;
  size_t memory_bytes_ = 0;
  size_t memory_drawn_ = 0;
  LiveCount live_;
  Mailbox<Posted> posted_;
  const size_t live_per_peer_max_;
  const size_t live_per_connection_max_;
  std::map<std::string, std::weak_ptr<PeerCount>, std::less<>> peers_;
  size_t peers_sweep_size_ = 64;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_TRANSPORT_H2_H2_CONTEXT_H_
