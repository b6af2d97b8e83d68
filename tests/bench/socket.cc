// SPDX-License-Identifier: Apache-2.0

#include "socket.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace callout::bench {
namespace {

constexpr unsigned char kProtocols[] = {2, 'h', '2'};

int TakeH2(SSL*, const unsigned char** out, unsigned char* out_size, const unsigned char* offered,
           unsigned offered_size, void*) {
  const int result = SSL_select_next_proto(const_cast<unsigned char**>(out), out_size, kProtocols,
                                           sizeof(kProtocols), offered, offered_size);
  return result == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

int ConnectTo(const sockaddr* address, socklen_t size, const std::string& name) {
  const int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(fd, address, size) != 0) Fail("connecting to " + name + ": " + strerror(errno));
  return fd;
}

int Connect(const Address& to) {
  if (to.unix_path.empty()) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(to.port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return ConnectTo(reinterpret_cast<sockaddr*>(&address), sizeof(address),
                     "port " + std::to_string(to.port));
  }
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (to.unix_path.size() >= sizeof(address.sun_path)) Fail(to.unix_path + " is too long a path");
  memcpy(address.sun_path, to.unix_path.data(), to.unix_path.size());
  return ConnectTo(reinterpret_cast<sockaddr*>(&address), sizeof(address), to.unix_path);
}

// OpenSSL writes without MSG_NOSIGNAL.
void IgnoreBrokenPipes() { signal(SIGPIPE, SIG_IGN); }

void SetOptions(int fd) {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));  // a unix socket has none
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

}  // namespace

void Fail(const std::string& what) {
  fprintf(stderr, "%s\n", what.c_str());
  exit(1);
}

TlsContext::TlsContext() : context_(SSL_CTX_new(TLS_client_method())) {
  IgnoreBrokenPipes();
  SSL_CTX_set_alpn_protos(context_.get(), kProtocols, sizeof(kProtocols));
}

TlsContext::TlsContext(const std::string& chain_path, const std::string& key_path)
    : context_(SSL_CTX_new(TLS_server_method())) {
  IgnoreBrokenPipes();
  if (SSL_CTX_use_certificate_chain_file(context_.get(), chain_path.c_str()) != 1 ||
      SSL_CTX_use_PrivateKey_file(context_.get(), key_path.c_str(), SSL_FILETYPE_PEM) != 1) {
    Fail(chain_path + " and " + key_path + " are no key pair");
  }
  SSL_CTX_set_alpn_select_cb(context_.get(), &TakeH2, nullptr);
  // Output buffers move between attempts to write.
  SSL_CTX_set_mode(context_.get(),
                   SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
}

Socket::Socket(const Address& address, const TlsContext* tls) : fd_(Connect(address)) {
  if (tls != nullptr) {
    ssl_.reset(SSL_new(tls->get()));
    SSL_set_fd(ssl_.get(), fd_);
    SSL_set_mode(ssl_.get(), SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (SSL_connect(ssl_.get()) != 1) Fail("the TLS handshake failed");
    const unsigned char* protocol = nullptr;
    unsigned size = 0;
    SSL_get0_alpn_selected(ssl_.get(), &protocol, &size);
    if (size != 2) Fail("the server does not take h2");
  }
  SetOptions(fd_);
}

Socket::Socket(int fd, const TlsContext* tls) : fd_(fd) {
  if (tls != nullptr) {
    ssl_.reset(SSL_new(tls->get()));
    SSL_set_fd(ssl_.get(), fd_);
    SSL_set_accept_state(ssl_.get());
  }
  SetOptions(fd_);
}

Socket::~Socket() { close(fd_); }

ssize_t Socket::Read(void* data, size_t size) {
  if (ssl_ != nullptr) {
    ERR_clear_error();
    return Result(SSL_read(ssl_.get(), data, static_cast<int>(size)));
  }
  const ssize_t got = read(fd_, data, size);
  return got < 0 && errno != EAGAIN ? 0 : got;
}

ssize_t Socket::Write(const void* data, size_t size) {
  if (ssl_ != nullptr) {
    ERR_clear_error();
    return Result(SSL_write(ssl_.get(), data, static_cast<int>(size)));
  }
  const ssize_t sent = send(fd_, data, size, MSG_NOSIGNAL);
  return sent < 0 && errno != EAGAIN ? 0 : sent;
}

// What SSL_get_error says depends on the thread's queue of errors, so what another connection has
// left there is cleared before each call.
ssize_t Socket::Result(ssize_t result) {
  if (result > 0) return result;
  const int error = SSL_get_error(ssl_.get(), static_cast<int>(result));
  return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? -1 : 0;
}

}  // namespace callout::bench
