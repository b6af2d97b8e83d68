// SPDX-License-Identifier: Apache-2.0

#include "host/transport/h2/h2_connection.h"

#include <algorithm>
#include <new>
#include <utility>

#include "host/base/clock.h"

namespace callout::host {

namespace {

constexpr int32_t kConnectionWindowBytes = 1 << 20;
// HPACK can make much of little, and nghttp2 looks at each byte of it. So a header block, decoded,
// has at most so many times --max_metadata_bytes, and of its first frame on the wire.
constexpr size_t kMetadataTimesMax = 2;
constexpr size_t kWireTimesMax = 8;
// A message costs one of a turn's, and one more for so many bytes.
constexpr size_t kTurnBytesOfMessage = 4096;
// So many frames cost as much as a message.
constexpr uint64_t kTurnFrames = 8;
// And so many bytes of headers, decoded.
constexpr size_t kTurnHeaderBytes = 16384;
constexpr uint8_t kPingOfShutdown[8] = {'s', 'h', 'u', 't', 'd', 'o', 'w', 'n'};

struct OptionDeleter {
  void operator()(nghttp2_option* option) const { nghttp2_option_del(option); }
};
using OptionPtr = std::unique_ptr<nghttp2_option, OptionDeleter>;

OptionPtr MakeOption() {
  nghttp2_option* option = nullptr;
  nghttp2_option_new(&option);
  nghttp2_option_set_no_auto_window_update(option, 1);
  // The guard counts them first, and says so.
  nghttp2_option_set_max_continuations(option, H2Guard::kContinuationsMax + 1);
  // Those that are over would be kept, for a tree of priorities that gRPC's clients
  // do not use; so many of them that each new one meets a cold cache.
  nghttp2_option_set_no_closed_streams(option, 1);
  // Envoy resets each stream that it is done with. The connection counts those
  // that nothing has been sent on.
  nghttp2_option_set_stream_reset_rate_limit(option, UINT64_MAX / 2, UINT32_MAX);
  return OptionPtr(option);
}

// All streams of the connection may be answered while their resets are on their way.
uint64_t LateResetsMax(const H2Options& options) {
  const uint64_t most = options.unanswered_resets_max;
  return most == 0 ? 0 : std::max<uint64_t>(options.concurrent_streams_max, most);
}

std::string_view View(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

}  // namespace

struct H2Connection::Callbacks {
  static H2Connection* Self(void* user) { return static_cast<H2Connection*>(user); }

  static int BeginHeaders(nghttp2_session*, const nghttp2_frame* frame, void* user) {
    H2Connection* self = Self(user);
    self->block_bytes_ = 0;
    self->block_bytes_max_ = kMetadataTimesMax * self->context_->options().metadata_bytes_max +
                             kWireTimesMax * frame->hd.length;
    if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) self->OnBeginHeaders(frame->hd.stream_id);
    return 0;
  }

  static int Header(nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name,
                    size_t name_size, const uint8_t* value, size_t value_size, uint8_t,
                    void* user) {
    H2Connection* self = Self(user);
    self->turn_header_bytes_ += name_size + value_size;
    self->block_bytes_ += name_size + value_size;
    if (self->block_bytes_ > self->block_bytes_max_) {
      self->Terminate(H2Reason::kHeaderBlock);
      return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;  // nghttp2 only decodes the rest of it
    }
    if (frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;  // trailers say nothing in gRPC
    H2Call* call = self->Find(frame->hd.stream_id);
    if (call == nullptr) return 0;
    try {
      call->head().Add(View(name, name_size), View(value, value_size));
    } catch (const std::bad_alloc&) {
      call->OnNoMemory();
    }
    return 0;
  }

  static int FrameReceived(nghttp2_session*, const nghttp2_frame* frame, void* user) {
    Self(user)->OnFrame(*frame);
    return 0;
  }

  static int Data(nghttp2_session* session, uint8_t, int32_t stream_id, const uint8_t* data,
                  size_t size, void* user) {
    H2Connection* self = Self(user);
    nghttp2_session_consume_connection(session, size);
    if (H2Call* call = self->Find(stream_id)) {
      try {
        call->OnData(View(data, size));
      } catch (const std::bad_alloc&) {
        call->OnNoMemory();
      }
    } else {
      nghttp2_session_consume_stream(session, stream_id, size);
    }
    return 0;
  }

  static int StreamClosed(nghttp2_session*, int32_t stream_id, uint32_t error_code, void* user) {
    if (H2Call* call = Self(user)->Find(stream_id)) {
      Self(user)->OnStreamClosed(call, error_code);
    }
    return 0;
  }

  static int FrameSent(nghttp2_session*, const nghttp2_frame* frame, void* user) {
    Self(user)->OnFrameSent(*frame);
    return 0;
  }

  static ssize_t ReadData(nghttp2_session*, int32_t, uint8_t* buffer, size_t size,
                          uint32_t* data_flags, nghttp2_data_source* source, void* connection) {
    auto* const call = static_cast<H2Call*>(source->ptr);
    static_cast<H2Connection*>(connection)->found_ = call;  // FrameSent comes next
    return call->OnWantsData(reinterpret_cast<char*>(buffer), size, data_flags);
  }

  static nghttp2_session_callbacks* Make() {
    nghttp2_session_callbacks* callbacks = nullptr;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, BeginHeaders);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, Header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, FrameReceived);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, Data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, StreamClosed);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, FrameSent);
    return callbacks;
  }
};

