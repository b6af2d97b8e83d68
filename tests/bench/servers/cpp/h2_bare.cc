// SPDX-License-Identifier: Apache-2.0

// libnghttp2 and epoll in one thread, as much of gRPC as the benchmark's calls need, a constant
// answer to each message by its phase. No server to use: it trusts its client, and drains nothing.
// h2_floor.cc does still less.
#include <arpa/inet.h>
#include <nghttp2/nghttp2.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <optional>
#include <string>

#include "listener.h"
#include "server_options.h"
#include "tests/bench/answers.h"
#include "tests/host/transport/h2_session.h"

namespace callout::bench {
namespace {

constexpr size_t kPrefixBytes = 5;
constexpr size_t kOutputBytes = 65536;
constexpr int32_t kWindowBytes = 1 << 20;

struct Call {
  std::string in;   // bytes of a request
  std::string out;  // bytes of answers
  bool begun = false;
  bool half_closed = false;
};

class Connection {
 public:
  Connection(int fd, const TlsContext* tls, bool scan);
  ~Connection() { nghttp2_session_del(session_); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  bool Receive();  // false: it is over
  bool Flush();

 private:
  static int OnBegin(nghttp2_session* session, const nghttp2_frame* frame, void* user);
  static int OnData(nghttp2_session* session, uint8_t flags, int32_t id, const uint8_t* data,
                    size_t size, void* user);
  static int OnFrame(nghttp2_session* session, const nghttp2_frame* frame, void* user);
  static int OnClose(nghttp2_session* session, int32_t id, uint32_t error, void* user);
  static ssize_t OnWantData(nghttp2_session* session, int32_t id, uint8_t* data, size_t size,
                            uint32_t* flags, nghttp2_data_source* source, void* user);
  void Resume(int32_t id, Call* call);

  Socket socket_;
  const bool scan_;
  nghttp2_session* session_ = nullptr;
  std::string output_;
  size_t sent_ = 0;
};

Connection::Connection(int fd, const TlsContext* tls, bool scan) : socket_(fd, tls), scan_(scan) {
  nghttp2_option* option = nullptr;
  nghttp2_option_new(&option);
  // Resets are how Envoy's streams end, however many there are.
  nghttp2_option_set_stream_reset_rate_limit(option, UINT64_MAX, UINT64_MAX);
  session_ = tests::NewH2Session(nghttp2_session_server_new2,
                                 {.on_begin_headers = &OnBegin,
                                  .on_data = &OnData,
                                  .on_frame = &OnFrame,
                                  .on_close = &OnClose},
                                 this, option);
  nghttp2_option_del(option);
  const nghttp2_settings_entry settings[] = {
      {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 1000},
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, kWindowBytes},
  };
  nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings, std::size(settings));
  nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0, kWindowBytes);
}

int Connection::OnBegin(nghttp2_session* session, const nghttp2_frame* frame, void*) {
  nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, new Call);
  return 0;
}

int Connection::OnData(nghttp2_session* session, uint8_t, int32_t id, const uint8_t* data,
                       size_t size, void* user) {
  auto* self = static_cast<Connection*>(user);
  auto* call = static_cast<Call*>(nghttp2_session_get_stream_user_data(session, id));
  std::string_view bytes = tests::H2Text(data, size);
  if (!call->in.empty()) bytes = call->in.append(bytes);
  while (bytes.size() >= kPrefixBytes) {
    uint32_t message_size = 0;
    memcpy(&message_size, bytes.data() + 1, sizeof(message_size));
    message_size = ntohl(message_size);
    if (bytes.size() - kPrefixBytes < message_size) break;
    const std::string_view request = bytes.substr(kPrefixBytes, message_size);
    bytes.remove_prefix(kPrefixBytes + message_size);
    if (self->scan_ && ScanHeaders(request) < 0) return NGHTTP2_ERR_CALLBACK_FAILURE;
    const std::string_view answer = AnswerTo(request);
    const uint32_t answer_size = htonl(static_cast<uint32_t>(answer.size()));
    call->out.push_back('\0');
    call->out.append(reinterpret_cast<const char*>(&answer_size), sizeof(answer_size));
    call->out.append(answer);
  }
  if (call->in.empty()) {
    call->in = bytes;
  } else {  // a large message comes in many pieces, so what is there is not copied
    call->in.erase(0, call->in.size() - bytes.size());
  }
  if (!call->out.empty()) self->Resume(id, call);
  return 0;
}

