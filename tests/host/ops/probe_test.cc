// SPDX-License-Identifier: Apache-2.0

#include "host/ops/probe.h"

#include <gtest/gtest.h>

#include <memory>

#include "host/net/accept_loop.h"
#include "host/net/listener.h"
#include "host/ops/health.h"
#include "tests/host/sockets.h"

namespace callout::host {
namespace {

TEST(Probe, SaysWhatTheHealthListenerSays) {
  Metrics metrics;
  Health health;
  auto server = HttpServer::Create(&metrics, {});
  ASSERT_TRUE(server.ok()) << server.status();
  auto serve = (*server)->AddListener("health", MakeHealthHandler(&health));
  ASSERT_TRUE(serve.ok()) << serve.status();
  auto socket = ListenSocket::Open(ParsedAddress("127.0.0.1:0"));
  ASSERT_TRUE(socket.ok()) << socket.status();
  AcceptLoop loop(&metrics, [](const absl::Status& status) { ADD_FAILURE() << status; });
  ASSERT_TRUE(loop.Start({{.name = "health",
                           .fd = socket->fd(),
                           .on_connection = *serve,
                           .may_accept = nullptr}})
                  .ok());
  Address everywhere = ParsedAddress("0.0.0.0:" + std::to_string(socket->bound().port()));
  EXPECT_EQ(ProbeHealth(everywhere, false, kGiveUpMs).code(),
            absl::StatusCode::kFailedPrecondition);
  health.Set(Health::State::kReady);
  EXPECT_TRUE(ProbeHealth(everywhere, false, kGiveUpMs).ok());
  EXPECT_TRUE(ProbeHealth(socket->bound(), false, kGiveUpMs).ok());
  health.Set(Health::State::kDraining);
  EXPECT_FALSE(ProbeHealth(everywhere, false, kGiveUpMs).ok());
  loop.Stop();
}

TEST(Probe, NobodyThereIsUnavailable) {
  auto socket = ListenSocket::Bind(ParsedAddress("127.0.0.1:0"));
  ASSERT_TRUE(socket.ok()) << socket.status();
  EXPECT_EQ(ProbeHealth(socket->bound(), false, kGiveUpMs).code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace callout::host
