// SPDX-License-Identifier: Apache-2.0

#include "host/transport/h2/h2_server.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <sys/socket.h>

#include <fstream>
#include <functional>
#include <string>
#include <thread>

#include "client_end.h"
#include "host/net/certificate_store.h"
#include "host/transport/builtin_rpcs.h"
#include "tests/host/sockets.h"
#include "tests/host/stream_fixture.h"
#include "tls_ends.h"
#include "tls_policy_checks.h"

namespace callout::host {
namespace {

using ::testing::SizeIs;

std::string HeadersMessage() {
  ProcessingRequest request;
  request.mutable_request_headers();
  return Framed(request.SerializeAsString());
}

class H2ServerTest : public StreamTest, public TlsEnds {
 protected:
  H2ServerTest() { signal(SIGPIPE, SIG_IGN); }  // OpenSSL writes to what the server has closed
  ~H2ServerTest() override { server_.reset(); }

  void StartServer() {
    Begin();
    options_.thread_count = 2;
    auto server = H2Server::Start(options_, environment_.get(), &memory_, store_.get());
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }

  // A connection handed to the server; the client's end of it.
  Descriptor Pair(bool secure) {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    fcntl(ends[1], F_SETFL, O_NONBLOCK);
    secure ? server_->HandleSecure(ends[1]) : server_->HandlePlaintext(ends[1]);
    return Descriptor(ends[0]);
  }

  std::string ClosedFor(const std::string& reason) const {
    const std::string series = "\ncallout_h2_connections_closed_total{reason=\"" + reason + "\"} ";
    const std::string page = metrics_.Text();
    const size_t at = page.find(series);
    return at == std::string::npos ? "" : page.substr(at + series.size(), 1);
  }

