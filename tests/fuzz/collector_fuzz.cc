// SPDX-License-Identifier: Apache-2.0

// What a collector of traces sends back to a POST: any bytes, in two pieces. The request ends with
// them, and what is kept of a response is within its limits.
//
// Readers: host/telemetry/http_post.cc
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>

#include "host/base/owned_fd.h"
#include "host/telemetry/http_post.h"
#include "host/telemetry/otlp_encoding.h"
#include "tests/fuzz/target.h"

namespace callout::host {
namespace {

constexpr char kBody[] = "spans";
constexpr uint64_t kPatienceMs = 20'000;

// Listens on loopback, and says to each client what the run wants; a thread of its own.
class Collector {
 public:
  Collector() : listener_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* const generic = reinterpret_cast<sockaddr*>(&address);
    if (bind(listener_.get(), generic, size) != 0 || listen(listener_.get(), 16) != 0 ||
        getsockname(listener_.get(), generic, &size) != 0) {
      abort();
    }
    OtlpEndpoint endpoint;
    endpoint.host = "127.0.0.1";
    endpoint.port = ntohs(address.sin_port);
    endpoint.target = "/v1/traces";
    post_ = *HttpPost::Create(endpoint, nullptr);
    std::thread([this] { Serve(); }).detach();
  }

  absl::StatusOr<HttpPost::Reply> Ask(std::string first, std::string second) {
    first_ = std::move(first);
    second_ = std::move(second);
    return post_->Send({{"content-type", "application/x-protobuf"}}, kBody, kPatienceMs);
  }

 private:
  // The client's connection orders its thread and this one.
  void Serve() {
    for (;;) {
      const OwnedFd client(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (client.get() < 0) continue;
      std::string request;
      std::array<char, 4096> buffer;
      while (!request.ends_with(std::string("\r\n\r\n") + kBody)) {
        const ssize_t got = recv(client.get(), buffer.data(), buffer.size(), 0);
        if (got <= 0) break;
        request.append(buffer.data(), static_cast<size_t>(got));
      }
      for (const std::string* piece : {&first_, &second_}) {
        if (!piece->empty()) (void)!send(client.get(), piece->data(), piece->size(), MSG_NOSIGNAL);
      }
    }
  }

  const OwnedFd listener_;
  std::unique_ptr<HttpPost> post_;
  std::string first_, second_;
};

FUZZ_TARGET(collector, .rounds = 300, .bytes = 80) {
  static auto* const collector = new Collector;
  const unsigned cut = choices.Next(256);
  std::string bytes;
  const char* const heads[] = {"", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 503 Busy\r\nretry-after: ",
                               "HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n"};
  bytes += heads[choices.Next(4)];
  bytes += choices.Rest();
  const std::string first = bytes.substr(0, cut);
  const auto reply = collector->Ask(first, bytes.substr(first.size()));
  if (!reply.ok()) {
    if (absl::IsDeadlineExceeded(reply.status())) return "the request does not end";
    const std::string why(reply.status().message());
    return !why.empty() && why.find('\n') == why.npos ? "" : "an error is not one line";
  }
  if (reply->status < 100 || reply->status > 999) return "a status that is none";
  if (reply->body.size() > HttpPost::kReplyBodyBytesMax) return "a body over its limit";
  if (reply->retry_after_ms > 86'400'000) return "a wait of more than a day";
  (void)ReadOtlpReply(reply->body);
  return "";
}

}  // namespace
}  // namespace callout::host
