// SPDX-License-Identifier: Apache-2.0

#include "host/transport/grpc/grpc_credentials.h"

#include <gmock/gmock.h>

#include <string>
#include <utility>

#include "grpc_fixture.h"
#include "host/transport/builtin_rpcs.h"
#include "tls_policy_checks.h"

namespace callout::host {
namespace {

TEST_F(GrpcTest, TlsTellsWhoTheClientIs) {
  std::string identity;
  std::string listener;
  AddPlugin()->process = [&](callout_call_t* call) {
    identity = Property(call, CALLOUT_PEER_IDENTITY);
    listener = Property(call, CALLOUT_LISTENER);
    return CALLOUT_OK;
  };
  OpenStore();
  StartServer();
  const std::pair<const char*, const char*> table[] = {
      {"DNS:a.test,URI:spiffe://test/b,URI:spiffe://test/c", "spiffe://test/b"},
      {"IP:127.0.0.1,DNS:d.test,DNS:e.test", "d.test"},
      {"", "by-common-name"},
  };
  for (const auto& [names, expected] : table) {
    Descriptor fd = Pair(true);
    ClientSsl ssl = Handshake(fd.get(), names, "h2");
    ASSERT_NE(ssl, nullptr);
    ClientEnd client(std::move(fd), std::move(ssl));
    const int32_t id = client.h2().Begin(kProcessPath);
    client.h2().Send(id, HeadersMessage(), true);
    ASSERT_TRUE(client.RunUntil([&] { return client.h2().rpc(id).closed; }));
    EXPECT_EQ(identity, expected);
    EXPECT_EQ(listener, "secure");
  }
}

TEST_F(GrpcTest, TlsIsByThePolicy) {
  OpenStore();
  StartServer();
  ExpectTlsPolicy([&] { return Pair(true); },
                  [&](SSL_CTX* context) { UseClientCertificate("", "h2", context); });
}

TEST_F(GrpcTest, TheNextHandshakeHasTheStoresNewCertificate) {
  OpenStore();
  StartServer();
  const auto served = [&] {
    const Descriptor fd = Pair(true);
    const ClientSsl ssl = Handshake(fd.get(), "", "h2");
    return ssl == nullptr ? "" : PemOf(SSL_get0_peer_certificate(ssl.get()));
  };
  const std::string before = served();
  EXPECT_EQ(before, served());
  WriteStoreFiles();
  store_->Reload();
  const std::string after = served();
  EXPECT_FALSE(after.empty());
  EXPECT_NE(before, after);
}

}  // namespace
}  // namespace callout::host
