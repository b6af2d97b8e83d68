// SPDX-License-Identifier: Apache-2.0

// The client's end of a connection to a server with sockets, in cleartext or in TLS,
// and what tests of TLS need beside it.
//
// For one thread.
#ifndef CALLOUT_TESTS_HOST_TRANSPORT_CLIENT_END_H_
#define CALLOUT_TESTS_HOST_TRANSPORT_CLIENT_END_H_

#include <gtest/gtest.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "h2_client.h"
#include "tests/host/openssl_free.h"
#include "tests/host/sockets.h"

namespace callout::host {

using ClientSsl = std::unique_ptr<SSL, OpensslFree>;
using ClientSslContext = std::unique_ptr<SSL_CTX, OpensslFree>;

// The client's end of a connection, in cleartext or in TLS.
class ClientEnd {
 public:
  explicit ClientEnd(Descriptor fd, ClientSsl ssl = nullptr)
      : fd_(std::move(fd)), ssl_(std::move(ssl)) {}

  H2Client& h2() { return h2_; }

  // Exchanges bytes until `done`, or until the server closes; true if done.
  bool RunUntil(const std::function<bool()>& done) {
    while (!done()) {
      Send(h2_.TakeBytes());
      if (done()) return true;
      char buffer[16384];
      const ptrdiff_t size = Receive(buffer, sizeof(buffer));
      if (size <= 0) return done();
      EXPECT_TRUE(h2_.Give({buffer, static_cast<size_t>(size)}));
    }
    return true;
  }
  bool RunUntilClosed() {
    return !RunUntil([] { return false; });
  }

 private:
  void Send(const std::string& bytes) {
    if (ssl_ == nullptr) {
      (void)Write(fd_.get(), bytes);
    } else if (!bytes.empty()) {
      (void)SSL_write(ssl_.get(), bytes.data(), static_cast<int>(bytes.size()));
    }
  }
  ptrdiff_t Receive(char* buffer, size_t size) {
    if (ssl_ != nullptr) return SSL_read(ssl_.get(), buffer, static_cast<int>(size));
    if (!WaitReadable(fd_.get())) {
      ADD_FAILURE() << "the server neither answers nor closes";
      return -1;
    }
    return recv(fd_.get(), buffer, size, 0);
  }

  Descriptor fd_;
  ClientSsl ssl_;
  H2Client h2_;
};

}  // namespace callout::host

#endif  // CALLOUT_TESTS_HOST_TRANSPORT_CLIENT_END_H_
