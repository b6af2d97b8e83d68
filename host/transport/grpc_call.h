// One RPC of the gRPC transport: carries bytes between gRPC's operations and the
// stream, or what answers for health and reflection. Lives from the request for an RPC until every
// operation has completed and the stream is closed, then deletes itself. Queue's thread only, but
// for what StreamCarrier lets other threads call.
#ifndef CALLOUT_HOST_TRANSPORT_GRPC_CALL_H_
#define CALLOUT_HOST_TRANSPORT_GRPC_CALL_H_

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "host/carrier.h"
#include "host/stream.h"
#include "host/transport/side_services.h"

namespace callout::host {

class GrpcQueue;

class GrpcCall final : public StreamCarrier {
 public:
  // What a completion queue event is about.
  struct Tag {
    enum class Operation : uint8_t { kAccept, kRead, kWrite, kFinish, kDone };
    GrpcCall* call;
    Operation operation;
  };

  explicit GrpcCall(GrpcQueue* queue);
  ~GrpcCall();

  grpc::GenericServerContext* context() { return &context_; }
  grpc::GenericServerAsyncReaderWriter* io() { return &io_; }
  Tag* accept_tag() { return &accept_; }

  void OnEvent(Tag::Operation operation, bool ok);
  void OnPosted(CallState* state, StreamCarrier::Event event);
  void OnDeadline(uint64_t now_ns);
  // For an RPC of health or reflection: what health says has changed, or the
  // server drains, which such an RPC is not to hold up.
  void OnServingChanged();
  void OnDrain();

  // StreamCarrier
  void Post(CallState* call, Event event) override;
  void RetainMessage() override;
  std::string_view peer() const override;
  std::string_view listener() const override;
  std::string_view peer_identity() const override;
  bool GetMetadata(std::string_view key, uint32_t index, std::string_view* value) const override;

 private:
  void OnAccept();
  void OnRead(bool ok);
  void Pump();
  void Collect();
  bool wants_message() const;
  bool closed() const { return !stream_.has_value() || stream_->closed(); }
  const std::optional<absl::Status>& end() const;
  void StartRead();
  void StartWrite();
  bool CanDelete() const;
  void ReadFacts() const;

  GrpcQueue* const queue_;
  grpc::GenericServerContext context_;
  grpc::GenericServerAsyncReaderWriter io_;
  std::optional<Stream> stream_;         // of a Process RPC
  std::unique_ptr<SideRpc> side_;        // of another one; neither: there is no such method
  std::optional<absl::Status> failure_;  // the transport's own end of the RPC
  grpc::ByteBuffer incoming_;
  // What the stream's current message lies in. A small one lies in the object
  // itself, so one that is retained stays there and the next gets another.
  grpc::Slice first_message_;
  grpc::Slice* message_ = &first_message_;
  std::vector<std::unique_ptr<grpc::Slice>> later_messages_;
  Stream::Output outgoing_;  // the first is next
  uint64_t deadline_ns_ = 0;
  bool reading_ = false;
  bool writing_ = false;
  bool finishing_ = false;
  bool finished_ = false;  // no Finish is outstanding or owed
  bool read_ended_ = false;
  bool done_ = false;           // gRPC has no more to say of this RPC
  bool live_ = false;           // counted by the queue
  std::atomic<int> posted_{0};  // events on their way through the queue

  mutable std::once_flag facts_once_;
  mutable std::string peer_;
  mutable std::string peer_identity_;
  mutable bool secure_ = false;

  Tag accept_{this, Tag::Operation::kAccept};
  Tag read_{this, Tag::Operation::kRead};
  Tag write_{this, Tag::Operation::kWrite};
  Tag finish_{this, Tag::Operation::kFinish};
  Tag done_tag_{this, Tag::Operation::kDone};
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_TRANSPORT_GRPC_CALL_H_
