// SPDX-License-Identifier: Apache-2.0

#include "host/transport/h2/h2_context.h"

#include <algorithm>

#include "host/base/clock.h"
#include "host/transport/h2/h2_call.h"

namespace callout::host {
namespace {

constexpr const char* kStreamLimitNames[kH2StreamLimitCount] = {
    "peer_share", "connection_share", "metadata_bytes", "message_bytes", "memory"};
// The least that a peer or a connection has by default.
constexpr size_t kShareMin = 8;
constexpr const char* kTurnLimitNames[kH2TurnLimitCount] = {"messages", "bytes", "handshakes"};

}  // namespace

absl::StatusOr<H2Metrics> H2Metrics::Define(Metrics* metrics) {
  H2Metrics defined;
  for (size_t i = 1; i < kH2ReasonCount; ++i) {
    absl::StatusOr<Metrics::Id> id =
        metrics->Define(Metrics::Kind::kCounter, "callout_h2_connections_closed_total",
                        "HTTP/2 connections closed by the host, by reason",
                        {{"reason", H2ReasonName(static_cast<H2Reason>(i))}});
    if (!id.ok()) return id.status();
    defined.closed[i] = *id;
  }
  absl::StatusOr<Metrics::Id> refused =
      metrics->Define(Metrics::Kind::kCounter, "callout_h2_streams_refused_total",
                      "HTTP/2 streams over --max_concurrent_streams or --max_live_streams");
  if (!refused.ok()) return refused.status();
  defined.streams_refused = *refused;
  for (size_t i = 0; i < kH2StreamLimitCount; ++i) {
    absl::StatusOr<Metrics::Id> id =
        metrics->Define(Metrics::Kind::kCounter, "callout_h2_stream_limits_total",
                        "HTTP/2 streams ended or refused over a limit, by which",
                        {{"limit", kStreamLimitNames[i]}});
    if (!id.ok()) return id.status();
    defined.stream_limits[i] = *id;
  }
  for (size_t i = 0; i < kH2TurnLimitCount; ++i) {
    absl::StatusOr<Metrics::Id> id =
        metrics->Define(Metrics::Kind::kCounter, "callout_h2_turns_cut_total",
                        "Times a connection had more work than one turn of its thread gives it",
                        {{"limit", kTurnLimitNames[i]}});
    if (!id.ok()) return id.status();
    defined.turns_cut[i] = *id;
  }
  absl::StatusOr<Metrics::Id> drained =
      metrics->Define(Metrics::Kind::kCounter, "callout_h2_connections_drained_total",
                      "HTTP/2 connections asked to leave by GOAWAY for --max_unanswered_resets");
  if (!drained.ok()) return drained.status();
  defined.connections_drained = *drained;
  absl::StatusOr<StreamTimeMetrics> times = StreamTimeMetrics::Define(metrics);
  if (!times.ok()) return times.status();
  defined.times = *times;
  return defined;
}

H2Context::H2Context(const H2Options& options, StreamEnvironment* environment,
                     const H2Metrics& metrics, H2Shared* shared, const std::atomic<bool>* serving,
                     std::function<void()> wake)
    : options_(options),
      environment_(environment),
      metrics_(metrics),
      shared_(shared),
      serving_(serving),
      memory_share_(shared->memory),
      now_ns_(MonotonicNs()),
      times_(options, metrics.times, &environment->metrics()),
      live_(environment->live_limit()),
      posted_(std::move(wake)),
      live_per_peer_max_(options.live_per_peer_max != 0
                             ? options.live_per_peer_max
                             : std::max(environment->live_limit()->max() / 8, kShareMin)),
      live_per_connection_max_(options.live_per_connection_max != 0
                                   ? options.live_per_connection_max
                                   : std::max(environment->live_limit()->max() / 128, kShareMin)) {}

H2Context::~H2Context() { memory_share_.Resize(&memory_drawn_, 0); }

void H2Context::TakeDeadlines() {
  deadlines_.TakeDue(now_ns_, [this](H2Timed* timed) { timed->OnTime(now_ns_); });
  times_.TakeDue(now_ns_, [](H2Call* call, StreamTime time) { call->OnOverdue(time); });
}

void H2Context::TakePosted() {
  for (const Posted& item : posted_.Take()) item.call->OnPosted(item.state, item.event);
}

std::shared_ptr<PeerCount> H2Context::CountOf(std::string_view address) {
  const std::shared_ptr<PeerPlaces> places = shared_->peers.Of(address);
  if (places == nullptr) return nullptr;
  const std::string_view peer = address.substr(0, address.rfind(':'));
  if (const auto known = peers_.find(peer); known != peers_.end()) {
    if (std::shared_ptr<PeerCount> count = known->second.lock()) return count;
  }
  if (peers_.size() >= peers_sweep_size_) {
    std::erase_if(peers_, [](const auto& entry) { return entry.second.expired(); });
    peers_sweep_size_ = 64 + 2 * peers_.size();
  }
  auto count = std::make_shared<PeerCount>(places, live_.batch());
  peers_[std::string(peer)] = count;
  return count;
}

// While half of the places are free everybody has one.
bool H2Context::HasShare(const H2Peer& peer, size_t of_connection) {
  if (!environment_->live_limit()->scarce()) return true;
  if (of_connection >= live_per_connection_max_) {
    CountLimit(H2StreamLimit::kConnectionShare);
    return false;
  }
  if (peer.count != nullptr && peer.count->live() >= live_per_peer_max_) {
    CountLimit(H2StreamLimit::kPeerShare);
    return false;
  }
  return true;
}

H2Call* H2Context::Acquire(const H2Peer& peer, size_t of_connection) {
  if (!shared_->memory->may_open_stream()) {
    shared_->memory->CountRefusal(MemoryBudget::Use::kStream);
    return nullptr;
  }
  if (!live_.Add()) {
    environment_->metrics().Add(environment_->ids().streams_refused);
    return nullptr;
  }
  if (!HasShare(peer, of_connection)) {
    live_.Remove();
    return nullptr;
  }
  H2Call* call = nullptr;
  if (spare_.empty()) {
    call = new H2Call(this);
  } else {
    call = spare_.back().release();
    spare_.pop_back();
  }
  if (peer.count != nullptr) peer.count->Add();
  return call;
}

void H2Context::Release(H2Call* call, const H2Peer& peer) {
  std::unique_ptr<H2Call> owned(call);
  if (spare_.size() < kSpareMax) spare_.push_back(std::move(owned));
  if (peer.count != nullptr) peer.count->Remove();
  live_.Remove();
}

std::vector<char> H2Context::TakeMemory() {
  if (memory_.empty()) return {};
  std::vector<char> memory = std::move(memory_.back());
  memory_.pop_back();
  memory_bytes_ -= memory.capacity();
  memory_share_.Resize(&memory_drawn_, memory_bytes_);
  return memory;
}

void H2Context::KeepMemory(std::vector<char> memory) {
  const size_t bytes = memory.capacity();
  if (bytes == 0 || bytes > kMessageBytesMax || memory_bytes_ + bytes > kMemoryBytesMax) return;
  memory_bytes_ += bytes;
  memory_share_.Resize(&memory_drawn_, memory_bytes_);
  memory_.push_back(std::move(memory));
}

}  // namespace callout::host
