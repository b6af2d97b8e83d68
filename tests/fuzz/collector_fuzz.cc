// SPDX-License-Identifier: Apache-2.0

// What a collector of traces sends back to a POST: any bytes, in two pieces, over TCP or TLS; or
// nothing. The request ends with them, and what is kept of a response is within its limits. And
// what an operator names as certificates of a client.
//
// Readers: host/telemetry/http_post.cc
#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <sys/socket.h>

#include <array>
#include <boost/asio/ssl/context.hpp>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "host/base/owned_fd.h"
#include "host/telemetry/http_post.h"
#include "host/telemetry/otlp_encoding.h"
#include "tests/fuzz/target.h"
#include "tests/fuzz/text_file.h"
#include "tests/host/pki.h"

namespace callout::host {
namespace {

constexpr char kBody[] = "spans";
constexpr uint64_t kPatienceMs = 20'000;
// For a collector that says nothing.
constexpr uint64_t kLittlePatienceMs = 2;

// The names of a collector, and the files of its CA and of a client.
struct Pki {
  Pki() {
    const TestKey ca_key = MakeEcKey();
    const TestCertificate ca =
        MakeCertificate({.name = "ca", .is_ca = true}, ca_key.get(), nullptr, nullptr);
    const TestCertificate certificate =
        MakeCertificate({.alt_names = "DNS:localhost"}, key.get(), ca.get(), ca_key.get());
    ca_pem = PemOf(ca.get());
    chain_pem = PemOf(certificate.get());
    key_pem = PemOf(key.get());
  }
  const TestKey key = MakeEcKey();
  std::string ca_pem, chain_pem, key_pem;
};
const Pki& ThePki() {
  static const Pki* const pki = new Pki;
  return *pki;
}

// A loopback port, and who is asked there. Nobody answers before Serve.
class Port {
 public:
  explicit Port(bool listens) : socket_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* const generic = reinterpret_cast<sockaddr*>(&address);
    if (bind(socket_.get(), generic, size) != 0 || (listens && listen(socket_.get(), 16) != 0) ||
        getsockname(socket_.get(), generic, &size) != 0) {
      abort();
    }
    number_ = ntohs(address.sin_port);
  }
  int fd() const { return socket_.get(); }
  std::unique_ptr<HttpPost> Post(const std::string& host, TlsContext tls) const {
    OtlpEndpoint endpoint;
    endpoint.host = host;
    endpoint.port = number_;
    endpoint.tls = tls != nullptr;
    endpoint.target = "/v1/traces";
    return *HttpPost::Create(endpoint, std::move(tls));
  }

