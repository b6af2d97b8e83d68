// SPDX-License-Identifier: Apache-2.0

// One completion queue and the thread that runs it and its streams.
//
// Tested by tests/integration/serving_test.cc.
#ifndef CALLOUT_HOST_TRANSPORT_GRPC_GRPC_QUEUE_H_
#define CALLOUT_HOST_TRANSPORT_GRPC_GRPC_QUEUE_H_

#include <grpc/grpc.h>
#include <grpcpp/alarm.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>

#include "host/plugin/rpc_context.h"
#include "host/stream/live_count.h"
#include "host/stream/stream_environment.h"
#include "host/transport/builtin_rpcs.h"
#include "host/transport/deadlines.h"
#include "host/transport/limits.h"
#include "host/transport/live_rpcs.h"
#include "host/transport/mailbox.h"
#include "host/transport/stream_times.h"

namespace callout::host {

class GrpcCall;

class GrpcQueue {
 public:
  // `serving` is what health says. All outlive the queue.
  GrpcQueue(std::unique_ptr<grpc::ServerCompletionQueue> queue, grpc_server* server,
            const TransportLimits* limits, const StreamTimeMetrics* time_metrics,
            StreamEnvironment* environment, const std::atomic<bool>* serving);
  ~GrpcQueue();  // after Stop()

  // UNAVAILABLE if no thread can be made for it; the queue can then not be shut down.
  absl::Status Start();
  // The server has been shut down: ends the thread once no call is left, then returns.
  void Stop();
  // `serving` has changed. Any thread.
  void NotifyServing() { Post(nullptr, nullptr, RpcContext::Event{}); }
  // Any thread.
  void Ask(std::shared_ptr<LiveRpcQuestion> question) {
    if (question_.Put(std::move(question))) NotifyServing();
  }
  // Asks every RPC to end. Any thread.
  void Drain() {
    draining_ = true;
    NotifyServing();
  }

  // The time of a drain is up: every stream ends (Stream::OnDrainDeadline). Any thread.
  void EndStreams() {
    ending_ = true;
    NotifyServing();
  }

  // --- For GrpcCall, on the queue's thread unless said otherwise ---
  StreamEnvironment* environment() { return environment_; }
  const TransportLimits& limits() const { return limits_; }
  const std::atomic<bool>* serving() const { return serving_; }
  ServiceSet services() const { return services_; }
  void Request();  // one more call waits for an RPC
  void Remove(GrpcCall* call);
  // Of the RPCs that have begun: they are told of the drain and when `serving` changes.
  StreamTimes<GrpcCall>& times() { return times_; }
  // Moves a call's deadline; 0: none.
  void SetDeadline(GrpcCall* call, uint64_t old_ns, uint64_t new_ns) {
    deadlines_.Move(call, old_ns, new_ns);
  }
  // Any thread.
  void Post(GrpcCall* call, CallState* state, RpcContext::Event event) {
    posted_.Put({call, state, event});
  }
  // RPCs that began and are not over, for gRPC or for a plugin. Any thread.
  size_t live() const { return live_.live(); }
  // False if too many live in the process.
  bool AddLive();
  void RemoveLive() { live_.Remove(); }

 private:
  struct Posted {
    // Null: `serving`, `draining_` or `stopping_` has changed, or there is a question.
    GrpcCall* call;
    CallState* state;
    RpcContext::Event event;
  };

  void Run();
  void Wake();   // any thread
  void Close();  // what is posted from now on is not taken
  bool Next();
  void TakePosted();
  void TellAll();
  uint64_t NextDeadline() const;
  void TakeDue();

  const std::unique_ptr<grpc::ServerCompletionQueue> queue_;
  grpc_server* const server_;
  const TransportLimits& limits_;
  StreamEnvironment* const environment_;
  const std::atomic<bool>* const serving_;
  const ServiceSet services_;
  std::atomic<bool> draining_{false};
  std::atomic<bool> ending_{false};
  std::atomic<bool> stopping_{false};
  std::thread thread_;
  LiveCount live_;
  size_t calls_ = 0;  // that there are, those which wait for an RPC included
  Deadlines<GrpcCall> deadlines_;
  StreamTimes<GrpcCall> times_;
  std::mutex wake_mutex_;  // guards the following two
  bool closed_ = false;    // the queue is being shut down
  grpc::Alarm alarm_;      // puts `this` into the queue, to look at posted_
  Mailbox<Posted> posted_;
  OpenLiveRpcQuestion question_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_TRANSPORT_GRPC_GRPC_QUEUE_H_
