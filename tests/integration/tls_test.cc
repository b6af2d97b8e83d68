// SPDX-License-Identifier: Apache-2.0

// TLS on the secure listener, and the renewal of certificates.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "certificates.h"
#include "ext_proc_client.h"
#include "test_host.h"
#include "tls_probe.h"

namespace callout::tests {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::vector<std::string> operator+(std::vector<std::string> a, const std::vector<std::string>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

bool Answers(const ChannelPtr& channel) {
  return LiveStream(channel).Exchange(RequestHeaders({})).has_value();
}

class Tls : public ::testing::Test {
 protected:
  // The name in the certificate that a new connection gets, once it is `name`.
  void AwaitSubject(TestHost* host, const std::string& name) {
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (ProbeTls(host->address("secure")).subject != name) {
      ASSERT_LT(std::chrono::steady_clock::now(), give_up) << host->Log();
      std::this_thread::yield();
    }
  }

  host::TempDir dir_;
  TestCa ca_{"test CA"};
  PairFiles files_{dir_, ca_.Issue("localhost")};
};

TEST_F(Tls, ServesWithTheCertificateGiven) {
  TestHost host(files_.Options());
  EXPECT_TRUE(Answers(TlsChannel(host.address("secure"), {ca_.pem(), "", ""})));
  EXPECT_FALSE(Answers(TlsChannel(host.address("secure"), {TestCa("other").pem(), "", ""})));
  EXPECT_THAT(host.Log(), Not(HasSubstr("self-signed")));
}

TEST_F(Tls, WithoutACertificateMakesOneAndWarns) {
  TestHost host({});
  EXPECT_EQ(ProbeTls(host.address("secure")).subject, "localhost");
  EXPECT_THAT(host.Log(), HasSubstr("WARNING TLS uses a self-signed certificate"));
}

TEST_F(Tls, SpeaksTls12AndLaterWithAlpn) {
  TestHost host(files_.Options());
  const TlsProbe newest = ProbeTls(host.address("secure"));
  EXPECT_EQ(newest.version, "TLSv1.3");
  EXPECT_EQ(newest.alpn, "h2");
  const TlsProbe oldest = ProbeTls(host.address("secure"), {.version_max = TLS1_2_VERSION});
  EXPECT_EQ(oldest.version, "TLSv1.2");
  EXPECT_EQ(oldest.alpn, "h2");
  EXPECT_FALSE(ProbeTls(host.address("secure"), {.version_max = TLS1_1_VERSION}).connected);
}

TEST_F(Tls, MutualTlsRefusesClientsOfNoOrAnotherCa) {
  const TestCa client_ca("client CA");
  WriteFile(dir_.Path("clients.pem"), client_ca.pem());
  TestHost host(files_.Options() +
                std::vector<std::string>{"--client_ca_path=" + dir_.Path("clients.pem")});
  const std::string address = host.address("secure");
  const PemPair good = client_ca.Issue("envoy");
  const PemPair foreign = TestCa("client CA").Issue("envoy");
  EXPECT_TRUE(Answers(TlsChannel(address, {ca_.pem(), good.cert_pem, good.key_pem})));
  EXPECT_FALSE(Answers(TlsChannel(address, {ca_.pem(), "", ""})));
  EXPECT_FALSE(Answers(TlsChannel(address, {ca_.pem(), foreign.cert_pem, foreign.key_pem})));
}

TEST_F(Tls, NewFilesAreUsedAndLiveStreamsGoOn) {
  TestHost host(files_.Options());
  LiveStream old_stream(TlsChannel(host.address("secure"), {ca_.pem(), "", ""}));
  ASSERT_TRUE(old_stream.Exchange(RequestHeaders({})).has_value());
  ASSERT_EQ(ProbeTls(host.address("secure")).subject, "localhost");

  files_.Replace(ca_.Issue("renewed"));
  AwaitSubject(&host, "renewed");
  EXPECT_TRUE(old_stream.Exchange(RequestBody("still here")).has_value());
  EXPECT_TRUE(old_stream.Finish().ok());
}

TEST_F(Tls, SighupReadsTheFilesAtOnce) {
  TestHost host(files_.Options());
  files_.Replace(ca_.Issue("renewed"));
  host.Signal(SIGHUP);
  host.AwaitLog("read the certificate again");
  EXPECT_EQ(ProbeTls(host.address("secure")).subject, "renewed");
}

TEST_F(Tls, ABadNewPairKeepsTheOld) {
  TestHost host(files_.Options());
  const std::string stays = "keeping the current certificate; the new one is invalid: ";
  ReplaceFile(files_.key_path, "garbage");
  EXPECT_THAT(host.AwaitLog(stays), HasSubstr(files_.key_path));
  EXPECT_TRUE(Answers(TlsChannel(host.address("secure"), {ca_.pem(), "", ""})));
  // And a good one after it is used.
  files_.Replace(ca_.Issue("renewed"));
  AwaitSubject(&host, "renewed");
  EXPECT_EQ(host.Terminate(), 0);
}

TEST_F(Tls, WorkersHaveTheCertificateOfTheirHost) {
  TestHost host(files_.Options() + std::vector<std::string>{"--workers=2"});
  EXPECT_EQ(ProbeTls(host.address("secure")).subject, "localhost");
  files_.Replace(ca_.Issue("renewed"));
  host.AwaitLog("read the certificate again");
  for (int i = 0; i < 20; ++i) AwaitSubject(&host, "renewed");
  // Also those that begin while the files do not do.
  ReplaceFile(files_.key_path, "garbage");
  host.AwaitLog("keeping the current certificate");
  for (const std::string worker : {"worker 1 (process ", "worker 2 (process "}) {
    const int process = std::stoi(host.AwaitLog(worker));
    ASSERT_EQ(kill(process, SIGKILL), 0);
    host.AwaitLog(worker + std::to_string(process) + ") has ended");
  }
  for (int i = 0; i < 20; ++i) EXPECT_EQ(ProbeTls(host.address("secure")).subject, "renewed");
}

TEST_F(Tls, NewClientCasAreUsed) {
  const TestCa old_ca("old"), new_ca("new");
  WriteFile(dir_.Path("clients.pem"), old_ca.pem());
  TestHost host(files_.Options() +
                std::vector<std::string>{"--client_ca_path=" + dir_.Path("clients.pem")});
  const PemPair old_client = old_ca.Issue("envoy"), new_client = new_ca.Issue("envoy");
  const std::string address = host.address("secure");
  EXPECT_FALSE(Answers(TlsChannel(address, {ca_.pem(), new_client.cert_pem, new_client.key_pem})));
  ReplaceFile(dir_.Path("clients.pem"), new_ca.pem());
  host.AwaitLog("read the certificate again");
  EXPECT_TRUE(Answers(TlsChannel(address, {ca_.pem(), new_client.cert_pem, new_client.key_pem})));
  EXPECT_FALSE(Answers(TlsChannel(address, {ca_.pem(), old_client.cert_pem, old_client.key_pem})));
}

TEST_F(Tls, TheHealthListenerMaySpeakHttps) {
  TestHost host(files_.Options() + std::vector<std::string>{"--secure_health_check"});
  const TlsProbe probe = ProbeTls(
      host.address("health"),
      {.alpn = "http/1.1", .request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"});
  EXPECT_EQ(probe.subject, "localhost");
  EXPECT_THAT(probe.answer, HasSubstr("HTTP/1.1 200 OK\r\n"));
  files_.Replace(ca_.Issue("renewed"));
  host.AwaitLog("read the certificate again");
  EXPECT_EQ(ProbeTls(host.address("health")).subject, "renewed");
}

}  // namespace
}  // namespace callout::tests
