// SPDX-License-Identifier: Apache-2.0

#include "host/net/tls_policy.h"

#include <gtest/gtest.h>
#include <openssl/bio.h>

#include <boost/asio/ssl/context.hpp>
#include <memory>
#include <string>

#include "host/net/tls_context.h"
#include "tests/host/openssl_free.h"
#include "tests/host/pki.h"

namespace callout::host {
namespace {

using Ssl = std::unique_ptr<SSL, OpensslFree>;
using SslContext = std::unique_ptr<SSL_CTX, OpensslFree>;

// Both ends of a connection in memory.
class TlsPolicyTest : public testing::Test {
 protected:
  TlsPolicyTest() {
    const TestKey key = MakeEcKey();
    const TestCertificate certificate = MakeCertificate({}, key.get(), nullptr, nullptr);
    absl::StatusOr<TlsContext> context = MakeTlsContext(PemOf(certificate.get()), PemOf(key.get()));
    EXPECT_TRUE(context.ok()) << context.status();
    server_context_ = *std::move(context);
  }

  // The version is the least and the most that the client takes. Whether the
  // handshake came to an end.
  bool Connect(int version, const char* ciphers = "ALL") {
    SSL_CTX_set_security_level(client_context_.get(), 0);
    SSL_CTX_set_min_proto_version(client_context_.get(), version);
    SSL_CTX_set_max_proto_version(client_context_.get(), version);
    SSL_CTX_set_cipher_list(client_context_.get(), ciphers);
    client_.reset(SSL_new(client_context_.get()));
    server_.reset(SSL_new(server_context_->native_handle()));
    BIO* ends[2];
    BIO_new_bio_pair(&ends[0], 0, &ends[1], 0);
    SSL_set_bio(client_.get(), ends[0], ends[0]);
    SSL_set_bio(server_.get(), ends[1], ends[1]);
    SSL_set_connect_state(client_.get());
    SSL_set_accept_state(server_.get());
    for (int i = 0; i < 10; ++i) {
      SSL_do_handshake(client_.get());
      SSL_do_handshake(server_.get());
    }
    char byte;
    SSL_read(client_.get(), &byte, 1);  // takes tickets, if any come
    return SSL_is_init_finished(client_.get()) && SSL_is_init_finished(server_.get());
  }

  TlsContext server_context_;
  const SslContext client_context_{SSL_CTX_new(TLS_client_method())};
  Ssl client_, server_;
};

TEST_F(TlsPolicyTest, TakesTls12And13Only) {
  EXPECT_FALSE(Connect(TLS1_VERSION, "ALL:@SECLEVEL=0"));
  EXPECT_FALSE(Connect(TLS1_1_VERSION, "ALL:@SECLEVEL=0"));
  EXPECT_TRUE(Connect(TLS1_2_VERSION));
  EXPECT_TRUE(Connect(TLS1_3_VERSION));
}

TEST_F(TlsPolicyTest, TakesOnlyItsSuitesOfTls12) {
  EXPECT_TRUE(Connect(TLS1_2_VERSION, kTlsCiphers));
  EXPECT_FALSE(Connect(TLS1_2_VERSION, "ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-CCM"));
}

TEST_F(TlsPolicyTest, LeavesAClientNothingToResume) {
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    ASSERT_TRUE(Connect(version));
    const std::unique_ptr<SSL_SESSION, OpensslFree> session(SSL_get1_session(client_.get()));
    EXPECT_EQ(SSL_SESSION_has_ticket(session.get()), 0);
  }
}

TEST_F(TlsPolicyTest, NeverRenegotiates) {
  ASSERT_TRUE(Connect(TLS1_2_VERSION));
  SSL_renegotiate(client_.get());
  for (int i = 0; i < 10; ++i) {
    char byte;
    SSL_do_handshake(client_.get());
    SSL_read(server_.get(), &byte, 1);
  }
  EXPECT_FALSE(SSL_is_init_finished(client_.get()));
}

}  // namespace
}  // namespace callout::host
