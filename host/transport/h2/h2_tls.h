// SPDX-License-Identifier: Apache-2.0

// TLS for the nghttp2 transport: OpenSSL by the host's policy (host/net/tls_policy.h),
// ALPN h2, with the certificate that the store has at the time of each handshake.
//
// A H2TlsContexts belongs to one thread; functions keep no state.
//
// Tested by tests/host/transport/h2/h2_server_test.cc.
#ifndef CALLOUT_HOST_TRANSPORT_H2_H2_TLS_H_
#define CALLOUT_HOST_TRANSPORT_H2_H2_TLS_H_

#include <openssl/ssl.h>

#include <cstdint>
#include <memory>
#include <string>

#include "host/net/certificate_store.h"

namespace callout::host {

struct SslDeleter {
  void operator()(SSL* ssl) const { SSL_free(ssl); }
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};
using SslPtr = std::unique_ptr<SSL, SslDeleter>;
using SslContextPtr = std::unique_ptr<SSL_CTX, SslDeleter>;

class H2TlsContexts {
 public:
  // `store` outlives it.
  explicit H2TlsContexts(const CertificateStore* store) : store_(store) {}

  // The server's end of a new connection over `fd`, which stays the caller's.
  // Null if OpenSSL refuses, which its memory alone can be the reason for: the
  // store has checked what is in it.
  // `key_updates` counts those that the peer sends; it has to live as long. One call of SSL_read
  // takes at most those that OpenSSL had read ahead. After one, reading ahead is off until
  // TakeKeyUpdates.
  SslPtr Accept(int fd, uint64_t* key_updates);

 private:
  const CertificateStore* const store_;
  SslContextPtr context_;
  uint64_t version_ = 0;  // of the store's material that it is made of
};

// The KeyUpdates since the last call. `key_updates`: as given to Accept.
uint64_t TakeKeyUpdates(SSL* ssl, uint64_t* key_updates);

// The protocol that the client chose is HTTP/2.
bool HasChosenH2(const SSL* ssl);

// Who the client's certificate names: its first URI, else its first DNS name,
// else the common name. "" without a certificate.
std::string PeerIdentity(const SSL* ssl);

}  // namespace callout::host

#endif  // CALLOUT_HOST_TRANSPORT_H2_H2_TLS_H_
