// SPDX-License-Identifier: Apache-2.0

#include "host/transport/grpc/grpc_call.h"

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/alloc.h>
#include <grpc/support/log.h>

#include <array>
#include <utility>

#include "host/base/clock.h"
#include "host/base/percent.h"
#include "host/base/spare_bytes.h"
#include "host/transport/builtin_rpcs.h"
#include "host/transport/deadlines.h"
#include "host/transport/grpc/grpc_queue.h"
#include "host/transport/service_handler.h"

namespace callout::host {

// Operations that are started together. All are done when gRPC says so of one tag.
class GrpcBatch {
 public:
  grpc_op& Add(grpc_op_type type) {
    grpc_op& op = ops_[count_++];
    op.op = type;
    op.flags = 0;
    op.reserved = nullptr;
    return op;
  }
  const grpc_op* ops() const { return ops_.data(); }
  size_t count() const { return count_; }

 private:
  std::array<grpc_op, 3> ops_;
  size_t count_ = 0;
};

namespace {

// Responses up to this size are copied into gRPC's slice, which is one allocation;
// larger ones are handed over as they are, which is two but copies nothing.
constexpr size_t kCopyBytesMax = 1024;

std::string_view ToView(const grpc_slice& slice) {
  return {reinterpret_cast<const char*>(GRPC_SLICE_START_PTR(slice)), GRPC_SLICE_LENGTH(slice)};
}

grpc_slice ToSlice(std::string bytes) {
  if (bytes.size() <= kCopyBytesMax) {
    const grpc_slice slice = grpc_slice_from_copied_buffer(bytes.data(), bytes.size());
    KeepSpareBytes(&bytes);
    return slice;
  }
  auto* owner = new std::string(std::move(bytes));
  return grpc_slice_new_with_user_data(
      owner->data(), owner->size(), [](void* user) { delete static_cast<std::string*>(user); },
      owner);
}

grpc_byte_buffer* ToByteBuffer(std::string bytes) {
  grpc_slice slice = ToSlice(std::move(bytes));
  grpc_byte_buffer* const buffer = grpc_raw_byte_buffer_create(&slice, 1);
  grpc_slice_unref(slice);
  return buffer;
}

// The whole message. One that lies in one slice is used where it is.
grpc::Slice ToOneSlice(grpc_byte_buffer* buffer) {
  const grpc_slice_buffer& slices = buffer->data.raw.slice_buffer;
  if (slices.count == 1) return grpc::Slice(slices.slices[0], grpc::Slice::ADD_REF);
  grpc_byte_buffer_reader reader;
  GPR_ASSERT(grpc_byte_buffer_reader_init(&reader, buffer) != 0);
  grpc::Slice whole(grpc_byte_buffer_reader_readall(&reader), grpc::Slice::STEAL_REF);
  grpc_byte_buffer_reader_destroy(&reader);
  return whole;
}

// "" if there is none.
std::string FirstProperty(const grpc_auth_context* context, const char* name) {
  grpc_auth_property_iterator properties = grpc_auth_context_find_properties_by_name(context, name);
  const grpc_auth_property* const first = grpc_auth_property_iterator_next(&properties);
  return first == nullptr ? std::string() : std::string(first->value, first->value_length);
}

}  // namespace

bool GrpcCall::Tag::FinalizeResult(void** /*tag*/, bool* /*ok*/) { return true; }

GrpcCall::GrpcCall(GrpcQueue* queue) : queue_(queue) {
  grpc_call_details_init(&details_);
  grpc_metadata_array_init(&metadata_);
}

GrpcCall::~GrpcCall() {
  if (live_) queue_->RemoveLive();
  grpc_metadata_array_destroy(&metadata_);
  grpc_call_details_destroy(&details_);
  if (call_ != nullptr) grpc_call_unref(call_);
}

void GrpcCall::Request(grpc_server* server, grpc_completion_queue* queue) {
  GPR_ASSERT(grpc_server_request_call(server, &call_, &details_, &metadata_, queue, queue,
                                      &accept_) == GRPC_CALL_OK);
}

void GrpcCall::OnEvent(Operation operation, bool ok) {
  switch (operation) {
    case Operation::kAccept:
      // Not ok: the server shuts down and no RPC came; kClose will not come either.
      if (!ok) return queue_->Remove(this);
      OnAccept();
      break;
    case Operation::kRead:
      OnRead();
      break;
    case Operation::kWrite:
      OnWritten();
      break;
    case Operation::kWriteAndRead:
      OnWritten();
      OnRead();
      break;
    case Operation::kFinish:
      finished_ = true;
      break;
    case Operation::kClose:
      done_ = true;
      queue_->times().OnLastMessage(&times);
      if (handler_ && cancelled_ != 0) handler_->OnCancel();
      break;
  }
  Pump();
}

void GrpcCall::OnAccept() {
  queue_->Request();
  GrpcBatch close;
  close.Add(GRPC_OP_RECV_CLOSE_ON_SERVER).data.recv_close_on_server.cancelled = &cancelled_;
  Start(close, &close_);
  live_ = queue_->AddLive();
  if (!live_) {
    // As a client of gRPC sees what HTTP/2 refuses: it may try again elsewhere.
    failure_ = absl::UnavailableError("too many streams live: --max_live_streams");
    return;
  }
  queue_->times().Begin(&times, MonotonicNs());
  const std::string_view method = ToView(details_.method);
  const RpcServices served = queue_->environment()->services();
  if (method == kProcessPath && served.Has(RpcService::kExtProc)) {
    handler_.BeginStream(queue_->environment(), this);
  } else if (auto unary = MakeServiceHandler(method, queue_->environment(), this)) {
    handler_.Begin(std::move(unary));
  } else if (auto builtin = MakeBuiltinRpc(method, queue_->serving(), queue_->services(), served)) {
    handler_.Begin(std::move(builtin));
  } else {
    failure_ = UnknownMethod(method, ServiceSet::kAll, served);
  }
}

void GrpcCall::Describe(LiveRpc* rpc) const {
  rpc->peer = peer();
  rpc->state = "ends";
  if (handler_) handler_->Describe(rpc);
}

void GrpcCall::OnRead() {
  reading_ = false;
  if (incoming_ == nullptr) {
    read_ended_ = true;
    queue_->times().OnLastMessage(&times);
    // A reset ends reading, too, and then gRPC says so. What is posted comes after that.
    if (handler_->fails_at_half_close()) return Post(nullptr, Event{});
    return handler_->OnHalfClose();
  }
  queue_->times().OnMessage(&times, MonotonicNs());
  *message_ = ToOneSlice(incoming_);
  grpc_byte_buffer_destroy(std::exchange(incoming_, nullptr));
  handler_.OnMessage({reinterpret_cast<const char*>(message_->begin()), message_->size()});
}

void GrpcCall::OnWritten() {
  writing_ = writing_and_reading_ = false;
  finished_ |= finish_with_write_;
  grpc_byte_buffer_destroy(std::exchange(outgoing_, nullptr));
}

bool GrpcCall::wants_message() const {
  return handler_ && !failure_.has_value() && handler_.wants_message();
}

const std::optional<absl::Status>& GrpcCall::end() const {
  return failure_.has_value() || !handler_ ? failure_ : handler_.end();
}

// Takes what has come of the last event.
void GrpcCall::Collect() {
  if (!handler_) return;
  if (handler_.has_output()) {
    handler_.DrainOutput(
        [this](std::string&& response) { responses_.push_back(std::move(response)); });
  }
  uint64_t deadline_ns = handler_.deadline_ns();
  if (!done_) deadline_ns = EarlierDeadline(deadline_ns, cancel_ns_);
  queue_->SetDeadline(this, std::exchange(deadline_ns_, deadline_ns), deadline_ns);
}

// Does what the handler's state asks for, and goes when nothing is left to do.
void GrpcCall::Pump() {
  Collect();
  if (!done_) StartOperations();
  if (CanDelete()) queue_->Remove(this);
}

// What a client does not take of its responses is not added to: its next message is
// read when the last response has gone past HTTP/2's flow control.
void GrpcCall::StartOperations() {
  if (finishing_) return;
  // Of a batch that waits for a message, too, the response goes before the status.
  const bool blocked = writing_ && !writing_and_reading_;
  if (!responses_.empty()) {
    if (!writing_) StartWrite();
  } else if (end().has_value()) {
    if (!blocked) StartFinish();
  } else if (!writing_ && may_read()) {
    StartRead();
  }
}

void GrpcCall::Start(const GrpcBatch& batch, Tag* tag) {
  GPR_ASSERT(grpc_call_start_batch(call_, batch.ops(), batch.count(),
                                   static_cast<grpc::internal::CompletionQueueTag*>(tag),
                                   nullptr) == GRPC_CALL_OK);
}

void GrpcCall::AddInitialMetadata(GrpcBatch* batch) {
  if (std::exchange(begun_, true)) return;
  grpc_op& op = batch->Add(GRPC_OP_SEND_INITIAL_METADATA);
  op.data.send_initial_metadata.count = 0;
  op.data.send_initial_metadata.metadata = nullptr;
  op.data.send_initial_metadata.maybe_compression_level.is_set = 0;
}

void GrpcCall::AddRead(GrpcBatch* batch) {
  reading_ = true;
  *message_ = grpc::Slice();
  batch->Add(GRPC_OP_RECV_MESSAGE).data.recv_message.recv_message = &incoming_;
}

void GrpcCall::StartRead() {
  GrpcBatch batch;
  AddRead(&batch);
  Start(batch, &read_);
}

void GrpcCall::StartWrite() {
  writing_ = true;
  outgoing_ = ToByteBuffer(std::move(responses_[next_response_++]));
  if (next_response_ == responses_.size()) {
    responses_.clear();
    next_response_ = 0;
  }
  GrpcBatch batch;
  AddInitialMetadata(&batch);
  batch.Add(GRPC_OP_SEND_MESSAGE).data.send_message.send_message = outgoing_;
  // One batch ends with its last operation, so that nothing more could be written before
  // the next message comes.
  const bool reads = responses_.empty() && may_read() && handler_->quiet();
  if (reads) AddRead(&batch);
  writing_and_reading_ = reads;
  // An end that comes with the last response crosses no further message of the client.
  grpc_slice message = grpc_empty_slice();
  if (responses_.empty() && end().has_value()) {
    finishing_ = finish_with_write_ = true;
    AddStatus(&batch, &message);
  }
  Start(batch, reads ? &write_and_read_ : &write_);
  grpc_slice_unref(message);
}

void GrpcCall::StartFinish() {
  finishing_ = true;
  GrpcBatch batch;
  AddInitialMetadata(&batch);
  grpc_slice message;
  AddStatus(&batch, &message);
  Start(batch, &finish_);
  grpc_slice_unref(message);
}

// `message` lives until the batch has been started.
void GrpcCall::AddStatus(GrpcBatch* batch, grpc_slice* message) {
  const absl::Status& status = *end();
  *message = grpc_slice_from_copied_buffer(status.message().data(), status.message().size());
  auto& op = batch->Add(GRPC_OP_SEND_STATUS_FROM_SERVER).data.send_status_from_server;
  op.trailing_metadata_count = 0;
  op.trailing_metadata = nullptr;
  op.status = static_cast<grpc_status_code>(status.code());
  op.status_details = message;
}

bool GrpcCall::CanDelete() const {
  const bool closed = !handler_ || handler_.closed();
  return done_ && !reading_ && !writing_ && (!finishing_ || finished_) && closed &&
         posted_.load(std::memory_order_relaxed) == 0;
}

void GrpcCall::OnPosted(CallState* state, RpcContext::Event event) {
  posted_.fetch_sub(1, std::memory_order_relaxed);
  if (state != nullptr) {
    handler_->OnPosted(state, event);
  } else if (!done_) {
    handler_->OnHalfClose();
  }
  Pump();
}

void GrpcCall::OnDeadline(uint64_t now_ns) {
  if (cancel_ns_ != 0 && cancel_ns_ <= now_ns) {
    cancel_ns_ = 0;
    grpc_call_cancel(call_, nullptr);
  } else {
    handler_->OnDeadline(now_ns);
  }
  Pump();
}

// What a client does not take, or has sent half of, is dropped with it.
void GrpcCall::OnTimeout(StreamTime time) {
  queue_->times().End(&times);
  if (done_) return;
  const absl::Status error = StreamTimeError(time, queue_->limits());
  if (handler_ && !end().has_value() && !writing_) {
    handler_->OnFailure();
    if (handler_.has_output()) {
      // It goes before the error, if the client takes it soon.
      failure_ = error;
      cancel_ns_ = MonotonicNs() + kLastWordsMs * kNsPerMs;
      return Pump();
    }
  }
  const std::string message(error.message());
  grpc_call_cancel_with_status(call_, GRPC_STATUS_DEADLINE_EXCEEDED, message.c_str(), nullptr);
}

void GrpcCall::OnServingChanged() {
  if (handler_) handler_->OnServingChanged();
  Pump();
}

void GrpcCall::OnDrain() {
  if (handler_) handler_->OnDrain();
  Pump();
}

void GrpcCall::OnDrainDeadline() {
  if (handler_) handler_->OnDrainDeadline();
  Pump();
}

void GrpcCall::Post(CallState* call, Event event) {
  posted_.fetch_add(1, std::memory_order_relaxed);
  queue_->Post(this, call, event);
}

// The first message stays where it is, in this object, which outlives its stream.
std::shared_ptr<const void> GrpcCall::KeepMessage() {
  std::shared_ptr<const void> kept = later_message_;
  if (kept == nullptr) kept = std::shared_ptr<const void>(std::shared_ptr<const void>(), message_);
  later_message_ = std::make_shared<grpc::Slice>();
  message_ = later_message_.get();
  return kept;
}

size_t GrpcCall::unsent_bytes() const {
  size_t bytes = 0;
  for (size_t i = next_response_; i < responses_.size(); ++i) bytes += responses_[i].size();
  return bytes;
}

// Facts that cost something are read when a plugin asks for the first.
void GrpcCall::ReadFacts() const {
  std::call_once(facts_once_, [this] {
    char* const peer = grpc_call_get_peer(call_);
    peer_ = peer;
    gpr_free(peer);
    // gRPC writes a URI: "ipv6:%5B::1%5D:41312".
    if (peer_.starts_with("ipv6:")) peer_ = LenientlyDecoded(peer_);
    grpc_auth_context* const context = grpc_call_auth_context(call_);
    if (context == nullptr) return;
    secure_ = FirstProperty(context, GRPC_TRANSPORT_SECURITY_TYPE_PROPERTY_NAME) ==
              GRPC_SSL_TRANSPORT_SECURITY_TYPE;
    // gRPC lists the certificate's URIs and DNS names apart.
    for (const char* name :
         {GRPC_PEER_URI_PROPERTY_NAME, GRPC_PEER_DNS_PROPERTY_NAME, GRPC_X509_CN_PROPERTY_NAME}) {
      if (peer_identity_.empty()) peer_identity_ = FirstProperty(context, name);
    }
    grpc_auth_context_release(context);
  });
}

std::string_view GrpcCall::peer() const {
  ReadFacts();
  return peer_;
}

std::string_view GrpcCall::listener() const {
  ReadFacts();
  return secure_ ? "secure" : "plaintext";
}

std::string_view GrpcCall::peer_identity() const {
  ReadFacts();
  return peer_identity_;
}

bool GrpcCall::GetMetadata(std::string_view key, uint32_t index, std::string_view* value) const {
  for (size_t i = 0; i < metadata_.count; ++i) {
    if (ToView(metadata_.metadata[i].key) != key || index-- != 0) continue;
    *value = ToView(metadata_.metadata[i].value);
    return true;
  }
  return false;
}

bool GrpcCall::GetMetadataAt(uint32_t index, std::string_view* key, std::string_view* value) const {
  if (index >= metadata_.count) return false;
  *key = ToView(metadata_.metadata[index].key);
  *value = ToView(metadata_.metadata[index].value);
  return true;
}

}  // namespace callout::host
