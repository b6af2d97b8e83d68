// SPDX-License-Identifier: Apache-2.0

// Asks the threads of a transport for their RPCs. A thread that is busy with a hook does not tell,
// and nobody waits for it for long.
//
//   auto question = std::make_shared<LiveRpcQuestion>(threads, 100);
//   if (thread.open_question.Put(question)) … tell the thread …
//   … each thread, when it comes to it: open_question.Take()->Add(ListLiveRpcs(…));
//   LiveRpcs rpcs = question->Await(200);
//
// Any thread.
#ifndef CALLOUT_HOST_TRANSPORT_LIVE_RPCS_H_
#define CALLOUT_HOST_TRANSPORT_LIVE_RPCS_H_

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "host/stream/live_rpc.h"
#include "host/transport/stream_times.h"

namespace callout::host {

// `other` joined to `rpcs`; the `max` oldest of both stay.
inline void JoinLiveRpcs(LiveRpcs other, size_t max, LiveRpcs* rpcs) {
  rpcs->rpcs.insert(rpcs->rpcs.end(), std::make_move_iterator(other.rpcs.begin()),
                    std::make_move_iterator(other.rpcs.end()));
  rpcs->left_out += other.left_out;
  rpcs->silent_threads += other.silent_threads;
  std::sort(rpcs->rpcs.begin(), rpcs->rpcs.end(),
            [](const LiveRpc& a, const LiveRpc& b) { return a.begin_ns < b.begin_ns; });
  if (rpcs->rpcs.size() <= max) return;
  rpcs->left_out += rpcs->rpcs.size() - max;
  rpcs->rpcs.resize(max);
}

class LiveRpcQuestion {
 public:
  // To `threads` threads. The `max` oldest RPCs are wanted, of each and in all.
  LiveRpcQuestion(size_t threads, size_t max) : threads_(threads), max_(max) {}

  size_t max() const { return max_; }

  // One thread's reply.
  void Add(LiveRpcs rpcs) {
    const std::lock_guard<std::mutex> lock(mutex_);
    JoinLiveRpcs(std::move(rpcs), max_, &rpcs_);
    if (++replies_ == threads_) all_.notify_all();
  }

  // What has come once all have replied, or after the time.
  LiveRpcs Await(uint64_t timeout_ms) {
    std::unique_lock<std::mutex> lock(mutex_);
    all_.wait_for(lock, std::chrono::milliseconds(timeout_ms),
                  [this] { return replies_ == threads_; });
    LiveRpcs rpcs = rpcs_;
    rpcs.silent_threads += threads_ - replies_;
    return rpcs;
  }

 private:
  const size_t threads_;
  const size_t max_;
  std::mutex mutex_;  // guards the following
  std::condition_variable all_;
  size_t replies_ = 0;
  LiveRpcs rpcs_;
};

// The question that a thread has yet to come to. A later one takes its place, since nobody awaits
// the earlier one any longer: a thread that a hook occupies for good keeps one, however often
// somebody looks.
class OpenLiveRpcQuestion {
 public:
  // True: the thread has to be told; false: it knows already that there is a question.
  bool Put(std::shared_ptr<LiveRpcQuestion> question) {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::swap(question_, question);
    return question == nullptr;
  }
  // Null: there is none.
  std::shared_ptr<LiveRpcQuestion> Take() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return std::exchange(question_, nullptr);
  }

 private:
  std::mutex mutex_;  // guards the following
  std::shared_ptr<LiveRpcQuestion> question_;
};

// The oldest `max` of a thread's RPCs. `Call` has Describe(LiveRpc*) const and times_entry() const.
template <class Call>
LiveRpcs ListLiveRpcs(StreamTimes<Call>* times, size_t max) {
  LiveRpcs list;
  times->ForEach([&](const Call* call) {
    if (list.rpcs.size() >= max) {
      ++list.left_out;
      return;
    }
    LiveRpc& rpc = list.rpcs.emplace_back();
    rpc.begin_ns = times->began_ns(call->times_entry());
    call->Describe(&rpc);
  });
  return list;
}

}  // namespace callout::host

#endif  // CALLOUT_HOST_TRANSPORT_LIVE_RPCS_H_
