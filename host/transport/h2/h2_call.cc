// SPDX-License-Identifier: Apache-2.0

#include "host/transport/h2/h2_call.h"

#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <utility>

#include "host/base/clock.h"
#include "host/base/spare_bytes.h"
#include "host/base/status_text.h"
#include "host/transport/builtin_rpcs.h"
#include "host/transport/h2/h2_connection.h"
#include "host/transport/service_handler.h"

namespace callout::host {

namespace {

// A stream with so many bytes to send is given no further message.
constexpr size_t kOutgoingBytesMax = 65536;
// Memory of this size stays with a call that is used again.
constexpr size_t kKeptBytesMax = 4096;
// What a stream costs beside the call: nghttp2's part, the instances', the allocator's.
constexpr size_t kStreamBytes = 1536;

// What an answer that waits keeps.
size_t CostOf(const std::string& response) { return sizeof(std::string) + response.capacity(); }

// A header of text that outlives the frame.
nghttp2_nv Static(std::string_view name, std::string_view value) {
  nghttp2_nv header;
  header.name = reinterpret_cast<uint8_t*>(const_cast<char*>(name.data()));
  header.namelen = name.size();
  header.value = reinterpret_cast<uint8_t*>(const_cast<char*>(value.data()));
  header.valuelen = value.size();
  header.flags = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE;
  return header;
}

nghttp2_nv Copied(std::string_view name, std::string_view value) {
  nghttp2_nv header = Static(name, value);
  header.flags = NGHTTP2_NV_FLAG_NO_COPY_NAME;
  return header;
}

// grpc-status and, if there is one, grpc-message.
class StatusHeaders {
 public:
  explicit StatusHeaders(const absl::Status& status) {
    const char* end = std::to_chars(code_, code_ + sizeof(code_), status.raw_code()).ptr;
    Add(Copied("grpc-status", {code_, static_cast<size_t>(end - code_)}));
    if (status.message().empty()) return;
    message_ = EncodeGrpcMessage(MessageOf(status));
    Add(Copied("grpc-message", message_));
  }
  void Add(const nghttp2_nv& header) { headers_[count_++] = header; }
  const nghttp2_nv* data() const { return headers_.data(); }
  size_t size() const { return count_; }

