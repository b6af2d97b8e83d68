// SPDX-License-Identifier: Apache-2.0

// How long a client may keep an RPC's place without using it (host/transport/limits.h):
// the time of its first message, of each next one, and of the RPC in all.
//
//   StreamTimes<Call> times(limits, metrics, &host_metrics);
//   times.Begin(&call->times, now_ns);        // an RPC has begun
//   times.OnMessage(&call->times, now_ns);    // a message of it is whole
//   times.OnLastMessage(&call->times);        // its client has half-closed
//   times.TakeDue(now_ns, [](Call* call, StreamTime time) { … times.End(&call->times); });
//   times.End(&call->times);                  // it is over
//
// A StreamTimes and its entries belong to one thread; the functions to any.
#ifndef CALLOUT_HOST_TRANSPORT_STREAM_TIMES_H_
#define CALLOUT_HOST_TRANSPORT_STREAM_TIMES_H_

#include <array>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "host/base/clock.h"
#include "host/metrics/metrics.h"
#include "host/transport/deadlines.h"
#include "host/transport/limits.h"

namespace callout::host {

enum class StreamTime : uint8_t { kFirstMessage, kMessage, kAge };

struct StreamTimeMetrics {
  // callout_streams_timed_out_total{limit}
  static absl::StatusOr<StreamTimeMetrics> Define(Metrics* metrics);

  std::array<Metrics::Id, 3> timed_out{};
};

// The end of an RPC that has reached the limit: DEADLINE_EXCEEDED, which names the
// option and its value.
absl::Status StreamTimeError(StreamTime time, const TransportLimits& limits);

template <class Call>
class StreamTimes {
 public:
  // Of one RPC, which has it as a member.
  class Entry {
   public:
    explicit Entry(Call* call) : age_(call), message_(call) {}

   private:
    friend class StreamTimes;
    typename TimeoutQueue<Call>::Entry age_, message_;
  };

  // `metrics` outlives it.
  StreamTimes(const TransportLimits& limits, const StreamTimeMetrics& ids, Metrics* metrics)
      : ids_(ids),
        metrics_(metrics),
        age_(limits.stream_duration_ms_max * kNsPerMs),
        first_(limits.first_message_timeout_ms * kNsPerMs),
        next_(limits.stream_idle_timeout_ms * kNsPerMs) {}

  void Begin(Entry* entry, uint64_t now_ns) {
    age_.Start(&entry->age_, now_ns);
    first_.Start(&entry->message_, now_ns);
  }
  void OnMessage(Entry* entry, uint64_t now_ns) { next_.Start(&entry->message_, now_ns); }
  // It owes none any more, and only grows old.
  void OnLastMessage(Entry* entry) { TimeoutQueue<Call>::Stop(&entry->message_); }
  void End(Entry* entry) {
    TimeoutQueue<Call>::Stop(&entry->age_);
    TimeoutQueue<Call>::Stop(&entry->message_);
  }

  // CLOCK_MONOTONIC; 0: nothing is due.
  uint64_t next_ns() const {
    return EarlierDeadline(age_.next_ns(), EarlierDeadline(first_.next_ns(), next_.next_ns()));
  }
  // Counts each RPC that has reached a limit, and calls `on_due` with it, which has to call
  // End: an RPC reaches one limit.
  template <class OnDue>
  void TakeDue(uint64_t now_ns, OnDue on_due) {
    const auto take = [&](TimeoutQueue<Call>* queue, StreamTime time) {
      queue->TakeDue(now_ns, [&](Call* call) {
        metrics_->Add(ids_.timed_out[static_cast<size_t>(time)]);
        on_due(call, time);
      });
    };
    take(&first_, StreamTime::kFirstMessage);
    take(&next_, StreamTime::kMessage);
    take(&age_, StreamTime::kAge);
  }
  // When the RPC of `entry`, which has begun and is not over, did so.
  uint64_t began_ns(const Entry& entry) const { return age_.began_ns(entry.age_); }
  // All that have begun and are not too old, oldest first (TimeoutQueue::ForEach).
  template <class Visit>
  void ForEach(Visit visit) {
    age_.ForEach(visit);
  }

 private:
  const StreamTimeMetrics& ids_;
  Metrics* const metrics_;
  TimeoutQueue<Call> age_, first_, next_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_TRANSPORT_STREAM_TIMES_H_
