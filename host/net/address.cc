// SPDX-License-Identifier: Apache-2.0

#include "host/net/address.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <charconv>
#include <cstddef>
#include <cstring>
#include <optional>

#include "absl/status/status.h"

namespace callout::host {
namespace {

constexpr std::string_view kUnixPrefix = "unix:";

template <class Sockaddr>
Address MakeAddress(const Sockaddr& from, size_t size = sizeof(Sockaddr)) {
  Address address;
  std::memcpy(&address.storage, &from, sizeof(Sockaddr));
  address.size = static_cast<socklen_t>(size);
  return address;
}

template <class Sockaddr>
Sockaddr CopyAs(const Address& address) {
  Sockaddr to;
  std::memcpy(&to, &address.storage, sizeof(to));
  return to;
}

absl::Status Malformed(std::string_view text, const std::string& found) {
  return absl::InvalidArgumentError(
      fmt::format("address '{}': {}; expected IPV4:PORT, [IPV6]:PORT, localhost:PORT or unix:PATH",
                  text, found));
}

absl::StatusOr<Address> ParseUnix(std::string_view text) {
  std::string_view path = text.substr(kUnixPrefix.size());
  // unix:///path, as in gRPC's names. More slashes lead to the same file.
  while (path.starts_with("//")) path.remove_prefix(1);
  if (path.empty()) return Malformed(text, "no path after unix:");
  if (path.size() > kUnixPathBytesMax) {
    return Malformed(text,
                     fmt::format("the path has {} bytes, and that of a unix socket at most {}",
                                 path.size(), kUnixPathBytesMax));
  }
  if (path.find('\0') != std::string_view::npos) return Malformed(text, "the path contains a NUL");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, path.size());
  return MakeAddress(address, offsetof(sockaddr_un, sun_path) + path.size() + 1);
}

// "::ffff:1.2.3.4" is how a dual socket sees the IPv4 client 1.2.3.4.
std::optional<in_addr> MappedIpv4(const in6_addr& address) {
  if (!IN6_IS_ADDR_V4MAPPED(&address)) return std::nullopt;
  in_addr ipv4;
  std::memcpy(&ipv4, &address.s6_addr[12], sizeof(ipv4));
  return ipv4;
}

std::string FormatIpv4(const in_addr& address, uint16_t port) {
  char text[INET_ADDRSTRLEN] = "";
  inet_ntop(AF_INET, &address, text, sizeof(text));
  return fmt::format("{}:{}", text, port);
}

std::string FormatIpv6(const in6_addr& address, uint16_t port) {
  char text[INET6_ADDRSTRLEN] = "";
  inet_ntop(AF_INET6, &address, text, sizeof(text));
  return fmt::format("[{}]:{}", text, port);
}

}  // namespace

std::optional<uint16_t> ParsePort(std::string_view text) {
  uint16_t port = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, port);
  if (error != std::errc() || stop != end) return std::nullopt;
  return port;
}

absl::StatusOr<Address> ParseAddress(std::string_view text) {
  if (text.starts_with(kUnixPrefix)) return ParseUnix(text);
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return Malformed(text, "no port");
  std::string host(text.substr(0, colon));
  const std::string_view port_text = text.substr(colon + 1);

  const bool bracketed = host.size() >= 2 && host.front() == '[' && host.back() == ']';
  if (!bracketed && host.find(':') != std::string::npos) {
    return Malformed(text, "an IPv6 address without brackets, or an IPv6 address without a port");
  }
  const std::optional<uint16_t> port = ParsePort(port_text);
  if (!port.has_value()) {
    return Malformed(text, fmt::format("the port '{}' is not a number from 0 to 65535", port_text));
  }
  if (host.empty()) {
    return Malformed(text, fmt::format("no IP address; 0.0.0.0:{0} is every IPv4 address, "
                                       "[::]:{0} every address",
                                       *port));
  }
  if (bracketed) {
    host = host.substr(1, host.size() - 2);
    sockaddr_in6 address{};
    address.sin6_family = AF_INET6;
    address.sin6_port = htons(*port);
    if (inet_pton(AF_INET6, host.c_str(), &address.sin6_addr) != 1) {
      return Malformed(text, fmt::format("'{}' is not an IPv6 address", host));
    }
    return MakeAddress(address);
  }
  if (host == "localhost") host = "127.0.0.1";
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(*port);
  if (inet_pton(AF_INET, host.c_str(), &address.sin_addr) != 1) {
    return Malformed(text, fmt::format("'{}' is not an IPv4 address, and names other than "
                                       "localhost are not looked up",
                                       host));
  }
  return MakeAddress(address);
}

uint16_t Address::port() const {
  switch (family()) {
    case AF_INET:
      return ntohs(CopyAs<sockaddr_in>(*this).sin_port);
    case AF_INET6:
      return ntohs(CopyAs<sockaddr_in6>(*this).sin6_port);
    default:
      return 0;
  }
}

std::string Address::unix_path() const {
  constexpr size_t kPathOffset = offsetof(sockaddr_un, sun_path);
  if (family() != AF_UNIX || size <= kPathOffset) return "";
  const sockaddr_un address = CopyAs<sockaddr_un>(*this);
  return std::string(address.sun_path, strnlen(address.sun_path, size - kPathOffset));
}

bool Address::IsLoopback() const {
  if (family() == AF_UNIX) return true;
  if (family() == AF_INET) {
    const auto* ipv4 = reinterpret_cast<const sockaddr_in*>(&storage);
    return ntohl(ipv4->sin_addr.s_addr) >> 24 == 127;
  }
  return IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<const sockaddr_in6*>(&storage)->sin6_addr) != 0;
}

std::string Address::ToString() const {
  switch (family()) {
    case AF_INET:
      return FormatIpv4(CopyAs<sockaddr_in>(*this).sin_addr, port());
    case AF_INET6:
      return FormatIpv6(CopyAs<sockaddr_in6>(*this).sin6_addr, port());
    default:
      return std::string(kUnixPrefix) + unix_path();
  }
}

std::string PeerText(int fd) {
  Address peer;
  peer.size = sizeof(peer.storage);
  if (getpeername(fd, peer.get(), &peer.size) != 0) return "unknown";
  switch (peer.family()) {
    case AF_INET:
      return "ipv4:" + peer.ToString();
    case AF_INET6:
      if (const auto ipv4 = MappedIpv4(CopyAs<sockaddr_in6>(peer).sin6_addr)) {
        return "ipv4:" + FormatIpv4(*ipv4, peer.port());
      }
      return "ipv6:" + peer.ToString();
    default:
      return peer.ToString();
  }
}

}  // namespace callout::host
