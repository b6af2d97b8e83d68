// SPDX-License-Identifier: Apache-2.0

#include "host/transport/grpc/grpc_queue.h"

#include <utility>

#include "host/base/clock.h"
#include "host/base/thread.h"
#include "host/transport/grpc/grpc_call.h"

namespace callout::host {

namespace {

// RPCs that may begin before the thread has come round to ask for more; others
// wait in gRPC. Each has a call in memory that the next in turn has long left the
// cache for: 64 of them made every stream 5 % dearer than 4.
constexpr int kRequestsAhead = 4;

}  // namespace

GrpcQueue::GrpcQueue(std::unique_ptr<grpc::ServerCompletionQueue> queue, grpc_server* server,
                     const TransportLimits* limits, const StreamTimeMetrics* time_metrics,
                     StreamEnvironment* environment, const std::atomic<bool>* serving)
    : queue_(std::move(queue)),
      server_(server),
      limits_(*limits),
      environment_(environment),
      serving_(serving),
      services_(limits->reflection ? ServiceSet::kAll : ServiceSet::kWithoutReflection),
      live_(environment->live_limit()),
      times_(*limits, *time_metrics, &environment->metrics()),
      posted_([this] { Wake(); }) {}

GrpcQueue::~GrpcQueue() = default;

absl::Status GrpcQueue::Start() {
  for (int i = 0; i < kRequestsAhead; ++i) Request();
  absl::StatusOr<std::thread> thread = StartThread("serving streams", [this] { Run(); });
  if (!thread.ok()) return thread.status();
  thread_ = *std::move(thread);
  return absl::OkStatus();
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

void GrpcQueue::Wake() {
  const std::lock_guard<std::mutex> lock(wake_mutex_);
  if (!closed_) alarm_.Set(queue_.get(), gpr_now(GPR_CLOCK_MONOTONIC), this);
}

void GrpcQueue::Close() {
  const std::lock_guard<std::mutex> lock(wake_mutex_);
  closed_ = true;
}

// gRPC aborts the process if anything is started on a queue that is being shut down, so
// that comes last: an RPC may have come as the server went, and other threads may still
// have something to say (Stop() itself, if the last call ends just then).
void GrpcQueue::Run() {
  while (!stopping_ || calls_ > 0) (void)Next();
  Close();
  queue_->Shutdown();
  while (Next()) {
  }
}

// One event, or none until the next deadline; false: there will be no more.
bool GrpcQueue::Next() {
  void* tag = nullptr;
  bool ok = false;
  const uint64_t next_ns = NextDeadline();
  const gpr_timespec deadline =
      next_ns == 0 ? gpr_inf_future(GPR_CLOCK_MONOTONIC)
                   : gpr_time_from_nanos(static_cast<int64_t>(next_ns), GPR_CLOCK_MONOTONIC);
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
  if (next_ns != 0) TakeDue();
  return true;
}

uint64_t GrpcQueue::NextDeadline() const {
  return EarlierDeadline(deadlines_.next_ns(), times_.next_ns());
}

void GrpcQueue::TakeDue() {
  const uint64_t now_ns = MonotonicNs();
  if (NextDeadline() > now_ns) return;
  deadlines_.TakeDue(now_ns, [now_ns](GrpcCall* call) { call->OnDeadline(now_ns); });
  times_.TakeDue(now_ns, [](GrpcCall* call, StreamTime time) { call->OnTimeout(time); });
}

void GrpcQueue::TakePosted() {
  for (const Posted& item : posted_.Take()) {
    item.call != nullptr ? item.call->OnPosted(item.state, item.event) : TellAll();
  }
}

void GrpcQueue::TellAll() {
  if (const auto question = question_.Take(); question != nullptr) {
    question->Add(ListLiveRpcs(&times_, question->max()));
  }
  times_.ForEach(
      [this](GrpcCall* call) { draining_ ? call->OnDrain() : call->OnServingChanged(); });
  if (ending_.exchange(false)) times_.ForEach([](GrpcCall* call) { call->OnDrainDeadline(); });
}

}  // namespace callout::host
