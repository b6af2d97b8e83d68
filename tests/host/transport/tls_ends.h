// SPDX-License-Identifier: Apache-2.0

// Certificates for the server, and clients with certificates of the same CA.
//
// For one thread.
#ifndef CALLOUT_TESTS_HOST_TRANSPORT_TLS_ENDS_H_
#define CALLOUT_TESTS_HOST_TRANSPORT_TLS_ENDS_H_

#include <gtest/gtest.h>
#include <openssl/ssl.h>

#include <fstream>
#include <memory>
#include <string>
#include <utility>

#include "client_end.h"
#include "host/net/certificate_store.h"
#include "tests/host/pki.h"
#include "tests/host/sockets.h"

namespace callout::host {

class TlsEnds {
 protected:
  // Makes `store_`, with a certificate for the server, that asks clients for
  // certificates of the same CA.
  void OpenStore() {
    auto store = CertificateStore::Open(WriteStoreFiles());
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }

  // Puts another certificate for the server where the store looks.
  CertificateStore::Paths WriteStoreFiles() {
    const auto write = [&](const std::string& name, const std::string& text) {
      std::ofstream(dir_.Path(name)) << text;
      return dir_.Path(name);
    };
    const TestKey key = MakeEcKey();
    const TestCertificate certificate =
        MakeCertificate({.name = "localhost"}, key.get(), ca_.get(), ca_key_.get());
    return {write("chain.pem", PemOf(certificate.get())), write("key.pem", PemOf(key.get())),
            write("ca.pem", PemOf(ca_.get()))};
  }

  // With a certificate that has these names; null if the handshake fails.
  ClientSsl Handshake(int fd, const std::string& alternative_names, const std::string& alpn) {
    const ClientSslContext context(SSL_CTX_new(TLS_client_method()));
    UseClientCertificate(alternative_names, alpn, context.get());
    ClientSsl ssl(SSL_new(context.get()));
    SSL_set_fd(ssl.get(), fd);
    return SSL_connect(ssl.get()) == 1 ? std::move(ssl) : nullptr;
  }

  // A certificate that has these names, and the protocol to ask for; "": none.
  void UseClientCertificate(const std::string& alternative_names, const std::string& alpn,
                            SSL_CTX* context) {
    const TestKey key = MakeEcKey();
    const TestCertificate certificate =
        MakeCertificate({.name = "by-common-name", .alt_names = alternative_names}, key.get(),
                        ca_.get(), ca_key_.get());
    SSL_CTX_use_certificate(context, certificate.get());
    SSL_CTX_use_PrivateKey(context, key.get());
    const std::string protocols = static_cast<char>(alpn.size()) + alpn;
    if (!alpn.empty()) {
      SSL_CTX_set_alpn_protos(context, reinterpret_cast<const unsigned char*>(protocols.data()),
                              static_cast<unsigned>(protocols.size()));
    }
  }

  TempDir dir_;
  const TestKey ca_key_ = MakeEcKey();
  const TestCertificate ca_ =
      MakeCertificate({.name = "CA", .is_ca = true}, ca_key_.get(), nullptr, nullptr);
  std::unique_ptr<CertificateStore> store_;
};

}  // namespace callout::host

#endif  // CALLOUT_TESTS_HOST_TRANSPORT_TLS_ENDS_H_
