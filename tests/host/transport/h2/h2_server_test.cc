// SPDX-License-Identifier: Apache-2.0

#include "host/transport/h2/h2_server.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "client_end.h"
#include "host/transport/builtin_rpcs.h"
#include "host/transport/h2/h2_tls.h"
#include "server_suite.h"
#include "tests/host/sockets.h"

namespace callout::host {
namespace {

using ::testing::SizeIs;

class H2ServerTest : public ServerTest {
 protected:
  ~H2ServerTest() override { server_.reset(); }

  void StartServer() override {
    Begin();
    options_.thread_count = 2;
    memory_.emplace(memory_bytes_);
    auto server = H2Server::Start(options_, environment_.get(), &*memory_, store_.get());
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }
  TransportLimits& transport_limits() override { return options_; }
  Transport* transport() override { return server_.get(); }

  std::string ClosedFor(const std::string& reason) const {
    return Metric("callout_h2_connections_closed_total{reason=\"" + reason + "\"}");
  }

  H2Options options_;
  size_t memory_bytes_ = SIZE_MAX;
  std::optional<MemoryBudget> memory_;
  std::unique_ptr<H2Server> server_;
};

TEST_F(H2ServerTest, LargeAnswersPassASocketThatIsOftenFull) {
  message_bytes_max_ = 6000000;
  AddPlugin()->process = [](callout_call_t* call) {
    CommonResponse common;
    common.mutable_body_mutation()->set_body(std::string(5000000, 'y'));
    return RespondCommon(call, common);
  };
  StartServer();
  ClientEnd client(Pair());
  ProcessingRequest request;
  request.mutable_request_body()->set_end_of_stream(true);
  const int32_t id = client.h2().Begin(kProcessPath);
  client.h2().Send(id, Framed(request.SerializeAsString()), true);
  ASSERT_TRUE(client.RunUntil([&] { return client.h2().rpc(id).closed; }));
  ASSERT_THAT(client.h2().rpc(id).Messages(), SizeIs(1));
  EXPECT_GT(client.h2().rpc(id).Messages().front().size(), 5000000U);
}

// epoll takes no regular files. The loop must not keep what it could not watch.
TEST_F(H2ServerTest, ADescriptorThatEpollRefusesIsClosed) {
  StartServer();
  for (int i = 0; i < 20; ++i) {
    const int fd = open(dir_.Path("file").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ASSERT_GE(fd, 0);
    server_->HandlePlaintext(fd);
    ClientEnd client(Pair());
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

// OpenSSL reserves at once what a ClientHello announces.
TEST_F(H2ServerTest, AHandshakeCountsAsWhatItMayReserve) {
  OpenStore();
  memory_bytes_ = 2000000;
  StartServer();
  // A record of 21 bytes, of a ClientHello of 131,000.
  const std::string begun("\x16\x03\x01\x00\x10\x01\x01\xff\xb8\x03\x03", 11);
  std::vector<Descriptor> clients;
  for (int i = 0; i < 12; ++i) {
    clients.push_back(Pair(true));
    EXPECT_TRUE(Write(clients.back().get(), begun + std::string(10, 'r')));
  }
  while (memory_->refusals(MemoryBudget::Use::kConnection) == 0) std::this_thread::yield();
  EXPECT_GE(memory_->used(), 5 * size_t{200000}) << "a few use up the budget";
}

// A hundredth of the time is less than the two steps of one take.
TEST_F(H2ServerTest, HandshakesWaitForTheirShareOfTheTime) {
  OpenStore();
  options_.handshake_percent_max = 1;
  StartServer();
  for (int i = 0; i < 4; ++i) {
    const Descriptor fd = Pair(true);
    EXPECT_NE(Handshake(fd.get(), "", "h2"), nullptr);
  }
  EXPECT_NE(Metric("callout_h2_turns_cut_total{limit=\"handshakes\"}"), "0");
}

TEST_F(H2ServerTest, ConnectionsAreRefusedBeforeTheBudgetIsGone) {
  StartServer();
  memory_->Take(SIZE_MAX / 2);
  memory_->Take(SIZE_MAX / 2 - SIZE_MAX / 32);
  ReadToEnd(Pair().get());
  EXPECT_EQ(memory_->refusals(MemoryBudget::Use::kConnection), 1U);
  memory_->Give(SIZE_MAX / 2);
  memory_->Give(SIZE_MAX / 2 - SIZE_MAX / 32);
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

// Records with nothing but KeyUpdates, which the peer need not wait to send.
std::string KeyUpdates(SSL* ssl, int count, int kind) {
  SSL_set0_wbio(ssl, BIO_new(BIO_s_mem()));
  for (int i = 0; i < count; ++i) {
    EXPECT_EQ(SSL_key_update(ssl, kind), 1);
    EXPECT_EQ(SSL_do_handshake(ssl), 1);
  }
  char* bytes = nullptr;
  const long size = BIO_get_mem_data(SSL_get_wbio(ssl), &bytes);
  return {bytes, static_cast<size_t>(size)};
}

TEST_F(H2ServerTest, AFloodOfKeyUpdatesEndsTheConnection) {
  OpenStore();
  options_.guard.control_frames_max = 50;
  StartServer();
  for (const bool flood : {false, true}) {
    const Descriptor fd = Pair(true);
    const ClientSsl ssl = Handshake(fd.get(), "", "h2");
    ASSERT_NE(ssl, nullptr);
    char settings[64];
    ASSERT_GT(SSL_read(ssl.get(), settings, sizeof(settings)), 0) << "the handshake is over";
    ASSERT_TRUE(
        Write(fd.get(), KeyUpdates(ssl.get(), flood ? 100 : 10, SSL_KEY_UPDATE_NOT_REQUESTED)));
    shutdown(fd.get(), SHUT_WR);
    ReadToEnd(fd.get());
    EXPECT_EQ(ClosedFor("key_updates"), flood ? "1" : "0");
  }
}

// However large they are: with records of 65 bytes OpenSSL always has part of the next one.
TEST_F(H2ServerTest, OneReadTakesNoMoreKeyUpdatesThanWereReadAhead) {
  OpenStore();
  H2TlsContexts contexts(store_.get());
  for (const size_t padding : {size_t{0}, size_t{38}}) {
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    const Descriptor fd(ends[0]), server_fd(ends[1]);
    uint64_t key_updates = 0;
    SslPtr server = contexts.Accept(server_fd.get(), &key_updates);
    ASSERT_NE(server, nullptr);
    std::thread accept([&server] { EXPECT_EQ(SSL_do_handshake(server.get()), 1); });
    const ClientSsl ssl = Handshake(fd.get(), "", "h2");
    accept.join();
    ASSERT_NE(ssl, nullptr);
    SSL_set_record_padding_callback_arg(ssl.get(), const_cast<size_t*>(&padding));
    SSL_set_record_padding_callback(ssl.get(), [](SSL*, int, size_t, void* bytes) {
      return *static_cast<const size_t*>(bytes);
    });
    constexpr int kCount = 2000;
    const std::string bytes = KeyUpdates(ssl.get(), kCount, SSL_KEY_UPDATE_NOT_REQUESTED);
    EXPECT_EQ(bytes.size(), kCount * (27 + padding));
    ASSERT_TRUE(Write(fd.get(), bytes));
    fcntl(server_fd.get(), F_SETFL, O_NONBLOCK);
    char buffer[100];
    EXPECT_LE(SSL_read(server.get(), buffer, sizeof(buffer)), 0);
    EXPECT_GT(key_updates, 0U);
    EXPECT_LE(key_updates * (27 + padding), 20000U) << "a buffer of OpenSSL's is 16709 bytes";
  }
}

TEST_F(H2ServerTest, WhatComesWithAKeyUpdateIsServed) {
  OpenStore();
  StartServer();
  Descriptor fd = Pair(true);
  ClientSsl ssl = Handshake(fd.get(), "", "h2");
  ASSERT_NE(ssl, nullptr);
  H2Client client;
  const int32_t id = client.Begin(kProcessPath);
  client.Send(id, HeadersMessage(), true);
  const std::string request = client.TakeBytes();
  EXPECT_FALSE(KeyUpdates(ssl.get(), 1, SSL_KEY_UPDATE_NOT_REQUESTED).empty());
  ASSERT_EQ(SSL_write(ssl.get(), request.data(), static_cast<int>(request.size())),
            static_cast<int>(request.size()));
  char* all = nullptr;
  const long size = BIO_get_mem_data(SSL_get_wbio(ssl.get()), &all);
  ASSERT_TRUE(Write(fd.get(), {all, static_cast<size_t>(size)}));
  char buffer[16384];
  while (!client.rpc(id).closed && WaitReadable(fd.get())) {
    const int count = SSL_read(ssl.get(), buffer, sizeof(buffer));
    ASSERT_GT(count, 0);
    ASSERT_TRUE(client.Give({buffer, static_cast<size_t>(count)}));
  }
  EXPECT_EQ(client.rpc(id).status(), "0");
}

// The server's answers fill the socket, and nobody reads them.
TEST_F(H2ServerTest, APeerThatTakesNoKeyUpdatesIsCutOff) {
  OpenStore();
  options_.guard.control_frames_max = 0;
  options_.keepalive_timeout_ms = 50;
  StartServer();
  const Descriptor fd = Pair(true);
  const ClientSsl ssl = Handshake(fd.get(), "", "h2");
  ASSERT_NE(ssl, nullptr);
  const std::string preface = std::string(kPreface) + Frame(NGHTTP2_SETTINGS, 0, 0, "");
  ASSERT_GT(SSL_write(ssl.get(), preface.data(), static_cast<int>(preface.size())), 0);
  (void)Write(fd.get(), KeyUpdates(ssl.get(), 3000, SSL_KEY_UPDATE_REQUESTED));
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (ClosedFor("write_stall") != "1") {
    ASSERT_LT(std::chrono::steady_clock::now(), give_up) << metrics_.Text();
    std::this_thread::yield();
  }
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
  ClientEnd idle(Pair());
  EXPECT_TRUE(idle.RunUntilClosed());
  EXPECT_THAT(idle.h2().goaways(), SizeIs(1)) << "it looks at no more without a stream";
  EXPECT_EQ(ClosedFor("idle"), "1");
}

TEST_F(H2ServerTest, AConnectionIsIdleFromItsLastCallOnWhateverPingsItAnswers) {
  OpenStore();
  options_.keepalive_ms = 5;
  options_.connection_idle_ms = 100;
  StartServer();
  ClientEnd client(Pair());
  const int32_t id = client.h2().Begin(kProcessPath);
  client.h2().Send(id, HeadersMessage(), true);
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  client.RunUntil(
      [&] { return !client.h2().goaways().empty() || std::chrono::steady_clock::now() > give_up; });
  ASSERT_THAT(client.h2().goaways(), SizeIs(1));
  EXPECT_TRUE(client.RunUntilClosed());
  EXPECT_TRUE(client.h2().rpc(id).closed);
  EXPECT_EQ(ClosedFor("idle"), "1");
}

TEST_F(H2ServerTest, AnOldConnectionIsAskedToLeaveAndThenCut) {
  options_.connection_age_ms = 50;
  options_.connection_age_grace_ms = 50;
  StartServer();
  ClientEnd client(Pair());
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
  const Descriptor fd = Pair();
  ASSERT_TRUE(Write(fd.get(), std::string(kPreface) + Frame(NGHTTP2_SETTINGS, 0, 0, "")));
  ReadToEnd(fd.get());
  EXPECT_EQ(ClosedFor("keepalive"), "1");
}

INSTANTIATE_TYPED_TEST_SUITE_P(Nghttp2, EveryServer, H2ServerTest);

}  // namespace
}  // namespace callout::host
