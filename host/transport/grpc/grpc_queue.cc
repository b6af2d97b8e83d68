#include "host/transport/grpc/grpc_queue.h"
#include "host/base/clock.h"

#include "host/transport/grpc/grpc_call.h"

namespace callout::host {

namespace {

// RPCs that may begin before the thread has come round to ask for more; others
// wait in gRPC. Each has a call in memory that the next in turn has long left the
// cache for: 64 of them made every stream 5 % dearer than 4.
constexpr int kRequestsAhead = 4;

}  // namespace

GrpcQueue::GrpcQueue(std::unique_ptr<grpc::ServerCompletionQueue> queue, grpc_server* server,
                     StreamEnvironment* environment, const std::atomic<bool>* serving)
    : queue_(std::move(queue)),
      server_(server),
      environment_(environment),
      serving_(serving),
      live_(environment->live_limit()) {}

GrpcQueue::~GrpcQueue() = default;

void GrpcQueue::Start() {
  for (int i = 0; i < kRequestsAhead; ++i) Request();
  thread_ = std::thread([this] { Run(); });
}

void GrpcQueue::Stop() {
  stopping_ = true;
  NotifyServing();
  if (thread_.joinable()) thread_.join();
}

void GrpcQueue::Request() {
  ++calls_;
  auto* call = new GrpcCall(this);
  call->Request(server_, queue_->cq());
}

bool GrpcQueue::AddLive() {
  if (live_.Add()) return true;
  environment_->metrics().Add(environment_->ids().streams_refused);
  return false;
}

void GrpcQueue::Remove(GrpcCall* call) {
  --calls_;
  delete call;
}

// gRPC takes it for a mistake if anything is started on a queue that is being shut
// down, so that comes last: an RPC may have come as the server went.
void GrpcQueue::Run() {
  while (!stopping_ || calls_ > 0) (void)Next();
  queue_->Shutdown();
  while (Next()) {
  }
}

// One event, or none until the next deadline; false: there will be no more.
bool GrpcQueue::Next() {
  void* tag = nullptr;
  bool ok = false;
  const gpr_timespec deadline =
      deadlines_.empty() ? gpr_inf_future(GPR_CLOCK_MONOTONIC)
                         : gpr_time_from_nanos(static_cast<int64_t>(deadlines_.begin()->first),
                                               GPR_CLOCK_MONOTONIC);
  switch (queue_->AsyncNext(&tag, &ok, deadline)) {
    case grpc::CompletionQueue::SHUTDOWN:
      return false;
    case grpc::CompletionQueue::TIMEOUT:
      break;
    case grpc::CompletionQueue::GOT_EVENT:
      if (tag == this) {
        TakePosted();
      } else {
        auto* done = static_cast<grpc::internal::CompletionQueueTag*>(tag);
        static_cast<GrpcCall::Tag*>(done)->OnEvent(ok);
      }
      break;
  }
  if (!deadlines_.empty()) TakeDeadlines();
  return true;
}

void GrpcQueue::Post(GrpcCall* call, CallState* state, RpcContext::Event event) {
  std::lock_guard<std::mutex> lock(mutex_);
  posted_.push_back({call, state, event});
  if (!std::exchange(alarm_set_, true)) {
    alarm_.Set(queue_.get(), gpr_now(GPR_CLOCK_MONOTONIC), this);
  }
}

void GrpcQueue::TakePosted() {
  std::vector<Posted> posted;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    alarm_set_ = false;
    posted.swap(posted_);
  }
  for (const Posted& item : posted) {
    item.call != nullptr ? item.call->OnPosted(item.state, item.event) : TellSides();
  }
}

void GrpcQueue::TellSides() {
  for (auto next = sides_.begin(); next != sides_.end();) {
    GrpcCall* side = *next++;  // which may go
    draining_ ? side->OnDrain() : side->OnServingChanged();
  }
  if (ending_.exchange(false)) TellStreams();
}

void GrpcQueue::TellStreams() {
  for (GrpcCall* call = streams_; call != nullptr;) {
    GrpcCall* const next = call->next;  // for the call may go
    call->OnDrainDeadline();
    call = next;
  }
}

void GrpcQueue::SetDeadline(GrpcCall* call, uint64_t old_deadline_ns, uint64_t deadline_ns) {
  if (old_deadline_ns != 0) deadlines_.erase({old_deadline_ns, call});
  if (deadline_ns != 0) deadlines_.insert({deadline_ns, call});
}

void GrpcQueue::TakeDeadlines() {
  const uint64_t now_ns = MonotonicNs();
  while (!deadlines_.empty() && deadlines_.begin()->first <= now_ns) {
    deadlines_.begin()->second->OnDeadline(now_ns);
  }
}

}  // namespace callout::host
