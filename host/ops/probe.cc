// SPDX-License-Identifier: Apache-2.0

#include "host/ops/probe.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>

#include "host/base/owned_fd.h"

namespace callout::host {
namespace {

constexpr std::string_view kRequest =
    "GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: callout-host-probe\r\n"
    "Connection: close\r\n\r\n";
constexpr size_t kStatusLineBytes = 12;  // "HTTP/1.1 200"

absl::Status Unanswered(const Address& address, std::string_view what) {
  return absl::UnavailableError(fmt::format("health at {}: {}", address.ToString(), what));
}

Address Reachable(Address address) {
  if (address.family() == AF_INET) {
    auto* const ip = reinterpret_cast<sockaddr_in*>(&address.storage);
    if (ip->sin_addr.s_addr == htonl(INADDR_ANY)) ip->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  } else if (address.family() == AF_INET6) {
    auto* const ip = reinterpret_cast<sockaddr_in6*>(&address.storage);
    if (IN6_IS_ADDR_UNSPECIFIED(&ip->sin6_addr)) ip->sin6_addr = in6addr_loopback;
  }
  return address;
}

// A connection with or without TLS, on a socket with time limits.
class Client {
 public:
  bool Connect(const Address& address, uint64_t timeout_ms) {
    fd_ = OwnedFd(socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
    const timeval timeout = {static_cast<time_t>(timeout_ms / 1000),
                             static_cast<suseconds_t>(timeout_ms % 1000 * 1000)};
    setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    setsockopt(fd_.get(), SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
    return fd_.get() >= 0 && connect(fd_.get(), address.get(), address.size) == 0;
  }
  bool StartTls() {
    context_.reset(SSL_CTX_new(TLS_client_method()));
    if (context_ == nullptr) return false;
    ssl_.reset(SSL_new(context_.get()));
    return ssl_ != nullptr && SSL_set_fd(ssl_.get(), fd_.get()) == 1 &&
           SSL_connect(ssl_.get()) == 1;
  }
  bool Write(std::string_view bytes) {
    const auto size = static_cast<int>(bytes.size());
    return ssl_ != nullptr ? SSL_write(ssl_.get(), bytes.data(), size) == size
                           : send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) == size;
  }
  // Up to `size` bytes.
  std::string Read(size_t size) {
    std::string all;
    std::array<char, 256> buffer;
    while (all.size() < size) {
      const ssize_t got = ssl_ != nullptr ? SSL_read(ssl_.get(), buffer.data(), buffer.size())
                                          : recv(fd_.get(), buffer.data(), buffer.size(), 0);
      if (got <= 0) break;
      all.append(buffer.data(), static_cast<size_t>(got));
    }
    return all.substr(0, size);
  }

 private:
  struct Free {
    void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
    void operator()(SSL* ssl) const { SSL_free(ssl); }
  };
  OwnedFd fd_;
  std::unique_ptr<SSL_CTX, Free> context_;
  std::unique_ptr<SSL, Free> ssl_;
};

}  // namespace

absl::Status ProbeHealth(const Address& address, bool tls, uint64_t timeout_ms) {
  const Address reachable = Reachable(address);
  Client client;
  if (!client.Connect(reachable, timeout_ms)) return Unanswered(reachable, strerror(errno));
  if (tls && !client.StartTls()) return Unanswered(reachable, "the TLS handshake failed");
  if (!client.Write(kRequest)) return Unanswered(reachable, "the request could not be sent");
  const std::string line = client.Read(kStatusLineBytes);
  if (line.size() < kStatusLineBytes || !line.starts_with("HTTP/1.1 ")) {
    return Unanswered(reachable, "no HTTP response came in time");
  }
  const std::string status = line.substr(kStatusLineBytes - 3);
  if (status == "200") return absl::OkStatus();
  return absl::FailedPreconditionError(
      fmt::format("health at {}: not ready (HTTP {})", reachable.ToString(), status));
}

}  // namespace callout::host
