#include "host/transport/grpc_call.h"

#include <grpc/grpc_security_constants.h>

#include <utility>
#include <vector>

#include "host/spare_bytes.h"
#include "host/transport/grpc_queue.h"

namespace callout::host {

namespace {

// Answers up to this size are copied into gRPC's slice, which is one allocation;
// larger ones are handed over as they are, which is two but copies nothing.
constexpr size_t kCopyBytesMax = 1024;

grpc::ByteBuffer ToByteBuffer(std::string bytes) {
  if (bytes.size() <= kCopyBytesMax) {
    grpc::Slice slice(bytes);
    KeepSpareBytes(std::move(bytes));
    return grpc::ByteBuffer(&slice, 1);
  }
  auto* owner = new std::string(std::move(bytes));
  grpc::Slice slice(
      owner->data(), owner->size(), [](void* user) { delete static_cast<std::string*>(user); },
      owner);
  return grpc::ByteBuffer(&slice, 1);
}

grpc::Status ToGrpcStatus(const absl::Status& status) {
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()));
}

std::string_view ToView(const grpc::string_ref& text) { return {text.data(), text.size()}; }

}  // namespace

GrpcCall::GrpcCall(GrpcQueue* queue) : queue_(queue), io_(&context_) {
  context_.AsyncNotifyWhenDone(&done_tag_);
}

GrpcCall::~GrpcCall() {
  if (side_ != nullptr) queue_->RemoveSide(this);
  if (live_) queue_->RemoveLive();
}

void GrpcCall::OnEvent(Tag::Operation operation, bool ok) {
  switch (operation) {
    case Tag::Operation::kAccept:
      // Not ok: the server shuts down and no RPC came; kDone will not come either.
      if (!ok) {
        delete this;
        return;
      }
      OnAccept();
      break;
    case Tag::Operation::kRead:
      OnRead(ok);
      break;
    case Tag::Operation::kWrite:
      writing_ = false;
      break;
    case Tag::Operation::kFinish:
      finished_ = true;
      break;
    case Tag::Operation::kDone:
      done_ = true;
      if (stream_.has_value() && context_.IsCancelled()) stream_->OnCancel();
      break;
  }
  Pump();
}

void GrpcCall::OnAccept() {
  queue_->Request();
  live_ = queue_->AddLive();
  if (!live_) {
    // As a client of gRPC sees what HTTP/2 refuses: it may try again elsewhere.
    failure_ = absl::UnavailableError("too many streams live: --max_live_streams");
    return;
  }
  if (context_.method() == kProcessPath) {
    stream_.emplace(queue_->environment(), this);
    return;
  }
  side_ = MakeSideRpc(context_.method(), queue_->serving());
  if (side_ == nullptr) {
    failure_ = absl::UnimplementedError("");
  } else {
    queue_->AddSide(this);
  }
}

void GrpcCall::OnRead(bool ok) {
  reading_ = false;
  if (!ok) {
    read_ended_ = true;
    stream_.has_value() ? stream_->OnHalfClose() : side_->OnHalfClose();
    return;
  }
  // A message that lies in one slice is used where it is.
  if (!incoming_.TrySingleSlice(message_).ok()) (void)incoming_.DumpToSingleSlice(message_);
  incoming_.Clear();
  const std::string_view bytes(reinterpret_cast<const char*>(message_->begin()), message_->size());
  stream_.has_value() ? stream_->OnMessage(bytes) : side_->OnMessage(bytes);
}

bool GrpcCall::wants_message() const {
  return stream_.has_value() ? stream_->wants_message() : !end().has_value();
}

const std::optional<absl::Status>& GrpcCall::end() const {
  if (failure_.has_value()) return failure_;
  return stream_.has_value() ? stream_->end() : side_->end();
}

// Takes what has come of the last event.
void GrpcCall::Collect() {
  if (side_ != nullptr) {
    for (std::string& answer : side_->TakeOutput()) outgoing_.push_back(std::move(answer));
  }
  if (!stream_.has_value()) return;
  if (stream_->has_output()) {
    for (std::string& answer : stream_->TakeOutput()) outgoing_.push_back(std::move(answer));
  }
  if (stream_->deadline_ns() != deadline_ns_) {
    queue_->SetDeadline(this, deadline_ns_, stream_->deadline_ns());
    deadline_ns_ = stream_->deadline_ns();
  }
}

// Does what the stream's state asks for, and goes when nothing is left to do.
void GrpcCall::Pump() {
  Collect();
  if (!done_) {
    if (!writing_ && !outgoing_.empty()) StartWrite();
    if (!writing_ && !finishing_ && end().has_value()) {
      finishing_ = true;
      io_.Finish(ToGrpcStatus(*end()), &finish_);
    }
    if (!reading_ && !read_ended_ && wants_message()) StartRead();
  }
  if (CanDelete()) queue_->Remove(this);
}

void GrpcCall::StartRead() {
  reading_ = true;
  *message_ = grpc::Slice();
  io_.Read(&incoming_, &read_);
}

void GrpcCall::StartWrite() {
  writing_ = true;
  io_.Write(ToByteBuffer(std::move(outgoing_.front())), &write_);
  outgoing_.erase(outgoing_.begin());
}

bool GrpcCall::CanDelete() const {
  return done_ && !reading_ && !writing_ && (!finishing_ || finished_) && closed() &&
         posted_.load(std::memory_order_relaxed) == 0;
}

void GrpcCall::OnPosted(CallState* state, StreamCarrier::Event event) {
  posted_.fetch_sub(1, std::memory_order_relaxed);
  stream_->OnPosted(state, event);
  Pump();
}

void GrpcCall::OnDeadline(uint64_t now_ns) {
  stream_->OnDeadline(now_ns);
  Pump();
}

void GrpcCall::OnServingChanged() {
  side_->OnServingChanged();
  Pump();
}

void GrpcCall::OnDrain() {
  side_->OnServingChanged();
  if (!end().has_value()) failure_ = absl::UnavailableError("the server drains");
  Pump();
}

void GrpcCall::Post(CallState* call, Event event) {
  posted_.fetch_add(1, std::memory_order_relaxed);
  queue_->Post(this, call, event);
}

void GrpcCall::RetainMessage() {
  later_messages_.push_back(std::make_unique<grpc::Slice>());
  message_ = later_messages_.back().get();
}

// Facts that cost something are read when a plugin asks for the first.
void GrpcCall::ReadFacts() const {
  std::call_once(facts_once_, [this] {
    peer_ = context_.peer();
    const auto auth = context_.auth_context();
    if (auth == nullptr) return;
    for (const grpc::string_ref& type :
         auth->FindPropertyValues(GRPC_TRANSPORT_SECURITY_TYPE_PROPERTY_NAME)) {
      secure_ = type == GRPC_SSL_TRANSPORT_SECURITY_TYPE;
    }
    // gRPC lists the certificate's URIs and DNS names apart.
    for (const char* property :
         {GRPC_PEER_URI_PROPERTY_NAME, GRPC_PEER_DNS_PROPERTY_NAME, GRPC_X509_CN_PROPERTY_NAME}) {
      const std::vector<grpc::string_ref> values = auth->FindPropertyValues(property);
      if (!values.empty()) {
        peer_identity_.assign(values.front().data(), values.front().size());
        return;
      }
    }
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
  const auto& metadata = context_.client_metadata();
  auto [it, end] = metadata.equal_range(grpc::string_ref(key.data(), key.size()));
  for (; it != end; ++it) {
    if (index-- == 0) {
      *value = ToView(it->second);
      return true;
    }
  }
  return false;
}

}  // namespace callout::host
