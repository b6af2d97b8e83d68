// SPDX-License-Identifier: Apache-2.0

// Socket addresses in the form of the host's options and logs.
//
//   1.2.3.4:80      IPv4 only; 0.0.0.0 is every IPv4 address of the machine
//   [::1]:80        IPv6; [::] is every address, IPv6 and IPv4
//   localhost:80    the same as 127.0.0.1:80
//   unix:/path      a unix socket; unix:relative/path and unix:///path as well
//
// Port 0 is any free port. Other names are refused, not looked up: a listener
// must mean the same addresses at every start. ":80" is refused, too, since
// programs disagree whether it means IPv4 only or every address.
//
// Stateless functions; any thread.
#ifndef CALLOUT_HOST_NET_ADDRESS_H_
#define CALLOUT_HOST_NET_ADDRESS_H_

#include <sys/socket.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace callout::host {

struct Address {
  sockaddr_storage storage{};
  socklen_t size = 0;

  int family() const { return storage.ss_family; }  // AF_INET, AF_INET6 or AF_UNIX
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }

  uint16_t port() const;          // 0 for a unix socket
  std::string unix_path() const;  // "" for IP addresses and unnamed sockets
  bool IsLoopback() const;        // 127.0.0.0/8, [::1], or a unix socket

  // As ParseAddress reads it: "127.0.0.1:80", "[::1]:80", "unix:/path".
  std::string ToString() const;
};

// The longest path of a unix socket, in bytes (sockaddr_un has 108 with the
// final NUL).
inline constexpr size_t kUnixPathBytesMax = 107;

// INVALID_ARGUMENT, saying what was found and what is expected.
absl::StatusOr<Address> ParseAddress(std::string_view text);

// Decimal digits only, from 0 to 65535.
std::optional<uint16_t> ParsePort(std::string_view text);

// The peer of a connected socket in the form of gRPC's peer(), but without
// percent-encoding: "ipv4:1.2.3.4:5", "ipv6:[::1]:5", "unix:/path", or "unix:" for
// an unnamed client. An IPv4 client of a [::] listener is "ipv4:…". "unknown" if
// the connection has been closed.
std::string PeerText(int fd);

}  // namespace callout::host

#endif  // CALLOUT_HOST_NET_ADDRESS_H_
