// SPDX-License-Identifier: Apache-2.0

#include "connection.h"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "envoy/service/ext_proc/v3/external_processor.pb.h"
#include "tests/host/transport/h2_session.h"

namespace callout::bench {
namespace {

using Response = envoy::service::ext_proc::v3::ProcessingResponse;

constexpr size_t kPrefixBytes = 5;
constexpr size_t kOutputBytes = 65536;  // written at once
constexpr int32_t kWindowBytes = 1 << 24;

// Whether the answer, a ProcessingResponse, has a field first.
bool BeginsWith(std::string_view answer, int field) {
  return !answer.empty() && static_cast<uint8_t>(answer.front()) == (field << 3 | 2);
}
// Whether the server responds to the client itself. Envoy sends nothing more then.
bool IsReply(std::string_view answer) {
  return BeginsWith(answer, Response::kImmediateResponseFieldNumber) ||
         BeginsWith(answer, Response::kStreamedImmediateResponseFieldNumber);
}
// Nothing else is in such a message.
bool IsTimeRequest(std::string_view answer) {
  return BeginsWith(answer, Response::kOverrideMessageTimeoutFieldNumber);
}

}  // namespace

Script::Script(Scenario from) : scenario(std::move(from)) {
  for (const std::string& request : scenario.requests) {
    std::string prefix = {'\0'};
    for (int shift = 24; shift >= 0; shift -= 8) {
      prefix.push_back(static_cast<char>(request.size() >> shift));
    }
    framed.push_back(prefix + request);
  }
  if (scenario.awaited.empty()) {
    for (size_t i = 0; i < framed.size(); ++i) scenario.awaited.push_back(i);
  }
  scenario.requests.clear();
}

Connection::Connection(const Address& address, const TlsContext* tls, const Scenario& scenario,
                       Ending ending, CallListener* listener)
    : socket_(address, tls),
      ending_(ending),
      is_unary_(scenario.is_check),
      listener_(listener),
      headers_{tests::H2ConstantHeader(":method", "POST"),
               tests::H2ConstantHeader(":scheme", "http"),
               tests::H2ConstantHeader(":path", scenario.path),
               tests::H2ConstantHeader(":authority", "callout"),
               tests::H2ConstantHeader("te", "trailers"),
               tests::H2ConstantHeader("content-type", "application/grpc")} {
  MakeSession();
}

Connection::~Connection() { nghttp2_session_del(session_); }

void Connection::MakeSession() {
  session_ = tests::NewH2Session(nghttp2_session_client_new2,
                                 {.on_header = &OnHeader,
                                  .on_data = &OnData,
                                  .on_frame = &OnFrame,
                                  .on_frame_sent = &OnFrameSent,
                                  .on_close = &OnClose},
                                 this);
  const nghttp2_settings_entry settings[] = {
      {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, kWindowBytes},
  };
  nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings, std::size(settings));
  nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0, kWindowBytes);
}

Connection::Call* Connection::NewCall() {
  if (free_calls_.empty()) {
    calls_.push_back(std::make_unique<Call>());
    return calls_.back().get();
  }
  Call* call = free_calls_.back();
  free_calls_.pop_back();
  *call = Call();
  return call;
}

void Connection::Begin(const Script& script, uint64_t start_ns) {
  Call* call = NewCall();
  call->script = &script;
  call->start_ns = start_ns;
  nghttp2_data_provider provider = {};
  provider.source.ptr = call;
  provider.read_callback = &OnWantData;
  const int32_t id =
      nghttp2_submit_request(session_, nullptr, headers_.data(), headers_.size(), &provider, call);
  if (id < 0) Fail(std::string("beginning an RPC: ") + nghttp2_strerror(id));
}

void Connection::TakeRequest(Call* call) {
  const Script& script = *call->script;
  if (call->out.empty() && call->begun < script.framed.size() && !call->all_answered &&
      script.scenario.awaited[call->begun] <= call->answers) {
    call->out = script.framed[call->begun++];
  }
}

void Connection::EndIfDone(Call* call) {
  const Script& script = *call->script;
  if (!call->all_answered && call->out.empty() && call->begun == script.framed.size() &&
      call->answers >= script.scenario.answers) {
    End(call);
  }
}

void Connection::End(Call* call) {
  call->all_answered = true;
  listener_->OnLastAnswer(call->start_ns);
}

ssize_t Connection::OnWantData(nghttp2_session*, int32_t, uint8_t* data, size_t size,
                               uint32_t* flags, nghttp2_data_source* source, void* user) {
  Call* call = static_cast<Call*>(source->ptr);
  TakeRequest(call);
  if (call->out.empty() && !call->all_answered) return NGHTTP2_ERR_DEFERRED;
  const size_t bytes = std::min(size, call->out.size());
  memcpy(data, call->out.data(), bytes);
  call->out.remove_prefix(bytes);
  static_cast<Connection*>(user)->EndIfDone(call);  // the last one may wait for nothing
  // A server may wait for the end of a unary RPC's request.
  const bool is_last = static_cast<Connection*>(user)->is_unary_ && call->out.empty();
  if ((call->all_answered && call->out.empty()) || is_last) *flags |= NGHTTP2_DATA_FLAG_EOF;
  return static_cast<ssize_t>(bytes);
}

