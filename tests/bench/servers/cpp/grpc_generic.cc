// SPDX-License-Identifier: Apache-2.0

// The least that can be done on gRPC C++: AsyncGenericService with raw bytes, one
// completion queue and thread for each core, a constant answer to each message.
// What the host's gRPC transport is judged by.
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>
#include <sched.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "grpc_credentials.h"
#include "tests/bench/answers.h"

namespace callout::bench {
namespace {

// As many as the host has.
constexpr int kRequestsAhead = 4;

struct Queue {
  grpc::AsyncGenericService* service;
  std::unique_ptr<grpc::ServerCompletionQueue> queue;
  bool scan;
};

// One RPC. One operation at a time, so that the object itself is the tag.
class Call {
 public:
  explicit Call(Queue* queue) : queue_(queue), io_(&context_) {
    queue->service->RequestCall(&context_, &io_, queue->queue.get(), queue->queue.get(), this);
  }

  void OnEvent(bool ok) {
    switch (step_) {
      case Step::kAccepting:
        new Call(queue_);
        return Read();
      case Step::kReading:
        return ok ? Answer() : Finish();
      case Step::kWriting:
        return ok ? Read() : Finish();
      case Step::kFinishing:
        delete this;
    }
  }

 private:
  enum class Step { kAccepting, kReading, kWriting, kFinishing };

  void Read() {
    step_ = Step::kReading;
    io_.Read(&incoming_, this);
  }

  void Answer() {
    grpc::Slice bytes;
    if (!incoming_.TrySingleSlice(&bytes).ok()) (void)incoming_.DumpToSingleSlice(&bytes);
    incoming_.Clear();
    const std::string_view request(reinterpret_cast<const char*>(bytes.begin()), bytes.size());
    const std::string_view answer = AnswerTo(request);
    if (answer.empty() || (queue_->scan && ScanHeaders(request) < 0)) return Finish();
    step_ = Step::kWriting;
    grpc::Slice slice(answer.data(), answer.size());
    io_.Write(grpc::ByteBuffer(&slice, 1), this);
  }

  void Finish() {
    step_ = Step::kFinishing;
    io_.Finish(grpc::Status::OK, this);
  }

  Queue* const queue_;
  Step step_ = Step::kAccepting;
  grpc::GenericServerContext context_;
  grpc::GenericServerAsyncReaderWriter io_;
  grpc::ByteBuffer incoming_;
};

void Serve(Queue* queue) {
  for (int i = 0; i < kRequestsAhead; ++i) new Call(queue);
  void* tag = nullptr;
  bool ok = false;
  while (queue->queue->Next(&tag, &ok)) static_cast<Call*>(tag)->OnEvent(ok);
}

void Run(const ServerOptions& options) {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  grpc::AsyncGenericService service;
  grpc::ServerBuilder builder;
  builder.SetMaxReceiveMessageSize(-1);  // no limit; the default is 4 MiB
  int port = 0;
  builder.AddListeningPort(AddressOf(options), MakeCredentials(options), &port);
  builder.RegisterAsyncGenericService(&service);
  std::vector<Queue> queues;
  // For each core that it may run on, as the host has it.
  cpu_set_t cores;
  sched_getaffinity(0, sizeof(cores), &cores);
  for (int i = 0; i < CPU_COUNT(&cores); ++i) {
    queues.push_back({&service, builder.AddCompletionQueue(), options.scan});
  }
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr || port == 0) Fail("gRPC cannot listen");
  SayListening(port);
  std::vector<std::thread> threads;
  threads.reserve(queues.size());
  for (Queue& queue : queues) threads.emplace_back(Serve, &queue);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace callout::bench

int main(int argc, char** argv) {
  callout::bench::Run(callout::bench::ParseServerOptions(argc, argv));
}
