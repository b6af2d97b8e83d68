// SPDX-License-Identifier: Apache-2.0

// Who has connected, as plugins see it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "certificates.h"
#include "ext_proc_client.h"
#include "host/net/listener.h"
#include "test_host.h"
#include "tests/host/sockets.h"

namespace callout::tests {
namespace {

using ::testing::MatchesRegex;

// The headers that plugins/show_peer.cc has set.
std::map<std::string, std::string> Shown(const ChannelPtr& channel) {
  LiveStream stream(channel);
  const auto answer = stream.Exchange(RequestHeaders({{":path", "/"}}));
  EXPECT_TRUE(answer.has_value());
  std::map<std::string, std::string> shown;
  if (!answer.has_value()) return shown;
  const auto& mutation = answer->request_headers().response().header_mutation();
  for (const auto& set : mutation.set_headers()) {
    shown[set.header().key()] = set.header().raw_value();
  }
  EXPECT_TRUE(stream.Finish().ok());
  return shown;
}

class Peer : public ::testing::Test {
 protected:
  std::vector<std::string> Options(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> options = files_.Options();
    options.push_back("--plugin=" + BuiltFile("tests/integration/show_peer.so"));
    options.insert(options.end(), more.begin(), more.end());
    return options;
  }

  host::TempDir dir_;
  TestCa ca_{"test CA"};
  PairFiles files_{dir_, ca_.Issue("localhost")};
};

TEST_F(Peer, IsTheUriElseTheDnsNameElseTheCommonNameOfTheClientsCertificate) {
  struct Case {
    host::CertificateSpec spec;
    std::string identity;
  };
  const std::vector<Case> table = {
      {{.name = "envoy", .alt_names = "URI:spiffe://mesh/envoy"}, "spiffe://mesh/envoy"},
      {{.name = "envoy", .alt_names = "DNS:envoy.example,URI:spiffe://mesh/envoy"},
       "spiffe://mesh/envoy"},
      {{.name = "envoy", .alt_names = "URI:spiffe://mesh/a,URI:spiffe://mesh/b"},
       "spiffe://mesh/a"},
      {{.name = "envoy", .alt_names = "DNS:envoy.example"}, "envoy.example"},
      {{.name = "envoy", .alt_names = "DNS:a.example,DNS:b.example"}, "a.example"},
      {{.name = "envoy", .alt_names = "IP:10.0.0.7"}, "envoy"},
      {{.name = "envoy"}, "envoy"},
  };
  const TestCa client_ca("client CA");
  WriteFile(dir_.Path("clients.pem"), client_ca.pem());
  TestHost host(Options({"--client_ca_path=" + dir_.Path("clients.pem")}));
  for (const Case& row : table) {
    const PemPair client = client_ca.Issue(row.spec);
    const auto shown =
        Shown(TlsChannel(host.address("secure"), {ca_.pem(), client.cert_pem, client.key_pem}));
    ASSERT_TRUE(shown.contains("x-identity"));
    EXPECT_EQ(shown.at("x-identity"), row.identity) << row.spec.alt_names;
    EXPECT_EQ(shown.at("x-listener"), "secure");
  }
}

// What a client shows unasked has not been verified.
TEST_F(Peer, HasNoIdentityWithoutAVerifiedCertificate) {
  TestHost host(Options());
  const PemPair client = TestCa("stranger").Issue("admin");
  for (const ClientTls& tls :
       {ClientTls{ca_.pem(), "", ""}, ClientTls{ca_.pem(), client.cert_pem, client.key_pem}}) {
    const auto shown = Shown(TlsChannel(host.address("secure"), tls));
    ASSERT_TRUE(shown.contains("x-identity"));
    EXPECT_EQ(shown.at("x-identity"), "not found");
    EXPECT_EQ(shown.at("x-listener"), "secure");
  }
}

TEST_F(Peer, IsAnAddressOnEveryListener) {
  TestHost host(Options());
  const auto plaintext = Shown(PlaintextChannel(host.address("plaintext")));
  ASSERT_TRUE(plaintext.contains("x-peer"));
  EXPECT_EQ(plaintext.at("x-identity"), "not found");
  EXPECT_EQ(plaintext.at("x-listener"), "plaintext");
  EXPECT_THAT(plaintext.at("x-peer"), MatchesRegex("ipv4:127\\.0\\.0\\.1:[0-9]+"));
  const auto secure = Shown(TlsChannel(host.address("secure"), {ca_.pem(), "", ""}));
  ASSERT_TRUE(secure.contains("x-peer"));
  EXPECT_THAT(secure.at("x-peer"), MatchesRegex("ipv4:127\\.0\\.0\\.1:[0-9]+"));
}

TEST_F(Peer, OfIPv6HasItsAddressInBrackets) {
  if (!host::ListenSocket::Open(host::ParsedAddress("[::1]:0")).ok()) {
    GTEST_SKIP() << "this machine has no IPv6";
  }
  TestHost host(Options({"--plaintext_address=[::1]:0"}));
  const auto shown = Shown(PlaintextChannel(host.address("plaintext")));
  ASSERT_TRUE(shown.contains("x-peer"));
  EXPECT_THAT(shown.at("x-peer"), MatchesRegex("ipv6:\\[::1\\]:[0-9]+"));
}

TEST_F(Peer, OfAUnixSocketIsNamedSo) {
  TestHost host(Options({"--plaintext_address=unix:" + dir_.Path("s")}));
  const auto shown = Shown(PlaintextChannel("unix:" + dir_.Path("s")));
  ASSERT_TRUE(shown.contains("x-peer"));
  EXPECT_THAT(shown.at("x-peer"), MatchesRegex("unix:.*"));
  EXPECT_EQ(shown.at("x-listener"), "plaintext");
}

}  // namespace
}  // namespace callout::tests
