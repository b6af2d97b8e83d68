// SPDX-License-Identifier: Apache-2.0

#include "tests/host/upstream/test_service.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <nghttp2/nghttp2.h>
#include <openssl/pem.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "tests/host/pki.h"

namespace callout::host {
namespace {

std::string Lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

Descriptor ListenOn(const Address& address) {
  Descriptor fd = MakeSocket(address);
  EXPECT_EQ(bind(fd.get(), address.get(), address.size), 0) << strerror(errno);
  EXPECT_EQ(listen(fd.get(), 128), 0) << strerror(errno);
  return fd;
}

uint16_t PortOf(int fd) {
  Address address;
  address.size = sizeof(address.storage);
  EXPECT_EQ(getsockname(fd, address.get(), &address.size), 0);
  return address.port();
}

// A close that the other side sees as a reset.
void SetReset(int fd) {
  const linger reset = {1, 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
}

// Bytes that nobody has read would turn the close into a reset, which takes what was sent with it.
void AwaitPeersEnd(int fd) {
  linger reset = {};
  socklen_t size = sizeof(reset);
  getsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, &size);
  if (reset.l_onoff != 0) return;
  constexpr timeval kPatience = {1, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof(kPatience));
  shutdown(fd, SHUT_WR);
  char rest[4096];
  while (recv(fd, rest, sizeof(rest), 0) > 0) {
  }
}

TestCertificate CertificateOf(const std::string& pem) {
  const std::unique_ptr<BIO, OpensslFree> bio(
      BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  return TestCertificate(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
}

}  // namespace

// One connection's bytes.
class TestService::Channel {
 public:
  Channel(TestService* service, int fd) : fd_(fd) {
    if (service->tls_ == nullptr) return;
    tls_ = SSL_new(service->tls_);
    SSL_set_fd(tls_, fd);
    is_good_ = SSL_accept(tls_) == 1;
    if (!is_good_) return;
    const char* name = SSL_get_servername(tls_, TLSEXT_NAMETYPE_host_name);
    service->server_name_.Update([&](std::string& to) { to = name == nullptr ? "" : name; });
  }
  ~Channel() {
    if (tls_ != nullptr) SSL_shutdown(tls_);
    SSL_free(tls_);
  }
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  bool is_good() const { return is_good_; }
  int fd() const { return fd_; }
  // "" at the end.
  std::string Read() {
    char buffer[16384];
    const ssize_t size = tls_ != nullptr ? SSL_read(tls_, buffer, sizeof(buffer))
                                         : recv(fd_, buffer, sizeof(buffer), 0);
    return size > 0 ? std::string(buffer, static_cast<size_t>(size)) : "";
  }
  bool Write(std::string_view text) {
    if (tls_ == nullptr) return host::Write(fd_, text);
    return text.empty() || SSL_write(tls_, text.data(), static_cast<int>(text.size())) > 0;
  }
  void Hang() {
    while (!Read().empty()) {
    }
  }

 private:
  const int fd_;
  SSL* tls_ = nullptr;
  bool is_good_ = true;
};

TestService::TestService(const Options& options, Handler handler)
    : options_(options), handler_(std::move(handler)) {
  signal(SIGPIPE, SIG_IGN);  // SSL_write knows no MSG_NOSIGNAL
  const bool is_unix = !options.unix_path.empty();
  listener_ = ListenOn(ParsedAddress(is_unix ? "unix:" + options.unix_path : "127.0.0.1:0"));
  url_ = is_unix ? "unix:" + options.unix_path
                 : fmt::format("http{}://localhost:{}", options.certificate.empty() ? "" : "s",
                               PortOf(listener_.get()));
  if (!options.certificate.empty()) {
    tls_ = SSL_CTX_new(TLS_server_method());
    SSL_CTX_use_certificate(tls_, CertificateOf(options.certificate).get());
    const std::unique_ptr<BIO, OpensslFree> bio(
        BIO_new_mem_buf(options.key.data(), static_cast<int>(options.key.size())));
    const TestKey key(PEM_read_bio_PrivateKey(bio.get(), nullptr, nullptr, nullptr));
    SSL_CTX_use_PrivateKey(tls_, key.get());
    if (!options.client_ca.empty()) {
      X509_STORE_add_cert(SSL_CTX_get_cert_store(tls_), CertificateOf(options.client_ca).get());
      SSL_CTX_set_verify(tls_, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
    }
    SSL_CTX_set_alpn_select_cb(
        tls_,
        [](SSL*, const unsigned char** out, unsigned char* size, const unsigned char* in,
           unsigned in_size, void* self) {
          const Options& given = static_cast<TestService*>(self)->options_;
          std::string wanted = given.alpn;
          if (wanted.empty()) wanted = given.http2 ? "h2" : "http/1.1";
          for (unsigned at = 0; at < in_size; at += in[at] + 1u) {
            if (std::string_view(reinterpret_cast<const char*>(in) + at + 1, in[at]) != wanted) {
              continue;
            }
            *out = in + at + 1;
            *size = in[at];
            return SSL_TLSEXT_ERR_OK;
          }
          return SSL_TLSEXT_ERR_NOACK;
        },
        this);
  }
  accepting_ = std::thread([this] { Accept(); });
}

std::string TestService::url() const { return url_; }

void TestService::CloseConnections() {
  const std::lock_guard lock(mutex_);
  for (const int fd : fds_) shutdown(fd, SHUT_RDWR);
}

void TestService::Stop() {
  if (stopping_.exchange(true)) return;
  shutdown(listener_.get(), SHUT_RDWR);
  accepting_.join();
  listener_.Close();
  CloseConnections();
  for (std::thread& thread : threads_) thread.join();
  SSL_CTX_free(tls_);
}

void TestService::Accept() {
  while (!stopping_) {
    const int fd = accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) return;
    int number = 0;
    connections_.Update([&](int& count) { number = ++count; });
    open_.Update([](int& count) { ++count; });
    const std::lock_guard lock(mutex_);
    fds_.push_back(fd);
    threads_.emplace_back([this, fd, number] { Serve(fd, number); });
  }
}

void TestService::Serve(int fd, int number) {
  if (options_.admits == nullptr || options_.admits(number)) {
    Channel channel(this, fd);
    if (channel.is_good() && options_.http2) ServeHttp2(&channel, number);
    if (channel.is_good() && !options_.http2) ServeHttp1(&channel, number);
  }
  AwaitPeersEnd(fd);
  {
    const std::lock_guard lock(mutex_);
    std::erase(fds_, fd);
  }
  close(fd);
  open_.Update([](int& count) { --count; });
}

TestService::Reply TestService::Ask(Request* request) {
  requests_.Update([&](int& count) { request->number = ++count; });
  return handler_(*request);
}

// --- HTTP/1.1 ---

void TestService::ServeHttp1(Channel* channel, int number) {
  std::string inbox;
  for (;;) {
    size_t end = 0;
    while ((end = inbox.find("\r\n\r\n")) == inbox.npos) {
      const std::string more = channel->Read();
      if (more.empty()) return;
      inbox += more;
    }
    Request request;
    request.connection = number;
    size_t at = inbox.find("\r\n");
    const std::string line = inbox.substr(0, at);
    request.method = line.substr(0, line.find(' '));
    request.path =
        line.substr(request.method.size() + 1, line.rfind(' ') - request.method.size() - 1);
    size_t length = 0;
    while (at < end) {
      const size_t next = inbox.find("\r\n", at + 2);
      const std::string field = inbox.substr(at + 2, next - at - 2);
      const size_t colon = field.find(": ");
      request.headers.emplace_back(Lower(field.substr(0, colon)), field.substr(colon + 2));
      if (request.headers.back().first == "content-length")
        length = std::stoul(field.substr(colon + 2));
      at = next;
    }
    request.authority = request.header("host");
    inbox.erase(0, end + 4);
    while (inbox.size() < length) {
      const std::string more = channel->Read();
      if (more.empty()) return;
      inbox += more;
    }
    request.body = inbox.substr(0, length);
    inbox.erase(0, length);
    const Reply reply = Ask(&request);
    if (reply.act == Act::kHang) return channel->Hang();
    if (reply.act == Act::kReset || reply.act == Act::kRefuse) return SetReset(channel->fd());
    if (reply.act == Act::kGarbage) {
      channel->Write("what is this?\r\n\r\n");
      return channel->Hang();
    }
    if (reply.act == Act::kRaw || reply.act == Act::kRawAndClose) {
      if (!channel->Write(reply.raw) || reply.act == Act::kRawAndClose) return;
      continue;
    }
    std::string text = fmt::format("HTTP/1.1 {} x\r\n", reply.status);
    for (const auto& [name, value] : reply.headers) text += name + ": " + value + "\r\n";
    if (request.method == "HEAD") {
      text += "content-length: 5\r\n\r\n";
    } else {
      text += fmt::format("content-length: {}\r\n\r\n{}", reply.body.size(), reply.body);
    }
    if (reply.act == Act::kCut) text.resize(text.size() - 1);
    if (!channel->Write(text) || reply.act != Act::kRespond) return;
  }
}

// --- HTTP/2 ---

namespace {

struct Http2Peer {
  std::function<TestService::Reply(TestService::Request*)> ask;
  int number = 0;
  std::map<int32_t, TestService::Request> requests;
  std::map<int32_t, TestService::Reply> replies;
  std::map<int32_t, size_t> sent;
  bool ends = false;  // without a word
  bool has_garbage = false;
};

std::vector<nghttp2_nv> FieldsOf(const HeaderFields& headers) {
  std::vector<nghttp2_nv> fields;
  for (const auto& [name, value] : headers) {
    fields.push_back({reinterpret_cast<uint8_t*>(const_cast<char*>(name.data())),
                      reinterpret_cast<uint8_t*>(const_cast<char*>(value.data())), name.size(),
                      value.size(), NGHTTP2_NV_FLAG_NONE});
  }
  return fields;
}

ssize_t ReadReply(nghttp2_session* session, int32_t id, uint8_t* to, size_t size, uint32_t* flags,
                  nghttp2_data_source*, void* user) {
  auto* const peer = static_cast<Http2Peer*>(user);
  const TestService::Reply& reply = peer->replies[id];
  size_t& sent = peer->sent[id];
  const size_t count = std::min(size, reply.body.size() - sent);
  std::memcpy(to, reply.body.data() + sent, count);
  sent += count;
  if (sent < reply.body.size()) return static_cast<ssize_t>(count);
  *flags |= NGHTTP2_DATA_FLAG_EOF;
  if (reply.act == TestService::Act::kCut) {
    *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
    nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, id, NGHTTP2_INTERNAL_ERROR);
  } else if (!reply.trailers.empty()) {
    *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
    const std::vector<nghttp2_nv> trailers = FieldsOf(reply.trailers);
    nghttp2_submit_trailer(session, id, trailers.data(), trailers.size());
  }
  return static_cast<ssize_t>(count);
}

void Respond(nghttp2_session* session, int32_t id, Http2Peer* peer) {
  using Act = TestService::Act;
  TestService::Reply& reply = peer->replies[id] = peer->ask(&peer->requests[id]);
  if (reply.act == Act::kHang) return;
  if (reply.act == Act::kReset || reply.act == Act::kRefuse) {
    nghttp2_submit_rst_stream(
        session, NGHTTP2_FLAG_NONE, id,
        reply.act == Act::kRefuse ? NGHTTP2_REFUSED_STREAM : NGHTTP2_INTERNAL_ERROR);
    return;
  }
  if (reply.act == Act::kGarbage) {
    peer->has_garbage = true;
    return;
  }
  HeaderFields headers = {{":status", std::to_string(reply.status)}};
  headers.insert(headers.end(), reply.headers.begin(), reply.headers.end());
  const std::vector<nghttp2_nv> fields = FieldsOf(headers);
  nghttp2_data_provider body = {};
  body.read_callback = ReadReply;
  const bool has_body = !reply.body.empty() || !reply.trailers.empty();
  nghttp2_submit_response(session, id, fields.data(), fields.size(), has_body ? &body : nullptr);
  if (reply.act == Act::kRespondAndClose) {
    nghttp2_submit_goaway(session, NGHTTP2_FLAG_NONE, id, NGHTTP2_NO_ERROR, nullptr, 0);
  }
}

nghttp2_session* MakeSession(Http2Peer* peer) {
  nghttp2_session_callbacks* callbacks = nullptr;
  nghttp2_session_callbacks_new(&callbacks);
  nghttp2_session_callbacks_set_on_header_callback(
      callbacks,
      [](nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name, size_t name_size,
         const uint8_t* value, size_t value_size, uint8_t, void* user) {
        auto& request = static_cast<Http2Peer*>(user)->requests[frame->hd.stream_id];
        const std::string key(reinterpret_cast<const char*>(name), name_size);
        const std::string text(reinterpret_cast<const char*>(value), value_size);
        if (key == ":method") request.method = text;
        if (key == ":path") request.path = text;
        if (key == ":authority") request.authority = text;
        request.headers.emplace_back(key, text);
        return 0;
      });
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(
      callbacks,
      [](nghttp2_session*, uint8_t, int32_t id, const uint8_t* data, size_t size, void* user) {
        static_cast<Http2Peer*>(user)->requests[id].body.append(reinterpret_cast<const char*>(data),
                                                                size);
        return 0;
      });
  nghttp2_session_callbacks_set_on_frame_recv_callback(
      callbacks, [](nghttp2_session* session, const nghttp2_frame* frame, void* user) {
        const bool is_request = frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA;
        if (is_request && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
          Respond(session, frame->hd.stream_id, static_cast<Http2Peer*>(user));
        }
        return 0;
      });
  nghttp2_session* session = nullptr;
  nghttp2_session_server_new(&session, callbacks, peer);
  nghttp2_session_callbacks_del(callbacks);
  nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, nullptr, 0);
  return session;
}

}  // namespace

void TestService::ServeHttp2(Channel* channel, int number) {
  Http2Peer peer;
  peer.ask = [&](Request* request) {
    request->connection = number;
    return Ask(request);
  };
  nghttp2_session* const session = MakeSession(&peer);
  bool goes_on = true;
  while (goes_on) {
    const uint8_t* data = nullptr;
    ssize_t size = 0;
    while ((size = nghttp2_session_mem_send(session, &data)) > 0) {
      if (!channel->Write({reinterpret_cast<const char*>(data), static_cast<size_t>(size)})) break;
    }
    if (peer.has_garbage) channel->Write(std::string(100, '\xff'));
    if (nghttp2_session_want_read(session) == 0) break;
    const std::string bytes = channel->Read();
    goes_on = !bytes.empty() &&
              nghttp2_session_mem_recv(session, reinterpret_cast<const uint8_t*>(bytes.data()),
                                       bytes.size()) >= 0;
  }
  nghttp2_session_del(session);
}

std::string UnusedUrl() {
  const Descriptor socket = ListenOn(ParsedAddress("127.0.0.1:0"));
  return fmt::format("http://127.0.0.1:{}", PortOf(socket.get()));
}

}  // namespace callout::host