H2Connection::H2Connection(H2Context* context, std::shared_ptr<const H2Peer> peer, Owner* owner)
    : context_(context),
      peer_(std::move(peer)),
      owner_(owner),
      guard_(context->options().guard, context->now_ns()),
      resets_(context->options().unanswered_resets_max, context->now_ns()),
      late_resets_(LateResetsMax(context->options()), context->now_ns()),
      turn_left_(context->options().turn_messages_max),
      idle_since_ns_(context->now_ns()) {
  static const nghttp2_session_callbacks* const kCallbacks = Callbacks::Make();
  static const OptionPtr kOption = MakeOption();
  nghttp2_session_server_new2(&session_, kCallbacks, this, kOption.get());
  const nghttp2_settings_entry settings[] = {
      {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, context->options().concurrent_streams_max},
      {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE,
       static_cast<uint32_t>(context->options().metadata_bytes_max)},
  };
  nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings, 2);
  nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0, kConnectionWindowBytes);
}

H2Connection::~H2Connection() {
  nghttp2_session_del(session_);
  session_ = nullptr;
  while (need_first_ != nullptr) StopWaiting(need_first_);
  for (H2Call* call = calls_; call != nullptr;) {
    H2Call* const next = call->next;
    call->OnConnectionLost();
    call = next;
  }
}

// Mostly the same as the last time: headers come one by one.
H2Call* H2Connection::Find(int32_t stream_id) {
  if (found_ == nullptr || found_->stream_id() != stream_id) {
    found_ = static_cast<H2Call*>(nghttp2_session_get_stream_user_data(session_, stream_id));
  }
  return found_;
}

// --- In ---------------------------------------------------------------------

void H2Connection::OnBytes(std::string_view bytes) {
  if (broken_) return;
  const uint64_t frames = guard_.frames();
  const size_t passed = guard_.Scan(bytes, context_->now_ns());
  const ssize_t taken =
      nghttp2_session_mem_recv(session_, reinterpret_cast<const uint8_t*>(bytes.data()), passed);
  if (taken < 0) {
    NoteResult(static_cast<int>(taken));
    Terminate(H2Reason::kProtocol);
  } else if (guard_.reason() != H2Reason::kNone) {
    Terminate(guard_.reason());
  }
  turn_left_ -= std::min<uint64_t>(
      turn_left_, (guard_.frames() - frames) / kTurnFrames + turn_header_bytes_ / kTurnHeaderBytes);
  turn_header_bytes_ %= kTurnHeaderBytes;
}

void H2Connection::OnKeyUpdates(uint64_t count) {
  if (broken_) return;
  guard_.TakeKeyUpdates(count, context_->now_ns());
  if (guard_.reason() != H2Reason::kNone) Terminate(guard_.reason());
}

