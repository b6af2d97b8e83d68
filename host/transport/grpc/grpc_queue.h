// One completion queue and the thread that runs it and its streams.
#ifndef CALLOUT_HOST_TRANSPORT_GRPC_GRPC_QUEUE_H_
#define CALLOUT_HOST_TRANSPORT_GRPC_GRPC_QUEUE_H_

#include <grpc/grpc.h>
#include <grpcpp/alarm.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "host/plugin/rpc_context.h"
#include "host/stream/live_count.h"
#include "host/stream/stream_environment.h"

namespace callout::host {

class GrpcCall;

class GrpcQueue {
 public:
  // `serving` is what health says. All outlive the queue.
  GrpcQueue(std::unique_ptr<grpc::ServerCompletionQueue> queue, grpc_server* server,
            StreamEnvironment* environment, const std::atomic<bool>* serving);
  ~GrpcQueue();  // after Stop()

  void Start();
  // The server has been shut down: ends the thread once no call is left, then returns.
  void Stop();
  // `serving` has changed. Any thread.
  void NotifyServing() { Post(nullptr, nullptr, RpcContext::Event{}); }
  // Ends the RPCs of health and reflection. Any thread.
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
  const std::atomic<bool>* serving() const { return serving_; }
  void Request();  // one more call waits for an RPC
  void Remove(GrpcCall* call);
  // Of health or reflection, to be told of the drain and when `serving` changes.
  void AddSide(GrpcCall* call) { sides_.insert(call); }
  void RemoveSide(GrpcCall* call) { sides_.erase(call); }
  // The first of those with a stream, which are linked by GrpcCall::next.
  GrpcCall*& streams() { return streams_; }
  // Moves a call's deadline; 0: none.
  void SetDeadline(GrpcCall* call, uint64_t old_deadline_ns, uint64_t deadline_ns);
  // Any thread.
  void Post(GrpcCall* call, CallState* state, RpcContext::Event event);
  // RPCs that began and are not over, for gRPC or for a plugin. Any thread.
  size_t live() const { return live_.live(); }
  // False if too many live in the process.
  bool AddLive();
  void RemoveLive() { live_.Remove(); }

 private:
  struct Posted {
    GrpcCall* call;  // null: `serving`, `draining_` or `stopping_` has changed
    CallState* state;
    RpcContext::Event event;
  };

  void Run();
  bool Next();
  void TakePosted();
  void TellSides();
  void TellStreams();
  void TakeDeadlines();

  const std::unique_ptr<grpc::ServerCompletionQueue> queue_;
  grpc_server* const server_;
  StreamEnvironment* const environment_;
  const std::atomic<bool>* const serving_;
  std::atomic<bool> draining_{false};
  std::atomic<bool> ending_{false};
  std::atomic<bool> stopping_{false};
  std::thread thread_;
  LiveCount live_;
  size_t calls_ = 0;  // that there are, those which wait for an RPC included
  std::set<std::pair<uint64_t, GrpcCall*>> deadlines_;
  std::set<GrpcCall*> sides_;
  GrpcCall* streams_ = nullptr;

  std::mutex mutex_;  // guards the following
  std::vector<Posted> posted_;
  bool alarm_set_ = false;
  grpc::Alarm alarm_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_TRANSPORT_GRPC_GRPC_QUEUE_H_
