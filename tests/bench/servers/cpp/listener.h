// SPDX-License-Identifier: Apache-2.0

// The listening socket of the servers on bare HTTP/2.
#ifndef CALLOUT_TESTS_BENCH_SERVERS_CPP_LISTENER_H_
#define CALLOUT_TESTS_BENCH_SERVERS_CPP_LISTENER_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "server_options.h"

namespace callout::bench {

inline void BindAndListen(int fd, sockaddr* address, socklen_t size) {
  if (bind(fd, address, size) != 0 || listen(fd, 1024) != 0) {
    Fail(std::string("listening: ") + strerror(errno));
  }
}

inline int ListenOnUnixSocket(const std::string& path) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) Fail(path + " is too long for a socket's path");
  memcpy(address.sun_path, path.data(), path.size());
  BindAndListen(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address));
  return fd;
}

inline int ListenOnPort(int port, int* bound_port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  BindAndListen(fd, reinterpret_cast<sockaddr*>(&address), size);
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  *bound_port = ntohs(address.sin_port);
  return fd;
}

// Listens and says so. Exits with a message if that fails.
inline int Listen(const ServerOptions& options) {
  int port = 0;
  const int fd = options.unix_path.empty() ? ListenOnPort(options.port, &port)
                                           : ListenOnUnixSocket(options.unix_path);
  SayListening(port);
  return fd;
}

}  // namespace callout::bench

#endif  // CALLOUT_TESTS_BENCH_SERVERS_CPP_LISTENER_H_