// What the turn has no room for stays, before what has come meanwhile.
void H2Connection::Work() {
  while (!ready_.empty() && turn_left_ > 0) {
    working_.swap(ready_);
    size_t done = 0;
    for (; done < working_.size() && turn_left_ > 0; ++done) {
      H2Call* const call = working_[done];
      if (call == nullptr) continue;
      call->queued_at = H2Call::kNotQueued;
      if (broken_) continue;
      --turn_left_;
      call->OnResume();
    }
    for (size_t i = 0; i < done; ++i) {
      if (working_[i] != nullptr) working_[i]->Respond();
    }
    if (done < working_.size()) PutBack(done);
    working_.clear();
  }
}

// Of those that were to be worked on, those from `begin` on.
void H2Connection::PutBack(size_t begin) {
  working_.erase(working_.begin(), working_.begin() + static_cast<ptrdiff_t>(begin));
  working_.insert(working_.end(), ready_.begin(), ready_.end());
  ready_.swap(working_);
  for (size_t i = 0; i < ready_.size(); ++i) {
    if (ready_[i] != nullptr) ready_[i]->queued_at = i;
  }
}

bool H2Connection::SpendTurn(size_t message_bytes) {
  if (turn_left_ == 0) return false;
  turn_left_ -= std::min(turn_left_, message_bytes / kTurnBytesOfMessage + 1);
  return true;
}

// A stream that is over for HTTP/2 may live on until its plugins are done with
// it; it counts as well.
void H2Connection::OnBeginHeaders(int32_t stream_id) {
  const bool fits = call_count_ < context_->options().concurrent_streams_max;
  H2Call* call = fits ? context_->Acquire(*peer_, call_count_) : nullptr;
  if (call == nullptr) {
    nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, stream_id, NGHTTP2_REFUSED_STREAM);
    return;
  }
  last_call_ns_ = context_->now_ns();
  call->Begin(this, stream_id);
  call->previous = nullptr;
  call->next = calls_;
  if (calls_ != nullptr) calls_->previous = call;
  calls_ = call;
  ++call_count_;
  nghttp2_session_set_stream_user_data(session_, stream_id, call);
  found_ = call;
}

