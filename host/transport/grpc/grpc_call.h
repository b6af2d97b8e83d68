// SPDX-License-Identifier: Apache-2.0

// One RPC of the gRPC transport: carries bytes between gRPC's operations and the
// RPC's handler. Lives from the request for an RPC until every operation has
// completed and the handler is closed, then deletes itself. Queue's thread only, but
// for what RpcContext lets other threads call.
//
// Operations are those of gRPC's C core, which takes several at once: a response
// and the wish for the next message are one batch, with one event when both are
// done. The C++ classes have a batch and an event for each, and copy all metadata.
//
// Tested by tests/integration/serving_test.cc.
#ifndef CALLOUT_HOST_TRANSPORT_GRPC_GRPC_CALL_H_
#define CALLOUT_HOST_TRANSPORT_GRPC_GRPC_CALL_H_

#include <grpc/grpc.h>
#include <grpcpp/impl/codegen/completion_queue_tag.h>
#include <grpcpp/support/slice.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "host/plugin/rpc_context.h"
#include "host/transport/rpc_handler.h"
#include "host/transport/stream_times.h"

namespace callout::host {

class GrpcBatch;
class GrpcQueue;

class GrpcCall final : public RpcContext {
 public:
  StreamTimes<GrpcCall>::Entry times{this};

  // What is done once the tag comes out of the completion queue.
  enum class Operation : uint8_t { kAccept, kRead, kWrite, kWriteAndRead, kFinish, kClose };

  // What a completion queue gives out, as the C++ class that reads it wants it to be.
  class Tag final : public grpc::internal::CompletionQueueTag {
   public:
    Tag(GrpcCall* call, Operation operation) : call_(call), operation_(operation) {}
    void OnEvent(bool ok) { call_->OnEvent(operation_, ok); }

   private:
    bool FinalizeResult(void** tag, bool* ok) override;

    GrpcCall* const call_;
    const Operation operation_;
  };

  explicit GrpcCall(GrpcQueue* queue);
  ~GrpcCall();

  // Waits for an RPC to begin.
  void Request(grpc_server* server, grpc_completion_queue* queue);

  // Null: the client has half-closed.
  void OnPosted(CallState* state, RpcContext::Event event);
  void OnDeadline(uint64_t now_ns);
  // The client has taken too long: ends the RPC here and now.
  void OnTimeout(StreamTime time);
  // What health says has changed.
  void OnServingChanged();
  // The server wants the RPC to end.
  void OnDrain();
  // The time of a drain is up.
  void OnDrainDeadline();

  const StreamTimes<GrpcCall>::Entry& times_entry() const { return times; }
  void Describe(LiveRpc* rpc) const;

  // RpcContext
  void Post(CallState* call, Event event) override;
  std::shared_ptr<const void> KeepMessage() override;
  size_t unsent_bytes() const override;
  std::string_view peer() const override;
  std::string_view listener() const override;
  std::string_view peer_identity() const override;
  bool GetMetadata(std::string_view key, uint32_t index, std::string_view* value) const override;
  bool GetMetadataAt(uint32_t index, std::string_view* key, std::string_view* value) const override;

 private:
  void OnEvent(Operation operation, bool ok);
  void OnAccept();
  void OnRead();
  void OnWritten();
  void Pump();
  void Collect();
  void StartOperations();
  void StartRead();
  void StartWrite();
  void StartFinish();
  void Start(const GrpcBatch& batch, Tag* tag);
  void AddInitialMetadata(GrpcBatch* batch);
  void AddRead(GrpcBatch* batch);
  void AddStatus(GrpcBatch* batch, grpc_slice* message);
  bool wants_message() const;
  bool may_read() const { return !reading_ && !read_ended_ && wants_message(); }
  const std::optional<absl::Status>& end() const;
  bool CanDelete() const;
  void ReadFacts() const;

  GrpcQueue* const queue_;
  grpc_call* call_ = nullptr;  // null: no RPC has come yet
  grpc_call_details details_;
  grpc_metadata_array metadata_;
  RpcHolder handler_;                    // none: the RPC is refused
  std::optional<absl::Status> failure_;  // the transport's own end of the RPC
  grpc_byte_buffer* incoming_ = nullptr;
  grpc_byte_buffer* outgoing_ = nullptr;  // that is being written
  // What the handler's current message lies in. A small one lies in the object
  // itself, so one that is retained stays there and the next gets another.
  grpc::Slice first_message_;
  grpc::Slice* message_ = &first_message_;
  std::shared_ptr<grpc::Slice> later_message_;  // once the first was kept
  RpcHandler::Output responses_;                // to be written, but for those before the next
  size_t next_response_ = 0;
  uint64_t deadline_ns_ = 0;
  uint64_t cancel_ns_ = 0;  // when a client that does not take its end is cut off; 0: never
  int cancelled_ = 0;       // once done_: by the client, or by a failure of the connection
  bool begun_ = false;      // initial metadata is on its way
  bool reading_ = false;
  bool writing_ = false;
  bool writing_and_reading_ = false;  // in one batch
  bool finishing_ = false;
  bool finish_with_write_ = false;  // the last answer takes the status along
  bool finished_ = false;           // no Finish is outstanding or owed
  bool read_ended_ = false;
  bool done_ = false;           // gRPC has no more to say of this RPC
  bool live_ = false;           // counted by the queue
  std::atomic<int> posted_{0};  // events on their way through the queue

  mutable std::once_flag facts_once_;
  mutable std::string peer_;
  mutable std::string peer_identity_;
  mutable bool secure_ = false;

  Tag accept_{this, Operation::kAccept};
  Tag read_{this, Operation::kRead};
  Tag write_{this, Operation::kWrite};
  Tag write_and_read_{this, Operation::kWriteAndRead};
  Tag finish_{this, Operation::kFinish};
  Tag close_{this, Operation::kClose};
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_TRANSPORT_GRPC_GRPC_CALL_H_
