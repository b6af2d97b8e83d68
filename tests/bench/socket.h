// SPDX-License-Identifier: Apache-2.0

// A connection over TCP or a unix socket, with TLS or without, that never blocks once it is open.
// Both the load generator and the server on bare HTTP/2 use it, so they have the same costs.
#ifndef CALLOUT_TESTS_BENCH_SOCKET_H_
#define CALLOUT_TESTS_BENCH_SOCKET_H_

#include <openssl/ssl.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace callout::bench {

struct SslFree {
  void operator()(SSL* ssl) const { SSL_free(ssl); }
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};

struct Address {
  uint16_t port = 0;      // on 127.0.0.1
  std::string unix_path;  // in its place; "": none
};

class TlsContext {
 public:
  // A client that trusts any certificate, and offers h2.
  TlsContext();
  // A server that takes h2. Exits with a message if the files are not a key pair.
  TlsContext(const std::string& chain_path, const std::string& key_path);
  SSL_CTX* get() const { return context_.get(); }

 private:
  std::unique_ptr<SSL_CTX, SslFree> context_;
};

class Socket {
 public:
  // Connects and shakes hands; `tls` may be null. Exits with a
  // message if nobody listens, or if the server will not speak h2.
  Socket(const Address& address, const TlsContext* tls);
  // Takes over an accepted connection.
  Socket(int fd, const TlsContext* tls);
  ~Socket();
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  // Like read(2) and write(2), but -1 only if it would block, and 0 when the connection has ended,
  // for whatever reason.
  ssize_t Read(void* data, size_t size);
  ssize_t Write(const void* data, size_t size);
  // Whether there may be more after a Read() of `asked` bytes that returned `got`.
  bool MayHaveMore(ssize_t got, size_t asked) const {
    return ssl_ != nullptr || static_cast<size_t>(got) == asked;
  }

  int fd() const { return fd_; }

 private:
  ssize_t Result(ssize_t result);

  int fd_;
  std::unique_ptr<SSL, SslFree> ssl_;
};

// Prints `what` and exits with 1.
[[noreturn]] void Fail(const std::string& what);

}  // namespace callout::bench

#endif  // CALLOUT_TESTS_BENCH_SOCKET_H_
