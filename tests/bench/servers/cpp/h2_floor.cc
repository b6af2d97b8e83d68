// SPDX-License-Identifier: Apache-2.0

// The floor: the least that libnghttp2 lets a server do that answers each gRPC message of a stream
// with one. One thread, epoll, and blocking writes. The answer is the same few bytes whatever the
// message says, so the load generator must take any phase (--any_phase). No server to use: it
// trusts its client in everything, serves one RPC whatever the path, leaks the streams that a lost
// connection leaves, and a client that does not read stops it.
//
// h2_bare.cc, the other server on libnghttp2, does more of what any real server has to:
//   - it joins a message from its pieces and copies it; this one counts its bytes and forgets them
//   - it reads the message's phase and picks the answer by it
//   - it queues answers as bytes for each stream; this one counts how many it owes
//   - it never blocks: what the socket does not take waits in the connection
//   - it has TLS, limits the streams at once, and uses windows of 1 MiB, which it enlarges as bytes
//     come; here a window is as large as HTTP/2 allows
//   - libnghttp2 checks for it that headers make a request, and remembers closed streams
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <string>

#include "listener.h"
#include "server_options.h"
#include "tests/bench/answers.h"
#include "tests/host/transport/h2_session.h"

namespace callout::bench {
namespace {

constexpr uint8_t kHeadBytes = 5;  // of gRPC's frame: a flag, and the size
constexpr size_t kBufferBytes = 65536;

struct Stream {
  uint32_t left = 0;    // bytes of a message that are to come, once the head is there
  uint8_t head = 0;     // bytes of its head that have come
  uint32_t owed = 0;    // answers
  uint32_t offset = 0;  // in the first of them
  bool begun = false;
  bool half_closed = false;
};

// To request headers, in gRPC's frame.
const std::string& Answer() {
  static const std::string answer = [] {
    const std::string_view message = AnswerTo("\x12");
    return std::string{'\0', '\0', '\0', '\0', static_cast<char>(message.size())}.append(message);
  }();
  return answer;
}

ssize_t OnWantData(nghttp2_session* session, int32_t id, uint8_t* data, size_t size,
                   uint32_t* flags, nghttp2_data_source* source, void*) {
  auto* stream = static_cast<Stream*>(source->ptr);
  if (stream->owed == 0 && !stream->half_closed) return NGHTTP2_ERR_DEFERRED;
  const std::string& answer = Answer();
  size_t written = 0;
  while (stream->owed > 0 && written < size) {
    const size_t bytes = std::min(size - written, answer.size() - stream->offset);
    memcpy(data + written, answer.data() + stream->offset, bytes);
    written += bytes;
    stream->offset += static_cast<uint32_t>(bytes);
    if (stream->offset < answer.size()) break;
    stream->offset = 0;
    --stream->owed;
  }
  if (stream->owed == 0 && stream->half_closed) {
    static const nghttp2_nv trailers[] = {tests::H2ConstantHeader("grpc-status", "0")};
    *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
    nghttp2_submit_trailer(session, id, trailers, std::size(trailers));
  }
  return static_cast<ssize_t>(written);
}

void Respond(nghttp2_session* session, int32_t id, Stream* stream) {
  if (stream->begun) {
    nghttp2_session_resume_data(session, id);
    return;
  }
  static const nghttp2_nv headers[] = {tests::H2ConstantHeader(":status", "200"),
                                       tests::H2ConstantHeader("content-type", "application/grpc")};
  stream->begun = true;
  nghttp2_data_provider provider = {};
  provider.source.ptr = stream;
  provider.read_callback = &OnWantData;
  nghttp2_submit_response(session, id, headers, std::size(headers), &provider);
}

int OnData(nghttp2_session* session, uint8_t, int32_t id, const uint8_t* data, size_t size, void*) {
  auto* stream = static_cast<Stream*>(nghttp2_session_get_stream_user_data(session, id));
  if (stream == nullptr) {
    stream = new Stream;
    nghttp2_session_set_stream_user_data(session, id, stream);
  }
  const uint32_t owed = stream->owed;
  for (const uint8_t* const end = data + size; data != end;) {
    if (stream->head < kHeadBytes) {
      stream->left = stream->left << 8 | *data++;  // the flag is shifted out again
      ++stream->head;
    } else {
      const auto skipped = std::min(stream->left, static_cast<uint32_t>(end - data));
      data += skipped;
      stream->left -= skipped;
    }
    if (stream->head == kHeadBytes && stream->left == 0) {
      stream->head = 0;
      ++stream->owed;
    }
  }
  if (stream->owed > owed) Respond(session, id, stream);
  return 0;
}

// A half-close mostly comes without data.
int OnFrame(nghttp2_session* session, const nghttp2_frame* frame, void*) {
  if (frame->hd.type != NGHTTP2_DATA || (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0) return 0;
  const int32_t id = frame->hd.stream_id;
  auto* stream = static_cast<Stream*>(nghttp2_session_get_stream_user_data(session, id));
  if (stream == nullptr) return 0;
  stream->half_closed = true;
  Respond(session, id, stream);
  return 0;
}

int OnClose(nghttp2_session* session, int32_t id, uint32_t, void*) {
  delete static_cast<Stream*>(nghttp2_session_get_stream_user_data(session, id));
  return 0;
}

nghttp2_session* NewSession() {
  nghttp2_option* option = nullptr;
  nghttp2_option_new(&option);
  nghttp2_option_set_no_http_messaging(option, 1);
  nghttp2_option_set_no_closed_streams(option, 1);
  // Resets are how Envoy's streams end, however many there are.
  nghttp2_option_set_stream_reset_rate_limit(option, UINT64_MAX, UINT64_MAX);
  nghttp2_session* session = tests::NewH2Session(
      nghttp2_session_server_new2, {.on_data = &OnData, .on_frame = &OnFrame, .on_close = &OnClose},
      nullptr, option);
  nghttp2_option_del(option);
  const nghttp2_settings_entry settings[] = {
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, NGHTTP2_MAX_WINDOW_SIZE},
  };
  nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, settings, std::size(settings));
  nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0, NGHTTP2_MAX_WINDOW_SIZE);
  return session;
}

