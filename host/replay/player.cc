// SPDX-License-Identifier: Apache-2.0

#include "host/replay/player.h"

#include <memory>
#include <utility>

#include "host/base/clock.h"
#include "host/stream/stream.h"
#include "host/tester/in_process.h"
#include "host/wire/annotations.h"
#include "host/wire/wire.h"

namespace callout::host {
namespace {

// What a plugin has to finish a call after Envoy has left.
constexpr uint64_t kFinishNs = 5'000'000'000;

// One stream on its way.
class Run {
 public:
  explicit Run(StreamEnvironment* environment) : stream_(environment, &rpc_) {}

  void Feed(std::string_view bytes, Played* played) {
    if (stream_.end().has_value() || !stream_.wants_message()) return;
    stream_.OnMessage(bytes);
    ++fed_;
    Collect(played);
  }

  // `expected`: responses that the recording has at this point.
  void Await(size_t expected, Played* played) {
    while (!stream_.end().has_value() && stream_.calls_at_work() && stream_.deadline_ns() != 0 &&
           (played->responses.size() < expected || !stream_.wants_message())) {
      if (!rpc_.Deliver(&stream_, stream_.deadline_ns())) stream_.OnDeadline(MonotonicNs());
      Collect(played);
    }
  }

  // False: a plugin still has a call.
  bool Close(bool half_closes, Played* played) {
    if (!stream_.end().has_value() && half_closes) {
      stream_.OnHalfClose();
      Collect(played);
      Await(SIZE_MAX, played);
    }
    if (stream_.end().has_value()) {
      played->end = *stream_.end();
    } else {
      stream_.OnCancel();
    }
    const uint64_t until_ns = MonotonicNs() + kFinishNs;
    while (!stream_.closed()) {
      if (!rpc_.Deliver(&stream_, until_ns)) return false;
    }
    return true;
  }

 private:
  void Collect(Played* played) {
    if (!stream_.has_output()) return;
    stream_.DrainOutput([&](std::string response) {
      if (!IsTimeRequest(response)) played->responses.push_back({std::move(response), fed_});
    });
  }

  InProcessRpc rpc_;
  Stream stream_;
  size_t fed_ = 0;
};

}  // namespace

Requests::Requests(const RecordedExchange& exchange) {
  size_t left_out = 0;
  for (const RecordedMessage& message : exchange.messages) left_out += message.body_left_out;
  filled_.reserve(left_out);  // the views stay
  // No exchange of a recording has larger bodies than a record may have, whatever it says.
  uint64_t room = kRecordBytesMax;
  for (const RecordedMessage& message : exchange.messages) {
    if (message.kind != MessageKind::kRequest) continue;
    views_.push_back(message.bytes);
    if (!message.body_left_out || message.body_bytes > room) continue;
    std::string filled;
    if (!FillBody(message.kind, message.bytes, message.body_bytes, &filled)) continue;
    room -= message.body_bytes;
    filled_.push_back(std::move(filled));
    views_.back() = filled_.back();
  }
}

bool IsTimeRequest(std::string_view response) {
  if (response.size() > 32) return false;
  WireReader reader(response);
  bool asks = false;
  while (reader.Next()) {
    if (!reader.Is(CALLOUT_OVERRIDE_MESSAGE_TIMEOUT)) return false;
    asks = true;
  }
  return asks;
}

Played Player::Play(const RecordedExchange& exchange, const Requests& requests) {
  Played played;
  auto run = std::make_unique<Run>(environment_);
  size_t next = 0, expected = 0;
  for (const RecordedMessage& message : exchange.messages) {
    if (message.kind == MessageKind::kResponse) {
      if (!IsTimeRequest(message.bytes)) ++expected;
      continue;
    }
    run->Await(expected, &played);
    run->Feed(requests[next++], &played);
  }
  run->Await(expected, &played);
  const bool half_closes = exchange.end_code == 0;
  played.abandoned = !run->Close(half_closes, &played);
  if (played.abandoned) KeepForEver(std::move(run));
  return played;
}

}  // namespace callout::host
