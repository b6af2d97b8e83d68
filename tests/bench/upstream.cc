// SPDX-License-Identifier: Apache-2.0

// The server behind Envoy in the cells of early ends: HTTP/1.1, as cheap as it gets, so that what
// is measured is Envoy and the host. Requests for /hold get no response. It reads what Envoy
// writes: names in lower case, and bodies without an empty line.
//
//   bench-upstream      prints "listening PORT", and serves until it is killed
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <string_view>

namespace {

constexpr std::string_view kEnd = "\r\n\r\n";
constexpr std::string_view kResponse =
    "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok";
constexpr std::string_view kHold = "GET /hold ";

int Listen() {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  if (fd < 0 || bind(fd, generic, size) != 0 || listen(fd, SOMAXCONN) != 0 ||
      getsockname(fd, generic, &size) != 0) {
    perror("bench-upstream");
    return -1;
  }
  printf("listening %d\n", ntohs(address.sin_port));
  fflush(stdout);
  return fd;
}

// Of the first request in `bytes`, with its body; npos: it has not come as a whole.
size_t RequestSize(const std::string& bytes) {
  const size_t head = bytes.find(kEnd);
  if (head == std::string::npos) return head;
  const size_t body = head + kEnd.size();
  const auto value = [&](std::string_view name) {
    const size_t found = std::string_view(bytes).substr(0, head).find(name);
    return found == std::string::npos ? nullptr : bytes.data() + found + name.size();
  };
  if (value("\r\ntransfer-encoding: chunked") != nullptr) {
    const size_t last = bytes.find(kEnd, body);  // after the 0 of the last chunk
    return last == std::string::npos ? last : last + kEnd.size();
  }
  const char* const length = value("\r\ncontent-length: ");
  const size_t size = body + (length == nullptr ? 0 : strtoul(length, nullptr, 10));
  return size <= bytes.size() ? size : std::string::npos;
}

// Answers what is whole in `bytes`; false if the connection is gone.
bool Answer(int fd, std::string* bytes) {
  for (size_t size; (size = RequestSize(*bytes)) != std::string::npos;) {
    const bool holds = bytes->starts_with(kHold);
    bytes->erase(0, size);
    if (!holds && send(fd, kResponse.data(), kResponse.size(), MSG_NOSIGNAL) < 0) return false;
  }
  return true;
}

bool Read(int fd, std::string* bytes) {
  char buffer[16384];
  const ssize_t size = recv(fd, buffer, sizeof(buffer), 0);
  if (size <= 0) return false;
  bytes->append(buffer, static_cast<size_t>(size));
  return Answer(fd, bytes);
}

}  // namespace

int main() {
  rlimit files = {};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  const int listener = Listen();
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  if (listener < 0 || epoll < 0) return 1;
  const auto add = [epoll](int fd) {
    epoll_event event = {};
    event.events = EPOLLIN;
    event.data.fd = fd;
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
  };
  add(listener);
  std::map<int, std::string> connections;  // what has come of each one's next request
  for (;;) {
    epoll_event events[64];
    const int count = epoll_wait(epoll, events, 64, -1);
    for (int i = 0; i < count; ++i) {
      const int fd = events[i].data.fd;
      if (fd == listener) {
        if (const int accepted = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC); accepted >= 0) {
          connections[accepted];
          add(accepted);
        }
      } else if (!Read(fd, &connections[fd])) {
        connections.erase(fd);
        close(fd);
      }
    }
  }
}
