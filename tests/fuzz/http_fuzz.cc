// SPDX-License-Identifier: Apache-2.0

// Any bytes to the HTTP server of health and admin, in two pieces, over a socket or TLS: what comes
// back is HTTP/1.1 responses and the end of the connection, and the next client is served, however
// many others say nothing. A server that waits for nobody ends each connection, too.
//
// Readers: host/ops/http_server.cc
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <boost/asio/ssl/context.hpp>
#include <cerrno>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "host/base/owned_fd.h"
#include "host/metrics/metrics.h"
#include "host/net/certificate.h"
#include "host/net/tls_context.h"
#include "host/ops/http_server.h"
#include "tests/fuzz/target.h"

namespace callout::host {
namespace {

constexpr char kGood[] = "GET /good HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
constexpr uint32_t kConnectionsMax = 3;

HttpResponse Respond(const HttpRequestView& request) {
  HttpResponse response;
  response.body = std::string(request.method.size() + request.host.size(), 'b');
  if (request.target == "/later") {
    response.later = [] { return HttpResponse{.status = 404, .body = "later"}; };
  } else if (request.target == "/headers") {
    response.allow = "GET, HEAD";
    response.headers = {{"cache-control", "no-store"}};
  }
  return response;
}

// Of the connections that begin as HTTP/2, it takes every second size of what they begin with.
bool TakeHttp2(int fd, const std::string& bytes) {
  if (bytes.size() % 2 == 0) return false;
  close(fd);
  return true;
}

struct World {
  explicit World(uint32_t timeout_ms) {
    signal(SIGPIPE, SIG_IGN);  // as the host does
    HttpLimits limits;
    limits.header_bytes_max = 512;
    limits.body_bytes_max = 64;
    limits.connections_max = kConnectionsMax;
    limits.timeout_ms = timeout_ms;
    server = *HttpServer::Create(&metrics, limits);
    serve = *server->AddListener("fuzz", Respond, nullptr, TakeHttp2);
    const KeyPair pair = *MakeSelfSignedKeyPair();
    serve_tls = *server->AddListener(
        "tls", Respond,
        [context = *MakeTlsContext(pair.chain_pem, pair.key_pem)] { return context; });
  }

  Metrics metrics;
  std::unique_ptr<HttpServer> server;
  std::function<void(int)> serve, serve_tls;
};

const World& Patient() {
  static const World* const world = new World(5000);
  return *world;
}
const World& Impatient() {
  static const World* const world = new World(2);
  return *world;
}

// This end of a connection that the function serves the other end of.
OwnedFd Connect(const std::function<void(int)>& serve) {
  std::array<int, 2> ends;
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) abort();
  OwnedFd client(ends[0]);
  const timeval patience = {20, 0};
  setsockopt(client.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  setsockopt(client.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  fcntl(ends[1], F_SETFL, O_NONBLOCK);
  serve(ends[1]);
  return client;
}

struct Asked {
  std::string received;
  bool ended = false;
};

// Again while a signal interrupts it. libFuzzer has a timer, and the kernel does not go on by
// itself with a socket that has a limit of time.
template <typename Call>
auto Uninterrupted(const Call& call) {
  while (true) {
    errno = 0;
    const auto result = call();
    if (result > 0 || errno != EINTR) return result;
  }
}

Asked ReadToEnd(const OwnedFd& client) {
  Asked asked;
  std::array<char, 4096> buffer;
  ssize_t size = 0;
  while ((size = Uninterrupted(
              [&] { return recv(client.get(), buffer.data(), buffer.size(), 0); })) > 0) {
    asked.received.append(buffer.data(), static_cast<size_t>(size));
  }
  asked.ended = size == 0 || errno == ECONNRESET;
  return asked;
}

// All that comes back for the pieces. The client ends its side, or waits for the server's patience.
Asked Ask(const std::function<void(int)>& serve, const std::string& first,
          const std::string& second, bool ends) {
  const OwnedFd client = Connect(serve);
  for (const std::string* piece : {&first, &second}) {
    if (piece->empty()) continue;
    Uninterrupted([&] { return send(client.get(), piece->data(), piece->size(), MSG_NOSIGNAL); });
  }
  if (ends) shutdown(client.get(), SHUT_WR);
  return ReadToEnd(client);
}

struct Free {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
  void operator()(SSL* ssl) const { SSL_free(ssl); }
};

Asked AskByTls(const std::string& first, const std::string& second) {
  static SSL_CTX* const context = SSL_CTX_new(TLS_client_method());
  const OwnedFd client = Connect(Patient().serve_tls);
  const std::unique_ptr<SSL, Free> ssl(SSL_new(context));
  SSL_set_fd(ssl.get(), client.get());
  if (Uninterrupted([&] { return SSL_connect(ssl.get()); }) != 1) return {};
  for (const std::string* piece : {&first, &second}) {
    if (piece->empty()) continue;
    Uninterrupted(
        [&] { return SSL_write(ssl.get(), piece->data(), static_cast<int>(piece->size())); });
  }
  (void)SSL_shutdown(ssl.get());
  shutdown(client.get(), SHUT_WR);
  Asked asked;
  std::array<char, 4096> buffer;
  int size = 0;
  while ((size = Uninterrupted([&] { return SSL_read(ssl.get(), buffer.data(), buffer.size()); })) >
         0) {
    asked.received.append(buffer.data(), static_cast<size_t>(size));
  }
  ERR_clear_error();
  asked.ended = ReadToEnd(client).ended;
  return asked;
}

FUZZ_TARGET(http, .rounds = 1500, .bytes = 40) {
  const unsigned cut = choices.Next(256);
  const bool has_good = choices.Next(2) == 0;
  // One in eight each: others that wait, TLS, what should be TLS, a server without patience.
  const unsigned kind = choices.Next(8);
  const std::string bytes = choices.Rest() + (has_good ? kGood : "");
  const std::string first = bytes.substr(0, cut);
  const std::string second = bytes.substr(first.size());
  std::vector<OwnedFd> others;
  while (kind == 7 && others.size() < kConnectionsMax) others.push_back(Connect(Patient().serve));
  Asked asked;
  if (kind == 6) {
    asked = AskByTls(first, second);
  } else if (kind == 5) {
    asked = Ask(Patient().serve_tls, first, second, true);
    asked.received.clear();  // an alert, perhaps
  } else if (kind == 4) {
    asked = Ask(cut % 2 == 0 ? Impatient().serve : Impatient().serve_tls, first, second, false);
    if (cut % 2 != 0) asked.received.clear();
  } else if (kind == 3 && cut == 255) {
    // One that stops meanwhile closes every connection.
    const World stopped(5000);
    const OwnedFd client = Connect(stopped.serve);
    stopped.server->Stop();
    asked = Ask(stopped.serve, first, second, true);
    if (!asked.received.empty() || !ReadToEnd(client).ended) return "it serves after its end";
  } else {
    asked = Ask(Patient().serve, first, second, true);
  }
  if (!asked.ended) return "the connection does not end";
  if (!asked.received.empty() && !asked.received.starts_with("HTTP/1.")) {
    return "it answers in no HTTP";
  }
  const std::string good = Ask(Patient().serve, kGood, "", true).received;
  return good.starts_with("HTTP/1.1 200") ? "" : "the next client is not served: " + good;
}

}  // namespace
}  // namespace callout::host