void H2Connection::OnFrame(const nghttp2_frame& frame) {
  if (frame.hd.type == NGHTTP2_PING) {
    const bool ack = (frame.hd.flags & NGHTTP2_FLAG_ACK) != 0;
    if (ack && std::equal(std::begin(kPingOfShutdown), std::end(kPingOfShutdown),
                          frame.ping.opaque_data)) {
      FinishShutdown();
    }
    return;
  }
  if (frame.hd.type == NGHTTP2_RST_STREAM) {
    if (Find(frame.hd.stream_id) == nullptr) OnLateReset();
    return;
  }
  if (frame.hd.type != NGHTTP2_HEADERS && frame.hd.type != NGHTTP2_DATA) return;
  H2Call* call = Find(frame.hd.stream_id);
  if (call == nullptr) return;
  if (frame.hd.type == NGHTTP2_HEADERS && frame.headers.cat == NGHTTP2_HCAT_REQUEST) {
    call->OnHead();
  }
  if ((frame.hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) call->OnRemoteEnd();
}

void H2Connection::OnStreamClosed(H2Call* call, uint32_t error_code) {
  // The call goes, and nghttp2 still remembers the stream.
  found_ = nullptr;
  nghttp2_session_set_stream_user_data(session_, call->stream_id(), nullptr);
  // Without an answer a stream ends by a reset only, whatever error code that has. A plugin that
  // does not answer makes Envoy reset what waits for it. In observability mode nothing is answered,
  // and Envoy's usual end is one with a reset right behind it.
  const bool usual_end = error_code == NGHTTP2_NO_ERROR && call->is_whole();
  const bool unanswered = !call->answered() && !call->at_work() && !usual_end;
  if (call->answered()) {
    resets_.Earn(1);
    late_resets_.Earn(1);
  }
  call->OnClosed();
  if (unanswered && !resets_.Spend(context_->now_ns())) OnUnansweredReset();
}

// Of a stream that is over, or was refused. The end of an answered stream and its client's reset
// may cross.
void H2Connection::OnLateReset() {
  if (!late_resets_.Spend(context_->now_ns())) Terminate(H2Reason::kResets);
}

// The client is asked to leave first: so a proxy loses nothing, whatever made it reset
// its streams. It begins none after that, but for those that are on their way.
void H2Connection::OnUnansweredReset() {
  if (std::exchange(asked_to_leave_, true)) return;
  const H2Options& options = context_->options();
  guard_.LimitStreams(
      std::max<uint64_t>(options.concurrent_streams_max, options.unanswered_resets_max));
  context_->CountDrained();
  BeginShutdown();
}

void H2Connection::OnServingChanged() {
  for (H2Call* call = calls_; call != nullptr; call = call->next) call->OnServingChanged();
  owner_->OnOutput();
}

// --- Out --------------------------------------------------------------------

bool H2Connection::Fill(std::string* out, size_t bytes_max) {
  for (;;) {
    Work();
    while (out->size() < bytes_max) {
      const uint8_t* data = nullptr;
      const ssize_t size = nghttp2_session_mem_send(session_, &data);
      if (size < 0) NoteResult(static_cast<int>(size));
      if (size <= 0) break;
      out->append(reinterpret_cast<const char*>(data), static_cast<size_t>(size));
    }
    if (ready_.empty() || turn_left_ == 0 || out->size() >= bytes_max) return !out->empty();
  }
}

bool H2Connection::done() const {
  if (nghttp2_session_want_write(session_) != 0) return false;
  return broken_ || nghttp2_session_want_read(session_) == 0;
}

void H2Connection::OnFrameSent(const nghttp2_frame& frame) {
  if (frame.hd.type == NGHTTP2_DATA) {
    guard_.OnDataSent();
    if ((frame.hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
      OnEndSent(frame.hd.stream_id);
    } else if (H2Call* call = Find(frame.hd.stream_id)) {
      call->OnDataSent();
    }
  } else if (frame.hd.type == NGHTTP2_GOAWAY) {
    if (frame.goaway.error_code != NGHTTP2_NO_ERROR && reason_ == H2Reason::kNone) {
      reason_ = H2Reason::kProtocol;
      context_->CountClosed(reason_);
    }
  } else if (frame.hd.type == NGHTTP2_RST_STREAM) {
    if (frame.rst_stream.error_code == NGHTTP2_REFUSED_STREAM) context_->CountRefused();
  } else if (frame.hd.type == NGHTTP2_HEADERS) {
    if (H2Call* call = Find(frame.hd.stream_id)) call->SetResponded();
    if ((frame.hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) OnEndSent(frame.hd.stream_id);
  }
}

// The client need not send what nobody is going to read.
void H2Connection::OnEndSent(int32_t stream_id) {
  H2Call* call = Find(stream_id);
  if (call == nullptr || call->remote_ended()) return;
  nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, stream_id, NGHTTP2_NO_ERROR);
}

void H2Connection::SubmitHeaders(H2Call* call, const nghttp2_nv* headers, size_t count,
                                 bool with_data) {
  nghttp2_data_provider provider;
  provider.source.ptr = call;
  provider.read_callback = Callbacks::ReadData;
  NoteResult(nghttp2_submit_response(session_, call->stream_id(), headers, count,
                                     with_data ? &provider : nullptr));
  owner_->OnOutput();
}

void H2Connection::SubmitTrailers(H2Call* call, const nghttp2_nv* headers, size_t count) {
  NoteResult(nghttp2_submit_trailer(session_, call->stream_id(), headers, count));
}

void H2Connection::SubmitData(H2Call* call) {
  nghttp2_data_provider provider;
  provider.source.ptr = call;
  provider.read_callback = Callbacks::ReadData;
  NoteResult(nghttp2_submit_data(session_, NGHTTP2_FLAG_NONE, call->stream_id(), &provider));
  owner_->OnOutput();
}

void H2Connection::Reset(H2Call* call) {
  NoteResult(
      nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, call->stream_id(), NGHTTP2_CANCEL));
  owner_->OnOutput();
}

// A response or a reset that nghttp2 has no memory for would never come, and neither would GOAWAY:
// the client learns of it by the end of the connection.
void H2Connection::NoteResult(int result) {
  if (result != NGHTTP2_ERR_NOMEM || std::exchange(broken_, true)) return;
  context_->CountLimit(H2StreamLimit::kMemory);
}

// --- Memory -----------------------------------------------------------------

bool H2Connection::Fits(size_t bytes) const {
  return bytes == 0 || memory_bytes_ == 0 ||
         memory_bytes_ + bytes <= context_->options().connection_memory_bytes_max;
}

// Nobody overtakes those that wait.
bool H2Connection::Admit(H2Call* call, size_t bytes) {
  if (bytes == 0 || (need_first_ == nullptr && Fits(bytes))) {
    memory_bytes_ += bytes;
    return true;
  }
  call->needs_bytes = bytes;
  call->need_previous = need_last_;
  call->need_next = nullptr;
  (need_last_ != nullptr ? need_last_->need_next : need_first_) = call;
  need_last_ = call;
  return false;
}

void H2Connection::AdmitWaiting() {
  while (need_first_ != nullptr && Fits(need_first_->needs_bytes)) {
    H2Call* const call = need_first_;
    memory_bytes_ += call->needs_bytes;
    StopWaiting(call);
    call->OnAdmitted();
    Resume(call);
  }
}

void H2Connection::StopWaiting(H2Call* call) {
  if (call->needs_bytes == 0) return;
  (call->need_previous != nullptr ? call->need_previous->need_next : need_first_) = call->need_next;
  (call->need_next != nullptr ? call->need_next->need_previous : need_last_) = call->need_previous;
  call->need_previous = call->need_next = nullptr;
  call->needs_bytes = 0;
}

void H2Connection::Consume(H2Call* call, size_t bytes) {
  if (bytes > 0) nghttp2_session_consume_stream(session_, call->stream_id(), bytes);
}

void H2Connection::Resume(H2Call* call) {
  if (call->queued_at != H2Call::kNotQueued) return;
  call->queued_at = ready_.size();
  ready_.push_back(call);
  owner_->OnOutput();
}

void H2Connection::Forget(H2Call* call) {
  if (call->previous != nullptr) call->previous->next = call->next;
  if (call->next != nullptr) call->next->previous = call->previous;
  if (calls_ == call) calls_ = call->next;
  if (--call_count_ == 0) idle_since_ns_ = context_->now_ns();
  if (call->queued_at != H2Call::kNotQueued) {
    ready_[std::exchange(call->queued_at, H2Call::kNotQueued)] = nullptr;
  }
  StopWaiting(call);
}

// --- Ends -------------------------------------------------------------------

void H2Connection::BeginShutdown() {
  if (std::exchange(shutdown_begun_, true)) return;
  nghttp2_submit_shutdown_notice(session_);
  nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, kPingOfShutdown);
  for (H2Call* call = calls_; call != nullptr; call = call->next) call->OnShutdown();
  owner_->OnOutput();
}