 private:
  const OwnedFd socket_;
  uint16_t number_ = 0;
};

// Says to each client what the run wants; a thread of its own.
class Collector {
 public:
  explicit Collector(bool tls) {
    signal(SIGPIPE, SIG_IGN);  // as the host does
    TlsContext client;
    if (tls) {
      context_.reset(SSL_CTX_new(TLS_server_method()));
      const std::unique_ptr<BIO, OpensslFree> bio(
          BIO_new_mem_buf(ThePki().chain_pem.data(), static_cast<int>(ThePki().chain_pem.size())));
      const TestCertificate certificate(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
      SSL_CTX_use_certificate(context_.get(), certificate.get());
      SSL_CTX_use_PrivateKey(context_.get(), ThePki().key.get());
      client = *MakeClientTlsContext(TextFile(ThePki().ca_pem).path(), "", "");
    }
    // The certificate has the name, which is asked for.
    post_ = port_.Post(tls ? "localhost" : "127.0.0.1", std::move(client));
    std::thread([this] { Serve(); }).detach();
  }

  absl::StatusOr<HttpPost::Reply> Ask(std::string first, std::string second, bool silent) {
    {
      const std::lock_guard lock(mutex_);
      says_ = {std::move(first), std::move(second), silent};
    }
    return post_->Send({{"content-type", "application/x-protobuf"}}, kBody,
                       silent ? kLittlePatienceMs : kPatienceMs);
  }

 private:
  struct Free {
    void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
    void operator()(SSL* ssl) const { SSL_free(ssl); }
  };
  struct Says {
    std::string first, second;
    bool silent = false;
  };
  using Read = std::function<ssize_t(char* to, size_t size)>;
  using Write = std::function<void(const std::string& bytes)>;

  void Serve() {
    for (;;) {
      const OwnedFd client(accept4(port_.fd(), nullptr, nullptr, SOCK_CLOEXEC));
      if (client.get() < 0) continue;
      if (context_ == nullptr) {
        Talk([&](char* to, size_t size) { return recv(client.get(), to, size, 0); },
             [&](const std::string& bytes) {
               (void)!send(client.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
             });
        continue;
      }
      const std::unique_ptr<SSL, Free> ssl(SSL_new(context_.get()));
      SSL_set_fd(ssl.get(), client.get());
      if (SSL_accept(ssl.get()) != 1) continue;
      Talk([&](char* to,
               size_t size) { return ssize_t{SSL_read(ssl.get(), to, static_cast<int>(size))}; },
           [&](const std::string& bytes) {
             (void)SSL_write(ssl.get(), bytes.data(), static_cast<int>(bytes.size()));
           });
    }
  }

  void Talk(const Read& read, const Write& write) {
    Says says;
    {
      const std::lock_guard lock(mutex_);
      says = says_;
    }
    std::string request;
    std::array<char, 4096> buffer;
    // Who is silent waits for the client to leave.
    while (says.silent || !request.ends_with(std::string("\r\n\r\n") + kBody)) {
      const ssize_t got = read(buffer.data(), buffer.size());
      if (got <= 0) return;
      request.append(buffer.data(), static_cast<size_t>(got));
    }
    for (const std::string* piece : {&says.first, &says.second}) {
      if (!piece->empty()) write(*piece);
    }
  }

  const Port port_{true};
  std::unique_ptr<SSL_CTX, Free> context_;
  std::unique_ptr<HttpPost> post_;
  std::mutex mutex_;  // of what it says to the next client
  Says says_;
};

std::string LookAtError(const absl::Status& status) {
  const std::string why(status.message());
  return !why.empty() && why.find('\n') == why.npos ? "" : "an error is not one line";
}

std::string Ask(Choices& choices, bool tls) {
  static auto* const plain = new Collector(false);
  static auto* const secure = new Collector(true);
  const unsigned cut = choices.Next(256);
  const char* const heads[] = {"", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 503 Busy\r\nretry-after: ",
                               "HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n"};
  std::string bytes = heads[choices.Next(4)];
  bytes += choices.Rest();
  const bool silent = cut == 255;
  const std::string first = bytes.substr(0, cut);
  const auto reply = (tls ? secure : plain)->Ask(first, bytes.substr(first.size()), silent);
  if (!reply.ok()) {
    if (!silent && absl::IsDeadlineExceeded(reply.status())) return "the request does not end";
    return LookAtError(reply.status());
  }
  if (silent) return "a response comes from nowhere";
  if (reply->status < 100 || reply->status > 999) return "a status that is none";
  if (reply->body.size() > HttpPost::kReplyBodyBytesMax) return "a body over its limit";
  if (reply->retry_after_ms > 86'400'000) return "a wait of more than a day";
  (void)ReadOtlpReply(reply->body);
  return "";
}

// Nobody is there, or nobody wants to wait for it any more.
std::string AskNobody(Choices& choices) {
  static const auto* const port = new Port(false);
  // The last is too long for a name, so that no resolver is asked.
  const std::string hosts[] = {"127.0.0.1", "::ffff:127.0.0.1", std::string(300, 'a')};
  const auto post = port->Post(hosts[choices.Next(3)], nullptr);
  const bool cancelled = choices.Next(2) == 0;
  if (cancelled) post->Cancel();
  const absl::Status status = post->Send({}, kBody, kPatienceMs).status();
  if (status.ok()) return "a response comes from nowhere";
  if (absl::IsCancelled(status) != cancelled) return "it is not cancelled, or without a word";
  return LookAtError(status);
}

std::string ReadFiles(Choices& choices) {
  const auto any = [&](const std::string& good) {
    return TextFile(choices.OneIn(4) ? choices.Bytes(100) : good);
  };
  const TextFile ca = any(ThePki().ca_pem), chain = any(ThePki().chain_pem),
                 key = any(ThePki().key_pem);
  const auto path = [&](const TextFile& file) {
    return choices.OneIn(4) ? std::string() : file.path();
  };
  const std::string ca_path = path(ca), chain_path = path(chain), key_path = path(key);
  const absl::Status status = MakeClientTlsContext(ca_path, chain_path, key_path).status();
  return status.ok() ? "" : LookAtError(status);
}

FUZZ_TARGET(collector, .rounds = 300, .bytes = 80) {
  switch (choices.Next(8)) {
    case 5:
      return Ask(choices, true);
    case 6:
      return AskNobody(choices);
    case 7:
      return ReadFiles(choices);
    default:
      return Ask(choices, false);
  }
}

}  // namespace
}  // namespace callout::host