 private:
  std::array<nghttp2_nv, 5> headers_;
  size_t count_ = 0;
  char code_[12];
  std::string message_;
};

// Is no request's path.
constexpr std::string_view kNoPath = " ";

}  // namespace

H2Call::H2Call(H2Context* context)
    : context_(context),
      head_(context->options().metadata_bytes_max,
            context->options().services != ServiceSet::kHealth ? kProcessPath : kNoPath),
      reader_(context->options().message_bytes_max) {}

H2Call::~H2Call() = default;

void H2Call::Begin(H2Connection* connection, int32_t stream_id) {
  connection_ = connection;
  peer_ = connection->peer();
  stream_id_ = stream_id;
  queued_at = kNotQueued;
  needs_bytes = 0;
  context_->times().Begin(&times_, context_->now_ns());
  has_head_ = false;
  open_ = true;
}

// --- In ---------------------------------------------------------------------

void H2Call::OnHead() {
  has_head_ = true;
  RequestHead::Refusal refusal;
  if (context_->options().services == ServiceSet::kHealth && !head_.is_grpc()) {
    AnswerProbe();
  } else if (head_.Refuses(&refusal)) {
    Refuse(refusal);
  } else if (!head_.encoding().empty() && head_.encoding() != "identity") {
    bad_encoding_ = true;
    Fail(absl::UnimplementedError("messages compressed with '" + std::string(head_.encoding()) +
                                  "' are not taken: send them as they are"));
  } else {
    Route();
  }
  connection_->Resume(this);
}

void H2Call::Describe(LiveRpc* rpc) const {
  rpc->peer = peer_->address;
  rpc->state = freed_ ? "over; its client has not taken all of it" : "waits for its first message";
  for (const RpcServiceInfo& service : kRpcServices) {
    if (service.path == head_.path()) rpc->kind = service.name;
  }
  if (handler_) handler_->Describe(rpc);
}

void H2Call::Route() {
  if (head_.has_timeout()) rpc_deadline_ns_ = context_->now_ns() + head_.timeout_ns();
  const RpcServices served = context_->environment()->services();
  // Its stream begins in OnResume.
  if (head_.has_usual_path() && served.Has(RpcService::kExtProc)) return;
  const ServiceSet services = context_->options().services;
  if (auto unary = services == ServiceSet::kHealth
                       ? nullptr
                       : MakeServiceHandler(head_.path(), context_->environment(), this)) {
    handler_.Begin(std::move(unary));
  } else if (auto builtin = MakeBuiltinRpc(head_.path(), context_->serving(), services, served)) {
    handler_.Begin(std::move(builtin));
  } else {
    Fail(UnknownMethod(head_.path(), services, served));
  }
}

// A health check by plain HTTP/2 is answered as one by HTTP/1.1 is.
void H2Call::AnswerProbe() {
  refused_in_http_ = true;
  http_status_ = context_->serving()->load() ? "200" : "503";
  failure_ = absl::OkStatus();
}

void H2Call::Refuse(const RequestHead::Refusal& refusal) {
  if (refusal.code == absl::StatusCode::kResourceExhausted) {
    context_->CountLimit(H2StreamLimit::kMetadata);
  }
  if (refusal.http_status == 0) return Fail(absl::Status(refusal.code, refusal.message));
  refused_in_http_ = true;
  http_status_ = "415";
  Add(refusal.message);
  failure_ = absl::OkStatus();
}

void H2Call::Fail(absl::Status status) {
  if (end().has_value()) return;
  failure_ = std::move(status);
  if (handler_) FailHandler();
  DropUnread();
}

// What it still says goes out before the error: where Envoy is told to fail open, an error in the
// middle of a body would let the rest pass.
void H2Call::FailHandler() {
  try {
    handler_->OnFailure();
    Collect();
  } catch (const std::bad_alloc&) {
    handler_->OnCancel();
  }
}

// Nobody is going to take what has come of the next message.
void H2Call::DropUnread() {
  connection_->StopWaiting(this);
  needs_memory_ = false;
  if (message_given_) return;
  message_ready_ = false;
  reader_.Reset();
  connection_->RemoveBytes(std::exchange(message_bytes_, 0));
}

void H2Call::OnData(std::string_view data) {
  has_data_ = true;
  if (pending_.empty()) {
    const size_t size = data.size();
    Read(&data);
    connection_->Consume(this, size - data.size());
  }
  if (!data.empty()) {
    TakePending(0);
    pending_.append(data);
  }
  // Of what is small Respond takes note.
  if (!pending_.empty() || reader_.capacity() > kKeptBytesMax) Recount();
  if (message_ready_ || end().has_value()) connection_->Resume(this);
}

// Forgets the first `bytes` of what has not been taken yet. What has been taken goes
// before the rest grows, so that the buffer holds no more than the window.
void H2Call::TakePending(size_t bytes) {
  pending_taken_ += bytes;
  if (pending_taken_ == pending_.size()) {
    pending_.clear();
    if (pending_.capacity() > kKeptBytesMax) std::string().swap(pending_);
    pending_taken_ = 0;
  } else if (pending_taken_ > pending_.size() / 2) {
    pending_.erase(0, pending_taken_);
    pending_taken_ = 0;
  }
}

bool H2Call::CanTake() const {
  if (!open_ || end().has_value() || outgoing_bytes_ >= kOutgoingBytesMax) return false;
  return !handler_ || handler_.wants_message();
}

// Takes bytes from the front of `data`, up to the end of the next message; all of
// them once the RPC is over.
void H2Call::Read(std::string_view* data) {
  while (!message_ready_ && CanTake()) {
    if (needs_memory_) {
      if (needs_bytes != 0 || !connection_->Admit(this, reader_.size())) return;
      OnAdmitted();
    } else if (message_given_) {
      DropMessage();
      context_->KeepMemory(reader_.TakeMessage());
    }
    if (!MayGrow(*data)) break;
    const MessageReader::Result result = reader_.Read(data);
    if (result == MessageReader::Result::kNeedsBytes) return;
    if (result == MessageReader::Result::kHead) {
      needs_memory_ = true;
    } else if (result == MessageReader::Result::kMessage) {
      message_ready_ = true;
    } else {
      OnReadFailed(result);
    }
  }
  if (end().has_value()) *data = {};
}

void H2Call::OnAdmitted() {
  needs_memory_ = false;
  message_bytes_ = reader_.size();
  reader_.UseMemory(context_->TakeMemory());
}

// Draws what the message under way grows by, before it does.
bool H2Call::MayGrow(std::string_view data) {
  const size_t growth = reader_.GrowthFor(data.size());
  if (growth == 0 || context_->memory().Resize(&drawn_bytes_, drawn_bytes_ + growth)) return true;
  OnNoMemory();
  return false;
}

void H2Call::OnNoMemory() {
  if (!open_) return;  // its client has gone, and what it keeps goes soon
  context_->memory().budget()->CountRefusal(MemoryBudget::Use::kGrowth);
  FailOverLimit(H2StreamLimit::kMemory,
                absl::ResourceExhaustedError("the host has no memory left for this stream: "
                                             "--memory_budget_bytes=" +
                                             std::to_string(context_->memory().budget()->max())));
  FreeAfterFailure();
  connection_->Resume(this);
}

void H2Call::FailOverLimit(H2StreamLimit limit, absl::Status status) {
  if (end().has_value()) return;
  context_->CountLimit(limit);
  Fail(std::move(status));
}

// What an RPC that is over has kept goes at once, whenever the client takes note of its end. False
// if a plugin works on it still.
bool H2Call::FreeHandler() {
  if (!handler_.closed() || posted_.load(std::memory_order_acquire) != 0) return false;
  if (!failure_.has_value()) failure_ = handler_.end();
  handler_.Reset();
  freed_ = true;
  message_given_ = false;
  context_->KeepMemory(reader_.TakeMessage());
  DropUnread();
  return true;
}

void H2Call::FreeAfterFailure() {
  if (handler_ && !FreeHandler()) return;
  DropMessage();
  reader_.Reset();
  // Many answers that wait for their client would hold up the status, and stay.
  if (outgoing_bytes_ > kKeptBytesMax) connection_->Reset(this);
}

// All that is kept for it, as the process's memory is counted.
size_t H2Call::CountBytes() const {
  size_t bytes = sizeof(H2Call) + kStreamBytes + head_.capacity() + pending_.capacity() +
                 reader_.capacity() + outgoing_bytes_;
  if (handler_) bytes += handler_.kept_bytes();
  return bytes;
}

// After each step. Who has grown over what there is ends.
void H2Call::Recount() {
  if (!context_->memory().Resize(&drawn_bytes_, CountBytes()) && open_) OnNoMemory();
}

void H2Call::GiveMessage() {
  message_ready_ = false;
  message_given_ = true;
  context_->times().OnMessage(&times_, context_->now_ns());
  handler_.OnMessage(reader_.message());
  Collect();
}

void H2Call::OnReadFailed(MessageReader::Result result) {
  if (result == MessageReader::Result::kTooLarge) {
    FailOverLimit(
        H2StreamLimit::kMessage,
        absl::ResourceExhaustedError("a message of " + std::to_string(reader_.size()) +
                                     " bytes is over --max_message_bytes=" +
                                     std::to_string(context_->options().message_bytes_max)));
  } else if (result == MessageReader::Result::kNoMemory) {
    OnNoMemory();
  } else if (result == MessageReader::Result::kCompressed) {
    Fail(absl::InternalError("a message is compressed, but grpc-encoding is missing"));
  } else {
    Fail(absl::InternalError("invalid gRPC message: its flag is neither 0 nor 1"));
  }
}

void H2Call::OnRemoteEnd() {
  remote_ended_ = true;
  connection_->Resume(this);
}

void H2Call::OnResume() {
  Guarded([this] {
    if (head_.has_usual_path() && !handler_ && !end().has_value()) {
      handler_.BeginStream(context_->environment(), this);
    }
    Advance();
  });
}

// Goes on with what has been waiting.
void H2Call::Advance() {
  if (!open_) return;
  std::string_view rest = std::string_view(pending_).substr(pending_taken_);
  const size_t size = rest.size();
  for (;;) {
    Read(&rest);
    if (!message_ready_ || !handler_ || !CanTake()) break;
    if (!connection_->SpendTurn(reader_.size())) {
      connection_->Resume(this);  // in the next turn
      break;
    }
    GiveMessage();
  }
  TakePending(size - rest.size());
  connection_->Consume(this, size - rest.size());
  HalfCloseIfRead();
}

// Tells the handler that the client is done, once it has been given all messages.
void H2Call::HalfCloseIfRead() {
  const bool served = handler_ || freed_;
  if (!remote_ended_ || half_closed_ || !served || message_ready_ || !pending_.empty()) return;
  half_closed_ = true;
  context_->times().OnLastMessage(&times_);
  if (end().has_value()) return;
  if (reader_.in_message()) {
    Fail(absl::InternalError("the client has ended the stream within a message"));
  } else {
    handler_->OnHalfClose();
  }
}

void H2Call::OnServingChanged() {
  if (!handler_) return;
  handler_->OnServingChanged();
  Respond();
}

void H2Call::OnShutdown() {
  if (!handler_) return;
  handler_->OnDrain();
  Respond();
}

void H2Call::OnDrainDeadline() {
  if (!handler_) return;
  Guarded([this] { handler_->OnDrainDeadline(); });
  GoOn();
}

// --- Out --------------------------------------------------------------------

void H2Call::Add(std::string response) {
  const size_t bytes = CostOf(response);
  outgoing_.push_back(std::move(response));
  outgoing_bytes_ += bytes;
  connection_->AddBytes(bytes);
}

void H2Call::Collect() {
  if (!open_ || !handler_ || !handler_.has_output()) return;
  handler_.DrainOutput([this](std::string&& response) { Add(std::move(response)); });
}

void H2Call::Respond() {
  Guarded([this] { Collect(); });
  if (open_ && handler_ && handler_.end().has_value()) FreeHandler();
  Recount();
  UpdateDeadline();
  if (!open_ || !has_head_) return;
  if (response_begun_) return SendMore();
  if (outgoing_.empty() && !end().has_value()) return;
  response_begun_ = true;
  const nghttp2_nv type = Static("content-type", "application/grpc");
  if (refused_in_http_) {
    const nghttp2_nv headers[] = {Static(":status", http_status_),
                                  Static("content-type", "text/plain")};
    data_ = Data::kAsked;
    connection_->SubmitHeaders(this, headers, 2, true);
  } else if (!outgoing_.empty()) {
    const nghttp2_nv headers[] = {Static(":status", "200"), type};
    data_ = Data::kAsked;
    connection_->SubmitHeaders(this, headers, 2, true);
  } else {
    const StatusHeaders status(*end());
    std::array<nghttp2_nv, 5> headers = {Static(":status", "200"), type};
    size_t count = std::copy_n(status.data(), status.size(), headers.begin() + 2) - headers.begin();
    if (bad_encoding_) headers[count++] = Static("grpc-accept-encoding", "identity");
    status_submitted_ = true;
    connection_->SubmitHeaders(this, headers.data(), count, false);
  }
}

// What has come since nghttp2 was told that there is no more. Trailers alone need no DATA.
void H2Call::SendMore() {
  if (data_ != Data::kNone || status_submitted_) return;
  if (!outgoing_.empty()) {
    data_ = Data::kAsked;
    connection_->SubmitData(this);
  } else if (end().has_value()) {
    SubmitTrailers();
    connection_->OnOutput();
  }
}

void H2Call::OnDataSent() {
  if (data_ != Data::kEnding) return;
  data_ = Data::kNone;
  SendMore();
}

ptrdiff_t H2Call::OnWantsData(char* buffer, size_t size, uint32_t* data_flags) {
  size_t written = 0;
  while (written < size && outgoing_index_ < outgoing_.size()) {
    const std::string& response = outgoing_[outgoing_index_];
    char head[kMessageHeadBytes];
    WriteMessageHead(static_cast<uint32_t>(response.size()), head);
    const size_t head_bytes = refused_in_http_ ? 0 : sizeof(head);
    if (outgoing_offset_ < head_bytes) {
      const size_t count = std::min(head_bytes - outgoing_offset_, size - written);
      std::memcpy(buffer + written, head + outgoing_offset_, count);
      outgoing_offset_ += count;
      written += count;
    }
    if (outgoing_offset_ < head_bytes) break;
    const size_t at = outgoing_offset_ - head_bytes;
    const size_t count = response.copy(buffer + written, size - written, at);
    outgoing_offset_ += count;
    written += count;
    if (at + count < response.size()) break;
    const size_t bytes = CostOf(response);
    KeepSpareBytes(&outgoing_[outgoing_index_++]);
    outgoing_offset_ = 0;
    outgoing_bytes_ -= bytes;
    connection_->RemoveBytes(bytes);
  }
  answered_ |= written > 0;
  if (outgoing_index_ < outgoing_.size()) {
    if (outgoing_index_ > outgoing_.size() / 2) {
      outgoing_.erase(outgoing_.begin(),
                      outgoing_.begin() + static_cast<ptrdiff_t>(outgoing_index_));
      outgoing_index_ = 0;
    }
    if (outgoing_bytes_ < kOutgoingBytesMax) ResumeIfWaiting();
    return static_cast<ptrdiff_t>(written);
  }
  outgoing_.clear();
  outgoing_index_ = 0;
  if (drawn_bytes_ > kOutgoingBytesMax) Recount();
  data_ = Data::kEnding;
  *data_flags |= NGHTTP2_DATA_FLAG_EOF;
  if (refused_in_http_) return static_cast<ptrdiff_t>(written);
  *data_flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
  if (end().has_value()) {
    SubmitTrailers();
  } else {
    ResumeIfWaiting();
  }
  return static_cast<ptrdiff_t>(written);
}

// There is room for answers again.
void H2Call::ResumeIfWaiting() {
  if (!pending_.empty() || message_ready_) connection_->Resume(this);
}

void H2Call::SubmitTrailers() {
  if (std::exchange(status_submitted_, true)) return;
  const StatusHeaders status(*end());
  connection_->SubmitTrailers(this, status.data(), status.size());
}

// --- Time and other threads -------------------------------------------------

void H2Call::UpdateDeadline() {
  uint64_t deadline_ns = handler_ ? handler_.deadline_ns() : 0;
  if (open_ && !end().has_value()) deadline_ns = EarlierDeadline(deadline_ns, rpc_deadline_ns_);
  if (deadline_ns == deadline_ns_) return;
  context_->SetDeadline(this, deadline_ns_, deadline_ns);
  deadline_ns_ = deadline_ns;
}

void H2Call::OnTime(uint64_t now_ns) {
  if (rpc_deadline_ns_ != 0 && rpc_deadline_ns_ <= now_ns && open_ && !end().has_value()) {
    Fail(absl::DeadlineExceededError("Deadline Exceeded"));
  } else if (handler_) {
    Guarded([&] { handler_->OnDeadline(now_ns); });
  }
  GoOn();
}

// Nobody would read the status of who takes no answers, and it may be that of an RPC
// that is over.
void H2Call::OnOverdue(StreamTime time) {
  context_->times().End(&times_);
  if (!has_head_ || end().has_value() || !outgoing_.empty()) return connection_->Reset(this);
  Fail(StreamTimeError(time, context_->options()));
  Respond();
}

void H2Call::Post(CallState* call, Event event) {
  posted_.fetch_add(1, std::memory_order_relaxed);
  context_->Post(this, call, event);
}

void H2Call::OnPosted(CallState* state, Event event) {
  posted_.fetch_sub(1, std::memory_order_relaxed);
  Guarded([&] { handler_->OnPosted(state, event); });
  GoOn();
}

void H2Call::GoOn() {
  Guarded([this] {
    Advance();
    Respond();
  });
  ReleaseIfDone();
}

std::shared_ptr<const void> H2Call::KeepMessage() {
  return std::make_shared<const std::vector<char>>(reader_.TakeMessage());
}

// --- The end ----------------------------------------------------------------

void H2Call::OnClosed() {
  Close();
  ReleaseIfDone();
}

void H2Call::OnConnectionLost() {
  if (open_) Close();
  connection_ = nullptr;
  ReleaseIfDone();
}

void H2Call::Close() {
  // Its end and its reset may have come together.
  HalfCloseIfRead();
  open_ = false;
  context_->times().End(&times_);
  if (handler_ && !end().has_value()) handler_->OnCancel();
  connection_->StopWaiting(this);
  DropInput();
  DropOutput();
  UpdateDeadline();
}

void H2Call::DropMessage() {
  message_given_ = false;
  connection_->RemoveBytes(std::exchange(message_bytes_, 0));
}

// What has been given to the stream stays where it is.
void H2Call::DropInput() {
  DropMessage();
  if (pending_.capacity() > kKeptBytesMax) {
    std::string().swap(pending_);  // assigning would keep it
  } else {
    pending_.clear();
  }
  pending_taken_ = 0;
}

void H2Call::DropOutput() {
  outgoing_.clear();
  outgoing_index_ = outgoing_offset_ = 0;
  connection_->RemoveBytes(std::exchange(outgoing_bytes_, 0));
}

void H2Call::ReleaseIfDone() {
  const bool closed = !handler_ || handler_.closed();
  if (open_) return;
  if (!closed || posted_.load(std::memory_order_acquire) != 0) return Recount();
  if (connection_ != nullptr) connection_->Forget(this);
  connection_ = nullptr;
  handler_.Reset();
  failure_.reset();
  head_.Reset();
  context_->KeepMemory(reader_.TakeMessage());
  reader_.Reset();
  rpc_deadline_ns_ = 0;
  refused_in_http_ = bad_encoding_ = false;
  needs_memory_ = message_ready_ = message_given_ = false;
  has_data_ = remote_ended_ = half_closed_ = freed_ = response_begun_ = false;
  data_ = Data::kNone;
  status_submitted_ = answered_ = false;
  context_->memory().Resize(&drawn_bytes_, 0);
  context_->Release(this, *std::exchange(peer_, nullptr));
}

}  // namespace callout::host
