// SPDX-License-Identifier: Apache-2.0

#include "host/transport/h2/h2_health.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "client_end.h"
#include "host/ops/http_server.h"
#include "tests/host/sockets.h"

namespace callout::host {
namespace {

using ::testing::HasSubstr;

constexpr char kHealthCheck[] = "/grpc.health.v1.Health/Check";

// Behind the HTTP server, as in the host.
class H2HealthTest : public testing::Test {
 protected:
  H2HealthTest() {
    auto http = HttpServer::Create(&metrics_);
    EXPECT_TRUE(http.ok()) << http.status();
    http_ = *std::move(http);
    auto take = http_->AddListener(
        "health",
        [](const HttpRequestView&) {
          HttpResponse response;
          response.status = 204;
          return response;
        },
        nullptr, [this](int fd, std::string bytes) { return health_->Take(fd, std::move(bytes)); });
    EXPECT_TRUE(take.ok()) << take.status();
    take_ = *std::move(take);
  }
  ~H2HealthTest() override { http_->Stop(); }

  Descriptor Connect() {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    fcntl(ends[1], F_SETFL, O_NONBLOCK);
    take_(ends[1]);
    return Descriptor(ends[0]);
  }

  H2Client::Rpc Call(const std::string& path) {
    ClientEnd client(Connect());
    const int32_t id = client.h2().Begin(path);
    client.h2().Send(id, Framed(""), true);
    EXPECT_TRUE(client.RunUntil([&] { return client.h2().rpc(id).closed; }));
    return client.h2().rpc(id);
  }

  std::atomic<bool> ready_{true};
  Metrics metrics_;
  std::unique_ptr<H2Health> health_ =
      std::make_unique<H2Health>([this] { return ready_.load(); }, &metrics_);
  std::unique_ptr<HttpServer> http_;
  std::function<void(int)> take_;
};

TEST_F(H2HealthTest, SaysWhetherTheHostIsReady) {
  for (const bool ready : {true, false, true}) {
    ready_ = ready;
    const H2Client::Rpc rpc = Call(kHealthCheck);
    EXPECT_EQ(rpc.status(), "0");
    ASSERT_EQ(rpc.Messages().size(), 1u);
    EXPECT_EQ(rpc.Messages()[0], ready ? "\x08\x01" : "\x08\x02");
  }
}

// A load balancer that speaks HTTP/2 but not gRPC must not take a 200 for readiness.
TEST_F(H2HealthTest, APlainGetIsAnsweredByReadinessToo) {
  for (const bool ready : {true, false}) {
    ready_ = ready;
    ClientEnd client(Connect());
    const int32_t id = client.h2().BeginWith(
        {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "test"}});
    client.h2().End(id);
    ASSERT_TRUE(client.RunUntil([&] { return client.h2().rpc(id).closed; }));
    EXPECT_EQ(client.h2().rpc(id).headers.at(":status"), ready ? "200" : "503");
    EXPECT_TRUE(client.h2().rpc(id).data.empty());
  }
}

TEST_F(H2HealthTest, TellsWatchersOfAChange) {
  ClientEnd client(Connect());
  const int32_t id = client.h2().Begin("/grpc.health.v1.Health/Watch");
  client.h2().Send(id, Framed(""), true);
  ASSERT_TRUE(client.RunUntil([&] { return client.h2().rpc(id).Messages().size() == 1; }));
  ready_ = false;
  health_->Update();
  ASSERT_TRUE(client.RunUntil([&] { return client.h2().rpc(id).Messages().size() == 2; }));
  EXPECT_EQ(client.h2().rpc(id).Messages()[1], "\x08\x02");
}

TEST_F(H2HealthTest, ServesNothingElse) {
  for (const char* path :
       {kProcessPath, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/no.such.Service/Method"}) {
    const H2Client::Rpc rpc = Call(path);
    EXPECT_EQ(rpc.status(), "12") << path;
    EXPECT_THAT(rpc.headers.at("grpc-message"), HasSubstr("serves grpc.health.v1.Health"));
  }
}

TEST_F(H2HealthTest, ThePrefaceMayComeInPieces) {
  const Descriptor fd = Connect();
  H2Client client;
  const int32_t id = client.Begin(kHealthCheck);
  client.Send(id, Framed(""), true);
  const std::string bytes = client.TakeBytes();
  for (const char byte : bytes.substr(0, 30)) ASSERT_TRUE(Write(fd.get(), std::string(1, byte)));
  ASSERT_TRUE(Write(fd.get(), bytes.substr(30)));
  char buffer[16384];
  while (!client.rpc(id).closed && WaitReadable(fd.get())) {
    const ssize_t size = recv(fd.get(), buffer, sizeof(buffer), 0);
    ASSERT_GT(size, 0);
    ASSERT_TRUE(client.Give({buffer, static_cast<size_t>(size)}));
    ASSERT_TRUE(Write(fd.get(), client.TakeBytes()));
  }
  EXPECT_EQ(client.rpc(id).status(), "0");
}

TEST_F(H2HealthTest, Http1IsAnsweredAsBefore) {
  for (const char* request : {"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
                              "PUT / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"}) {
    const Descriptor fd = Connect();
    ASSERT_TRUE(Write(fd.get(), request));
    EXPECT_THAT(ReadToEnd(fd.get()), HasSubstr("204"));
  }
  const Descriptor fd = Connect();
  ASSERT_TRUE(Write(fd.get(), "PRI * HTTP/2.1\r\n\r\n"));
  EXPECT_THAT(ReadToEnd(fd.get()), HasSubstr("400"));
}

// Idle connections, and those that watch, keep no load balancer out.
TEST_F(H2HealthTest, AtTheLimitTheLeastUsedConnectionMakesRoom) {
  std::vector<std::unique_ptr<ClientEnd>> clients;
  const auto check = [](ClientEnd* end) {
    const int32_t id = end->h2().Begin(kHealthCheck);
    end->h2().Send(id, Framed(""), true);
    return end->RunUntil([&] { return end->h2().rpc(id).closed; });
  };
  for (size_t i = 0; i < H2Health::kConnectionsMax; ++i) {
    clients.push_back(std::make_unique<ClientEnd>(Connect()));
    if (i == 1) {
      const int32_t id = clients[1]->h2().Begin("/grpc.health.v1.Health/Watch");
      clients[1]->h2().Send(id, Framed(""), true);
      ASSERT_TRUE(clients[1]->RunUntil([&] { return !clients[1]->h2().rpc(id).data.empty(); }));
    } else {
      ASSERT_TRUE(check(clients[i].get())) << i;
    }
  }
  ASSERT_TRUE(check(clients[0].get())) << "so it is used last";
  for (int i = 0; i < 3; ++i) {
    ClientEnd further(Connect());
    EXPECT_TRUE(check(&further));
  }
  EXPECT_TRUE(check(clients[0].get()));
  EXPECT_TRUE(clients[2]->RunUntilClosed());
  EXPECT_THAT(metrics_.Text(),
              HasSubstr("callout_h2_connections_closed_total{reason=\"evicted\"} "));
}

}  // namespace
}  // namespace callout::host
