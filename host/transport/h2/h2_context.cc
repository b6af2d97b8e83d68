#include "host/transport/h2/h2_context.h"
#include "host/base/clock.h"

#include "host/transport/h2/h2_call.h"

namespace callout::host {

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
  return defined;
}

H2Context::H2Context(const H2Options& options, StreamEnvironment* environment,
                     const H2Metrics& metrics, const std::atomic<bool>* serving,
                     std::function<void()> wake)
    : options_(options),
      environment_(environment),
      metrics_(metrics),
      serving_(serving),
      wake_(std::move(wake)),
      now_ns_(MonotonicNs()),
      live_(environment->live_limit()) {}

H2Context::~H2Context() = default;

void H2Context::SetDeadline(H2Timed* timed, uint64_t old_ns, uint64_t new_ns) {
  if (old_ns != 0) deadlines_.erase({old_ns, timed});
  if (new_ns != 0) deadlines_.insert({new_ns, timed});
}

void H2Context::TakeDeadlines() {
  while (!deadlines_.empty() && deadlines_.begin()->first <= now_ns_) {
    deadlines_.begin()->second->OnTime(now_ns_);
  }
}

void H2Context::Post(H2Call* call, CallState* state, RpcContext::Event event) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    posted_.push_back({call, state, event});
    if (posted_.size() > 1) return;  // the loop has been woken for the first
  }
  wake_();
}

void H2Context::TakePosted() {
  std::vector<Posted> posted;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    posted.swap(posted_);
  }
  for (const Posted& item : posted) item.call->OnPosted(item.state, item.event);
}

H2Call* H2Context::Acquire() {
  if (!live_.Add()) {
    environment_->metrics().Add(environment_->ids().streams_refused);
    return nullptr;
  }
  if (spare_.empty()) return new H2Call(this);
  H2Call* call = spare_.back().release();
  spare_.pop_back();
  return call;
}

void H2Context::Release(H2Call* call) {
  std::unique_ptr<H2Call> owned(call);
  if (spare_.size() < kSpareMax) spare_.push_back(std::move(owned));
  live_.Remove();
}

std::vector<char> H2Context::TakeMemory() {
  if (memory_.empty()) return {};
  std::vector<char> memory = std::move(memory_.back());
  memory_.pop_back();
  memory_bytes_ -= memory.capacity();
  return memory;
}

void H2Context::KeepMemory(std::vector<char> memory) {
  const size_t bytes = memory.capacity();
  if (bytes == 0 || bytes > kMessageBytesMax || memory_bytes_ + bytes > kMemoryBytesMax) return;
  memory_bytes_ += bytes;
  memory_.push_back(std::move(memory));
}

}  // namespace callout::host