int Connection::OnFrame(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
  if (frame->hd.type != NGHTTP2_DATA && frame->hd.type != NGHTTP2_HEADERS) return 0;
  if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0) return 0;
  auto* call =
      static_cast<Call*>(nghttp2_session_get_stream_user_data(session, frame->hd.stream_id));
  if (call == nullptr) return 0;
  call->half_closed = true;
  static_cast<Connection*>(user)->Resume(frame->hd.stream_id, call);
  return 0;
}

int Connection::OnClose(nghttp2_session* session, int32_t id, uint32_t, void*) {
  delete static_cast<Call*>(nghttp2_session_get_stream_user_data(session, id));
  return 0;
}

void Connection::Resume(int32_t id, Call* call) {
  if (call->begun) {
    nghttp2_session_resume_data(session_, id);
    return;
  }
  static const nghttp2_nv headers[] = {tests::H2ConstantHeader(":status", "200"),
                                       tests::H2ConstantHeader("content-type", "application/grpc")};
  call->begun = true;
  nghttp2_data_provider provider = {};
  provider.source.ptr = call;
  provider.read_callback = &OnWantData;
  nghttp2_submit_response(session_, id, headers, std::size(headers), &provider);
}

ssize_t Connection::OnWantData(nghttp2_session* session, int32_t id, uint8_t* data, size_t size,
                               uint32_t* flags, nghttp2_data_source* source, void*) {
  auto* call = static_cast<Call*>(source->ptr);
  if (call->out.empty() && !call->half_closed) return NGHTTP2_ERR_DEFERRED;
  size = std::min(size, call->out.size());
  memcpy(data, call->out.data(), size);
  call->out.erase(0, size);
  if (call->half_closed && call->out.empty()) {
    static const nghttp2_nv trailers[] = {tests::H2ConstantHeader("grpc-status", "0")};
    *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
    nghttp2_submit_trailer(session, id, trailers, std::size(trailers));
  }
  return static_cast<ssize_t>(size);
}

bool Connection::Receive() {
  uint8_t buffer[65536];
  for (;;) {
    const ssize_t got = socket_.Read(buffer, sizeof(buffer));
    if (got < 0) return true;
    if (got == 0) return false;
    if (nghttp2_session_mem_recv(session_, buffer, static_cast<size_t>(got)) < 0) return false;
    if (!socket_.MayHaveMore(got, sizeof(buffer))) return true;
  }
}

bool Connection::Flush() {
  for (;;) {
    while (output_.size() < kOutputBytes) {
      const uint8_t* data = nullptr;
      const ssize_t size = nghttp2_session_mem_send(session_, &data);
      if (size < 0) return false;
      if (size == 0) break;
      output_.append(reinterpret_cast<const char*>(data), static_cast<size_t>(size));
    }
    if (output_.empty()) return true;
    const ssize_t sent = socket_.Write(output_.data() + sent_, output_.size() - sent_);
    if (sent <= 0) return sent < 0;
    sent_ += static_cast<size_t>(sent);
    if (sent_ < output_.size()) continue;
    output_.clear();
    sent_ = 0;
  }
}

void Run(const ServerOptions& options) {
  std::optional<TlsContext> tls;
  if (options.tls) tls.emplace(options.certificate_path, options.key_path);
  const int listener = Listen(options);
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  epoll_event event = {};
  event.events = EPOLLIN;
  epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
  for (;;) {
    epoll_event events[64];
    const int count = epoll_wait(epoll, events, 64, -1);
    for (int i = 0; i < count; ++i) {
      auto* connection = static_cast<Connection*>(events[i].data.ptr);
      if (connection == nullptr) {
        const int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
        if (fd < 0) continue;
        event.events = EPOLLIN | EPOLLOUT | EPOLLET;
        event.data.ptr = new Connection(fd, tls ? &*tls : nullptr, options.scan);
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
      } else if (!connection->Receive() || !connection->Flush()) {
        delete connection;
      }
    }
  }
}

}  // namespace
}  // namespace callout::bench

int main(int argc, char** argv) {
  callout::bench::Run(callout::bench::ParseServerOptions(argc, argv));
}