  H2Options options_;
  MemoryBudget memory_{SIZE_MAX};
  std::unique_ptr<H2Server> server_;
};

TEST_F(H2ServerTest, ServesAndDrains) {
  StartServer();
  ClientEnd client(Pair(false));
  const int32_t id = client.h2().Begin(kProcessPath);
  client.h2().Send(id, HeadersMessage());
  ASSERT_TRUE(client.RunUntil([&] { return !client.h2().rpc(id).data.empty(); }));
  std::thread drain([&] { EXPECT_TRUE(server_->Drain(60000)); });
  EXPECT_TRUE(client.RunUntil([&] { return client.h2().goaways().size() == 2; }));
  client.h2().End(id);
  EXPECT_TRUE(client.RunUntil([&] { return client.h2().rpc(id).closed; }));
  EXPECT_EQ(client.h2().rpc(id).status(), "0");
  EXPECT_TRUE(client.RunUntilClosed());
  drain.join();
}

TEST_F(H2ServerTest, ADrainCutsWhatTakesTooLong) {
  StartServer();
  ClientEnd client(Pair(false));
  const int32_t id = client.h2().Begin(kProcessPath);
  client.h2().Send(id, HeadersMessage());
  ASSERT_TRUE(client.RunUntil([&] { return !client.h2().rpc(id).data.empty(); }));
  EXPECT_TRUE(server_->Drain(1));
  EXPECT_TRUE(client.RunUntilClosed());
}

TEST_F(H2ServerTest, WatchersOfHealthAreTold) {
  StartServer();
  ClientEnd client(Pair(false));
  const int32_t id = client.h2().Begin("/grpc.health.v1.Health/Watch");
  client.h2().Send(id, Framed(""), true);
  ASSERT_TRUE(client.RunUntil([&] { return client.h2().rpc(id).Messages().size() == 1; }));
  server_->SetServing(false);
  ASSERT_TRUE(client.RunUntil([&] { return client.h2().rpc(id).Messages().size() == 2; }));
  EXPECT_EQ(client.h2().rpc(id).Messages().back(), "\x08\x02");
}

TEST_F(H2ServerTest, LargeAnswersPassASocketThatIsOftenFull) {
  message_bytes_max_ = 6000000;
  AddPlugin()->process = [](callout_call_t* call) {
    CommonResponse common;
    common.mutable_body_mutation()->set_body(std::string(5000000, 'y'));
    return RespondCommon(call, common);
  };
  StartServer();
  ClientEnd client(Pair(false));
  ProcessingRequest request;
  request.mutable_request_body()->set_end_of_stream(true);
  const int32_t id = client.h2().Begin(kProcessPath);
  client.h2().Send(id, Framed(request.SerializeAsString()), true);
  ASSERT_TRUE(client.RunUntil([&] { return client.h2().rpc(id).closed; }));
  ASSERT_THAT(client.h2().rpc(id).Messages(), SizeIs(1));
  EXPECT_GT(client.h2().rpc(id).Messages().front().size(), 5000000U);
}

// What gRPC C++'s test of the same name finds.
TEST_F(H2ServerTest, APlainGetIsToldThatTheMethodIsBad) {
  StartServer();
  ClientEnd client(Pair(false));
  const int32_t id = client.h2().BeginWith(
      {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "test"}});
  client.h2().End(id);
  ASSERT_TRUE(client.RunUntil([&] { return client.h2().rpc(id).closed; }));
  const H2Client::Rpc& rpc = client.h2().rpc(id);
  EXPECT_EQ(rpc.headers.at(":status"), "200");
  EXPECT_EQ(rpc.headers.at("content-type"), "application/grpc");
  EXPECT_EQ(rpc.status(), "2");
  EXPECT_EQ(rpc.headers.at("grpc-message"), "Bad method header");
  EXPECT_TRUE(rpc.data.empty());
}

TEST_F(H2ServerTest, TheIdentityIsTheFirstUriElseDnsNameElseCommonName) {
  std::string identity;
  AddPlugin()->process = [&](callout_call_t* call) {
    callout_bytes_t value{};
    EXPECT_EQ(call->host->get_property(call, CALLOUT_PEER_IDENTITY, &value), CALLOUT_OK);
    identity = ToView(value);
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
  }
}

// epoll takes no regular files. The loop must not keep what it could not watch.
TEST_F(H2ServerTest, ADescriptorThatEpollRefusesIsClosed) {
  StartServer();
  for (int i = 0; i < 20; ++i) {
    const int fd = open(dir_.Path("file").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ASSERT_GE(fd, 0);
    server_->HandlePlaintext(fd);
    ClientEnd client(Pair(false));
    const int32_t id = client.h2().Begin(kProcessPath);
    client.h2().Send(id, HeadersMessage(), true);
    ASSERT_TRUE(client.RunUntil([&] { return client.h2().rpc(id).closed; }));
    EXPECT_EQ(client.h2().rpc(id).status(), "0");
  }
  EXPECT_TRUE(server_->Drain(60000)) << "none of them counts as a connection";
}

// The two that leave do so before the loop has come round to their ClientHello.
TEST_F(H2ServerTest, WhoLeavesDuringTheHandshakeCostsNone) {
  OpenStore();
  StartServer();
  for (int i = 0; i < 50; ++i) {
    const Descriptor gone = Pair(true);
    ASSERT_TRUE(Write(gone.get(), "no ClientHello at all"));
  }
  Descriptor fd = Pair(true);
  ClientSsl ssl = Handshake(fd.get(), "", "h2");
  ASSERT_NE(ssl, nullptr);
  ClientEnd client(std::move(fd), std::move(ssl));
  const int32_t id = client.h2().Begin(kProcessPath);
  client.h2().Send(id, HeadersMessage(), true);
  EXPECT_TRUE(client.RunUntil([&] { return client.h2().rpc(id).closed; }));
}

TEST_F(H2ServerTest, StreamsThatStaySilentEndByTheirTime) {
  options_.first_message_timeout_ms = 50;
  StartServer();
  ClientEnd client(Pair(false));
  const int32_t first = client.h2().Begin(kProcessPath);
  ASSERT_TRUE(client.RunUntil([&] { return client.h2().rpc(first).closed; }));
  EXPECT_EQ(client.h2().rpc(first).status(), "4");
  const int32_t second = client.h2().Begin(kProcessPath);
  ASSERT_TRUE(client.RunUntil([&] { return client.h2().rpc(second).closed; }));
  EXPECT_EQ(client.h2().rpc(second).status(), "4");
}

TEST_F(H2ServerTest, ConnectionsAreRefusedBeforeTheBudgetIsGone) {
  StartServer();
  memory_.Take(SIZE_MAX / 2);
  memory_.Take(SIZE_MAX / 2 - SIZE_MAX / 32);
  ReadToEnd(Pair(false).get());
  EXPECT_EQ(memory_.refusals(MemoryBudget::Use::kConnection), 1U);
  memory_.Give(SIZE_MAX / 2);
  memory_.Give(SIZE_MAX / 2 - SIZE_MAX / 32);
}

TEST_F(H2ServerTest, TlsWithoutHttp2IsNotServed) {
  OpenStore();
  StartServer();
  const Descriptor other = Pair(true);
  EXPECT_EQ(Handshake(other.get(), "", "http/1.1"), nullptr);
  Descriptor none = Pair(true);
  ClientSsl ssl = Handshake(none.get(), "", "");
  ClientEnd client(std::move(none), std::move(ssl));
  EXPECT_TRUE(client.RunUntilClosed());
}

TEST_F(H2ServerTest, TlsIsByThePolicy) {
  OpenStore();
  StartServer();
  ExpectTlsPolicy([&] { return Pair(true); },
                  [&](SSL_CTX* context) { UseClientCertificate("", "h2", context); });
}

TEST_F(H2ServerTest, SilentAndIdleConnectionsAreClosed) {
  OpenStore();
  options_.handshake_timeout_ms = 50;
  options_.connection_idle_ms = 50;
  StartServer();
  for (const bool secure : {false, true}) {
    ReadToEnd(Pair(secure).get());
  }
  EXPECT_EQ(ClosedFor("handshake_timeout"), "2");
  ClientEnd idle(Pair(false));
  EXPECT_TRUE(idle.RunUntilClosed());
  EXPECT_THAT(idle.h2().goaways(), SizeIs(1)) << "it looks at no more without a stream";
  EXPECT_EQ(ClosedFor("idle"), "1");
}

TEST_F(H2ServerTest, AnOldConnectionIsAskedToLeaveAndThenCut) {
  options_.connection_age_ms = 50;
  options_.connection_age_grace_ms = 50;
  StartServer();
  ClientEnd client(Pair(false));
  const int32_t id = client.h2().Begin(kProcessPath);
  client.h2().Send(id, HeadersMessage());
  EXPECT_TRUE(client.RunUntil([&] { return client.h2().goaways().size() == 1; }));
  EXPECT_TRUE(client.RunUntilClosed());
  EXPECT_FALSE(client.h2().rpc(id).closed);
  EXPECT_EQ(ClosedFor("age"), "1");
}

TEST_F(H2ServerTest, AClientThatAnswersNoPingIsGone) {
  options_.keepalive_ms = 20;
  options_.keepalive_timeout_ms = 20;
  StartServer();
  const Descriptor fd = Pair(false);
  ASSERT_TRUE(Write(fd.get(), std::string(kPreface) + Frame(NGHTTP2_SETTINGS, 0, 0, "")));
  ReadToEnd(fd.get());
  EXPECT_EQ(ClosedFor("keepalive"), "1");
}

}  // namespace
}  // namespace callout::host