void H2Connection::FinishShutdown() {
  if (!shutdown_begun_ || std::exchange(shutdown_finished_, true)) return;
  Work();  // those that are to be told have to be there
  nghttp2_submit_goaway(session_, NGHTTP2_FLAG_NONE,
                        nghttp2_session_get_last_proc_stream_id(session_), NGHTTP2_NO_ERROR,
                        nullptr, 0);
  for (H2Call* call = calls_; call != nullptr; call = call->next) call->OnShutdown();
  owner_->OnOutput();
}

void H2Connection::EndStreams() {
  for (H2Call* call = calls_; call != nullptr;) {
    H2Call* const next = call->next;  // for the call may go
    call->OnDrainDeadline();
    call = next;
  }
  owner_->OnOutput();
}

void H2Connection::Terminate(H2Reason reason) {
  if (std::exchange(broken_, true)) return;
  reason_ = reason;
  context_->CountClosed(reason);
  uint32_t code = NGHTTP2_ENHANCE_YOUR_CALM;
  if (reason == H2Reason::kProtocol) code = NGHTTP2_PROTOCOL_ERROR;
  if (reason == H2Reason::kClosedStream) code = NGHTTP2_STREAM_CLOSED;
  nghttp2_session_terminate_session(session_, code);
  owner_->OnOutput();
}

void H2Connection::Ping() {
  nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, nullptr);
  owner_->OnOutput();
}

}  // namespace callout::host
