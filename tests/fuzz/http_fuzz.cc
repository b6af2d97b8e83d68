// SPDX-License-Identifier: Apache-2.0

// Any bytes to the HTTP server of health and admin, in two pieces: what comes back is
// HTTP/1.1 responses and the end of the connection, and the next client is served.
//
// Readers: host/ops/http_server.cc
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>

#include "host/base/owned_fd.h"
#include "host/metrics/metrics.h"
#include "host/ops/http_server.h"
#include "tests/fuzz/target.h"

namespace callout::host {
namespace {

constexpr char kGood[] = "GET /good HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

struct World {
  World() {
    HttpLimits limits;
    limits.header_bytes_max = 512;
    limits.body_bytes_max = 64;
    server = *HttpServer::Create(&metrics, limits);
    serve = *server->AddListener("fuzz", [](const HttpRequestView& request) {
      HttpResponse response;
      response.body = std::string(request.method.size() + request.host.size(), 'b');
      if (request.target == "/later") {
        response.later = [] { return HttpResponse{.status = 404, .body = "later"}; };
      }
      return response;
    });
  }

  Metrics metrics;
  std::unique_ptr<HttpServer> server;
  std::function<void(int)> serve;
};

// All that comes back for the pieces; nothing if the connection does not end.
std::string Ask(const std::string& first, const std::string& second, bool* ended) {
  static World* const world = new World;
  std::array<int, 2> ends;
  *ended = false;
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) return "";
  OwnedFd client(ends[0]);
  const timeval patience = {20, 0};
  setsockopt(client.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  fcntl(ends[1], F_SETFL, O_NONBLOCK);
  world->serve(ends[1]);
  for (const std::string* piece : {&first, &second}) {
    if (!piece->empty()) (void)!send(client.get(), piece->data(), piece->size(), MSG_NOSIGNAL);
  }
  shutdown(client.get(), SHUT_WR);
  std::string received;
  std::array<char, 4096> buffer;
  ssize_t size = 0;
  while ((size = recv(client.get(), buffer.data(), buffer.size(), 0)) > 0) {
    received.append(buffer.data(), static_cast<size_t>(size));
  }
  *ended = size == 0 || errno == ECONNRESET;
  return received;
}

FUZZ_TARGET(http, .rounds = 1500, .bytes = 40) {
  const unsigned cut = choices.Next(256);
  const bool has_good = choices.Next(2) == 0;
  const std::string bytes = choices.Rest() + (has_good ? kGood : "");
  const std::string first = bytes.substr(0, cut);
  bool ended = false;
  const std::string received = Ask(first, bytes.substr(first.size()), &ended);
  if (!ended) return "the connection does not end";
  if (!received.empty() && !received.starts_with("HTTP/1.")) return "it answers in no HTTP";
  const std::string good = Ask(kGood, "", &ended);
  return good.starts_with("HTTP/1.1 200") ? "" : "the next client is not served: " + good;
}

}  // namespace
}  // namespace callout::host