int Connection::OnData(nghttp2_session* session, uint8_t, int32_t id, const uint8_t* data,
                       size_t size, void* user) {
  auto* call = static_cast<Call*>(nghttp2_session_get_stream_user_data(session, id));
  if (call == nullptr) return 0;
  static_cast<Connection*>(user)->OnBytes(id, call, tests::H2Text(data, size));
  return 0;
}

// An answer mostly comes in one piece; then nothing is copied.
void Connection::OnBytes(int32_t id, Call* call, std::string_view bytes) {
  if (!call->in.empty()) bytes = call->in.append(bytes);
  while (bytes.size() >= kPrefixBytes) {
    size_t size = 0;
    for (size_t i = 1; i < kPrefixBytes; ++i) size = size << 8 | static_cast<uint8_t>(bytes[i]);
    if (bytes.size() < kPrefixBytes + size) break;
    OnAnswer(id, call, bytes.substr(kPrefixBytes, size));
    bytes.remove_prefix(kPrefixBytes + size);
  }
  if (call->in.empty()) {
    call->in = bytes;
  } else {
    call->in.erase(0, call->in.size() - bytes.size());
  }
}

void Connection::OnAnswer(int32_t id, Call* call, std::string_view answer) {
  const Scenario& scenario = call->script->scenario;
  // It only asks for more time, as a server may at any time.
  if (scenario.may_end_early && IsTimeRequest(answer)) return;
  if (call->all_answered) {
    // Another version of a plugin may respond more often than the recording has it.
    call->ok &= scenario.may_end_early;
    return;
  }
  if (!listener_->OnAnswer(scenario, call->answers, answer)) call->ok = false;
  ++call->answers;
  if (scenario.may_end_early && IsReply(answer)) {
    End(call);
  } else {
    EndIfDone(call);
  }
  nghttp2_session_resume_data(session_, id);
}

int Connection::OnHeader(nghttp2_session* session, const nghttp2_frame* frame, const uint8_t* name,
                         size_t name_size, const uint8_t* value, size_t value_size, uint8_t,
                         void*) {
  if (name_size != 11 || memcmp(name, "grpc-status", 11) != 0) return 0;
  auto* call =
      static_cast<Call*>(nghttp2_session_get_stream_user_data(session, frame->hd.stream_id));
  if (call != nullptr) call->status_ok = value_size == 1 && *value == '0';
  return 0;
}

int Connection::OnFrame(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
  if (frame->hd.type == NGHTTP2_GOAWAY) Fail("the server wants no more streams (GOAWAY)");
  if (frame->hd.type != NGHTTP2_HEADERS || (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0) {
    return 0;
  }
  const int32_t id = frame->hd.stream_id;
  auto* call = static_cast<Call*>(nghttp2_session_get_stream_user_data(session, id));
  if (call != nullptr && call->script->scenario.may_end_early && call->status_ok &&
      !call->all_answered) {
    static_cast<Connection*>(user)->End(call);
    nghttp2_session_resume_data(session, id);
  }
  return 0;
}

// A reset that were submitted earlier would go out before the half-close. The code
// is the one that Envoy 1.40 sends.
int Connection::OnFrameSent(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
  if (frame->hd.type == NGHTTP2_DATA && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0 &&
      static_cast<Connection*>(user)->ending_ == Ending::kEnvoy &&
      !static_cast<Connection*>(user)->is_unary_) {
    nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                              NGHTTP2_INTERNAL_ERROR);
  }
  return 0;
}

int Connection::OnClose(nghttp2_session* session, int32_t id, uint32_t, void* user) {
  auto* self = static_cast<Connection*>(user);
  auto* call = static_cast<Call*>(nghttp2_session_get_stream_user_data(session, id));
  const bool ok =
      call->ok && call->all_answered && (call->status_ok || self->ending_ == Ending::kEnvoy);
  self->free_calls_.push_back(call);
  self->listener_->OnCallEnd(ok);
  return 0;
}

void Connection::Receive() {
  uint8_t buffer[65536];
  for (;;) {
    const ssize_t got = socket_.Read(buffer, sizeof(buffer));
    if (got < 0) return;
    if (got == 0) Fail("the server has closed a connection");
    const ssize_t taken = nghttp2_session_mem_recv(session_, buffer, static_cast<size_t>(got));
    if (taken < 0) Fail(std::string("reading: ") + nghttp2_strerror(static_cast<int>(taken)));
    if (!socket_.MayHaveMore(got, sizeof(buffer))) return;
  }
}

void Connection::Flush() {
  for (;;) {
    while (output_.size() < kOutputBytes) {
      const uint8_t* data = nullptr;
      const ssize_t size = nghttp2_session_mem_send(session_, &data);
      if (size < 0) Fail(std::string("writing: ") + nghttp2_strerror(static_cast<int>(size)));
      if (size == 0) break;
      output_.append(reinterpret_cast<const char*>(data), static_cast<size_t>(size));
    }
    if (output_.empty()) return;
    const ssize_t sent = socket_.Write(output_.data() + sent_, output_.size() - sent_);
    if (sent < 0) return;
    if (sent == 0) Fail("the server has closed a connection");
    sent_ += static_cast<size_t>(sent);
    if (sent_ < output_.size()) continue;
    output_.clear();
    sent_ = 0;
  }
}

}  // namespace callout::bench
