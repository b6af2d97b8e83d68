// SPDX-License-Identifier: Apache-2.0

// Calls to an upstream over TLS: whom it trusts, who it is, and what ALPN chooses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <future>
#include <string>

#include "host/upstream/client_tls.h"
#include "host/upstream/grpc_message.h"
#include "tests/host/notification.h"
#include "tests/host/pki.h"
#include "tests/host/upstream/upstream_fixture.h"

namespace callout::host {
namespace {

using ::testing::HasSubstr;
using Reply = TestService::Reply;
using Request = TestService::Request;

struct Authority {
  explicit Authority(const std::string& name)
      : certificate(MakeCertificate({.name = name, .is_ca = true}, key.get(), nullptr, nullptr)) {}
  TestKey key = MakeEcKey();
  TestCertificate certificate;

  std::pair<std::string, std::string> Issue(const CertificateSpec& spec) const {
    const TestKey own = MakeEcKey();
    const TestCertificate made = MakeCertificate(spec, own.get(), certificate.get(), key.get());
    return {PemOf(made.get()), PemOf(own.get())};
  }
};

class UpstreamTlsTest : public UpstreamFixture {
 protected:
  std::string Put(const std::string& name, const std::string& text) {
    std::ofstream(directory_.Path(name)) << text;
    return directory_.Path(name);
  }
  TestService::Options Server(const std::string& alt_names, bool http2 = false,
                              long valid_to_s = kDay) {
    const auto [chain, key] = ca_.Issue({.alt_names = alt_names, .valid_to_s = valid_to_s});
    return {.http2 = http2, .certificate = chain, .key = key};
  }
  // With `more` in "tls", and `keys` beside it.
  void MakeTls(const TestService& service, const std::string& more = "",
               const std::string& keys = "") {
    const std::string ca = Put("ca.pem", PemOf(ca_.certificate.get()));
    Make(service.url(), R"("max_retries": 0, "circuit_failures": 0, "timeout_ms": 30000,
                           "connect_timeout_ms": 30000, "tls": {"ca": ")" +
                            ca + "\"" + more + "}" + keys);
  }

  static UpstreamRequest Ask() {
    UpstreamRequest ask;
    ask.grpc = true;
    ask.method = "POST";
    ask.path = "/a.B/C";
    ask.body = FrameGrpcMessage("x");
    return ask;
  }

  const TempDir directory_;
  const Authority ca_{"a CA"};
};

Reply Ok(const Request&) { return Reply{.body = "x"}; }

TEST_F(UpstreamTlsTest, TakesWhatAlpnChooses) {
  for (const bool http2 : {false, true}) {
    TestService service(Server("DNS:localhost", http2), Ok);
    MakeTls(service);
    const UpstreamResult result = Call(Get());
    EXPECT_EQ(result.response.body, "x") << result.message;
    EXPECT_EQ(service.server_name(), "localhost");
  }
}

TEST_F(UpstreamTlsTest, RefusesACertificateThatItCannotTrust) {
  const auto message = [&](const TestService::Options& options, const std::string& more = "") {
    TestService service(options, Ok);
    MakeTls(service, more);
    const UpstreamResult result = Call(Get());
    EXPECT_EQ(result.status, CALLOUT_UNAVAILABLE);
    EXPECT_EQ(service.requests(), 0);
    return result.message;
  };
  EXPECT_THAT(message(Server("DNS:other.example")), HasSubstr("TLS handshake"));
  EXPECT_THAT(message(Server("DNS:localhost", false, -60)), HasSubstr("expired"));
  const Authority other("another CA");
  const auto [chain, key] = other.Issue({.alt_names = "DNS:localhost"});
  EXPECT_THAT(message({.certificate = chain, .key = key}), HasSubstr("issuer"));
  EXPECT_THAT(message(Server("DNS:localhost"), R"(, "server_name": "idp.example")"),
              HasSubstr("TLS handshake"));
}

TEST_F(UpstreamTlsTest, ChecksTheNameThatTheConfigurationSays) {
  TestService service(Server("DNS:idp.example"), Ok);
  MakeTls(service, R"(, "server_name": "idp.example")");
  const UpstreamResult result = Call(Get());
  EXPECT_EQ(result.response.body, "x") << result.message;
  EXPECT_EQ(service.server_name(), "idp.example");
}

TEST_F(UpstreamTlsTest, VerifiesNothingIfTheConfigurationSaysSo) {
  TestService service(Server("DNS:other.example"), Ok);
  Make(service.url(), R"("tls": {"verify": false})");
  EXPECT_EQ(Call(Get()).response.body, "x");
}

TEST_F(UpstreamTlsTest, HasACertificateOfItsOwn) {
  TestService::Options options = Server("DNS:localhost");
  options.client_ca = PemOf(ca_.certificate.get());
  TestService service(options, Ok);
  MakeTls(service);
  EXPECT_NE(Call(Get()).status, CALLOUT_OK);
  const auto [chain, key] = ca_.Issue({.name = "a client"});
  MakeTls(service, fmt::format(R"(, "certificate": "{}", "key": "{}")", Put("c.pem", chain),
                               Put("k.pem", key)));
  const UpstreamResult result = Call(Get());
  EXPECT_EQ(result.response.body, "x") << result.message;
}

TEST_F(UpstreamTlsTest, ReadsChangedFilesForNewConnections) {
  TestService service(Server("DNS:localhost"), [](const Request&) {
    return Reply{.act = TestService::Act::kRespondAndClose, .body = "x"};
  });
  MakeTls(service);
  EXPECT_EQ(Call(Get()).response.body, "x");
  // Invalid files change nothing.
  Put("ca.pem", "not PEM");
  UpstreamResult again = Call(Get());
  // The end of the old connection may not have been read yet.
  if (again.status != CALLOUT_OK) again = Call(Get());
  EXPECT_EQ(again.response.body, "x") << again.message;
  const Authority other("another CA");
  Put("ca.pem", PemOf(other.certificate.get()));
  EXPECT_EQ(Call(Get()).status, CALLOUT_UNAVAILABLE);
}

TEST_F(UpstreamTlsTest, NeedsHttp2ForGrpc) {
  TestService service(Server("DNS:localhost"), Ok);
  MakeTls(service);
  const UpstreamResult result = Call(Ask());
  EXPECT_EQ(result.status, CALLOUT_DATA_LOSS);
  EXPECT_THAT(result.message, HasSubstr("gRPC needs HTTP/2"));
  MakeTls(service, "", R"(, "protocol": "http2")");
  EXPECT_THAT(Call(Ask()).message, HasSubstr("does not offer HTTP/2"));
}

// Else each call waited for its deadline, and those behind it, too.
TEST_F(UpstreamTlsTest, CallsThatNeedHttp2HoldUpNoOthers) {
  TestService service(Server("DNS:localhost"), [](const Request& request) {
    return Reply{.body = std::to_string(request.connection)};
  });
  Make(service.url(), R"("max_retries": 0, "circuit_failures": 2, "timeout_ms": 30000,
                         "max_connections": 1, "tls": {"ca": ")" +
                          Put("ca.pem", PemOf(ca_.certificate.get())) + "\"}");
  for (int i = 0; i < 4; ++i) {
    std::future<UpstreamResult> first = Begin(Ask());
    std::future<UpstreamResult> second = Begin(Get());
    EXPECT_THAT(first.get().message, HasSubstr("gRPC needs HTTP/2"));
    EXPECT_EQ(second.get().response.body, "1") << "the only connection";
  }
}

// The one that is being opened may turn out to be of HTTP/2. The idle one serves all others.
TEST_F(UpstreamTlsTest, ACallThatNeedsHttp2HoldsUpNoOthersWhileAConnectionIsBeingOpened) {
  Notification respond, shut;
  TestService::Options options = Server("DNS:localhost");
  options.admits = [&](int connection) {
    if (connection == 2) shut.WaitForNotification();
    return connection != 2;
  };
  TestService service(options, [&](const Request& request) {
    if (request.path == "/held") respond.WaitForNotification();
    return Reply{.body = "x"};
  });
  MakeTls(service, "", R"(, "max_connections": 2)");
  std::future<UpstreamResult> held = Begin(Get("/held"));
  EXPECT_TRUE(service.AwaitRequests(1));
  std::future<UpstreamResult> waiting = Begin(Get());
  EXPECT_TRUE(service.AwaitOpen(2)) << "the second is opened for the call that waits";
  respond.Notify();
  EXPECT_EQ(held.get().response.body, "x");
  EXPECT_EQ(waiting.get().response.body, "x");
  std::future<UpstreamResult> grpc = Begin(Ask());
  const UpstreamResult other = Call(Get());
  EXPECT_EQ(other.response.body, "x") << other.message;
  // It ends with the connection that it waits for, not at its deadline.
  shut.Notify();
  EXPECT_THAT(grpc.get().message, HasSubstr("gRPC needs HTTP/2"));
}

TEST_F(UpstreamTlsTest, OpensNoConnectionForACallThatNeedsHttp2WhereTheServerHasChosenHttp1) {
  TestService service(Server("DNS:localhost"), Ok);
  MakeTls(service);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(Call(Ask()).status, CALLOUT_DATA_LOSS);
  EXPECT_THAT(metrics_.Text(), HasSubstr("callout_upstream_connections{upstream=\"service\"} 1\n"));
}

// Nothing was sent: that says something of the plugin, and nothing of the service.
TEST_F(UpstreamTlsTest, CallsThatNeedHttp2DoNotOpenTheCircuitForOthers) {
  TestService service(Server("DNS:localhost"), Ok);
  Make(service.url(), R"("max_retries": 0, "circuit_failures": 2, "circuit_open_ms": 60000,
                         "timeout_ms": 30000, "connect_timeout_ms": 30000, "tls": {"ca": ")" +
                          Put("ca.pem", PemOf(ca_.certificate.get())) + "\"}");
  for (int i = 0; i < 4; ++i) {
    const UpstreamResult result = Call(Ask());
    EXPECT_EQ(result.status, CALLOUT_DATA_LOSS) << result.message;
    EXPECT_EQ(result.attempts, 0u);
  }
  EXPECT_EQ(Call(Get()).response.body, "x");
  EXPECT_THAT(metrics_.Text(),
              HasSubstr("callout_upstream_circuit_opens_total{upstream=\"service\"} 0\n"));
}

TEST_F(UpstreamTlsTest, TheConfigurationNamesFilesThatAreInvalid) {
  const auto error = [&](const std::string& tls) {
    const std::string path =
        Put("upstreams.json", R"({"idp": {"url": "https://idp.example", "tls": {)" + tls + "}}}");
    const auto read = ReadUpstreams(path);
    return read.ok() ? "" : std::string(read.status().message());
  };
  const std::string ca = Put("ca.pem", PemOf(ca_.certificate.get()));
  EXPECT_EQ(error("\"ca\": \"" + ca + "\""), "");
  EXPECT_THAT(error(R"("ca": "/nowhere/ca.pem")"),
              HasSubstr("upstream idp: \"tls.ca\": cannot read the CA file /nowhere/ca.pem: "));
  EXPECT_THAT(error("\"certificate\": \"" + ca + "\", \"key\": \"" + ca + "\""),
              HasSubstr("upstream idp: \"tls.certificate\": "));
}

}  // namespace
}  // namespace callout::host