struct Connection {
  int fd;
  nghttp2_session* session;
};

// False: the connection is over.
bool Receive(const Connection& connection) {
  static uint8_t buffer[kBufferBytes];
  ssize_t got = 0;
  do {
    got = recv(connection.fd, buffer, sizeof(buffer), MSG_DONTWAIT);
    if (got < 0) return errno == EAGAIN;
    if (got == 0) return false;
    if (nghttp2_session_mem_recv(connection.session, buffer, static_cast<size_t>(got)) < 0) {
      return false;
    }
  } while (got == sizeof(buffer));
  return true;
}

bool Send(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

bool Flush(const Connection& connection) {
  static std::string output;
  output.clear();
  for (;;) {
    const uint8_t* data = nullptr;
    const ssize_t size = nghttp2_session_mem_send(connection.session, &data);
    if (size < 0) return false;
    if (size == 0) return Send(connection.fd, output);
    output.append(reinterpret_cast<const char*>(data), static_cast<size_t>(size));
    if (output.size() < kBufferBytes) continue;
    if (!Send(connection.fd, output)) return false;
    output.clear();
  }
}

Connection* Accept(int listener) {
  const int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
  if (fd < 0) return nullptr;
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));  // a unix socket has none
  return new Connection{fd, NewSession()};
}

void Close(Connection* connection) {
  nghttp2_session_del(connection->session);
  close(connection->fd);
  delete connection;
}

void Run(const ServerOptions& options) {
  if (options.tls || options.scan) Fail("this server has no TLS and reads no headers");
  const int listener = Listen(options);
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  const auto watch = [epoll](int fd, Connection* connection) {
    epoll_event event = {};
    event.events = EPOLLIN;
    event.data.ptr = connection;
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
  };
  watch(listener, nullptr);
  for (;;) {
    epoll_event events[64];
    const int count = epoll_wait(epoll, events, 64, -1);
    for (int i = 0; i < count; ++i) {
      auto* connection = static_cast<Connection*>(events[i].data.ptr);
      if (connection == nullptr) {
        if (Connection* accepted = Accept(listener)) watch(accepted->fd, accepted);
      } else if (!Receive(*connection) || !Flush(*connection)) {
        Close(connection);
      }
    }
  }
}

}  // namespace
}  // namespace callout::bench

int main(int argc, char** argv) {
  callout::bench::Run(callout::bench::ParseServerOptions(argc, argv));
}
