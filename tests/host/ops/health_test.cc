// SPDX-License-Identifier: Apache-2.0

#include "host/ops/health.h"

#include <gtest/gtest.h>

namespace callout::host {
namespace {

TEST(Health, StartsNotReady) {
  Health health;
  EXPECT_EQ(health.state(), Health::State::kStarting);
  EXPECT_FALSE(health.ready());
}

TEST(Health, AnyGetSays200OnlyWhileReadyAndHasNoBody) {
  Health health;
  const HttpHandler handler = MakeHealthHandler(&health);
  const auto status_of = [&](const char* target) {
    const HttpResponse response = handler({"GET", target});
    EXPECT_EQ(response.body, "");
    return response.status;
  };
  EXPECT_EQ(status_of("/"), 503u);
  health.Set(Health::State::kReady);
  EXPECT_EQ(status_of("/"), 200u);
  EXPECT_EQ(status_of("/any/path?and=query"), 200u);
  health.Set(Health::State::kDraining);
  EXPECT_EQ(status_of("/"), 503u);
}

TEST(Health, IsNotReadyWhileNobodyTakesStreams) {
  Health health;
  bool serving = true;
  health.FollowTraffic([&serving] { return serving; });
  EXPECT_EQ(health.state(), Health::State::kStarting);
  health.Set(Health::State::kReady);
  EXPECT_TRUE(health.ready());
  serving = false;
  EXPECT_EQ(health.state(), Health::State::kUnserved);
  EXPECT_FALSE(health.ready());
  health.Set(Health::State::kDraining);
  EXPECT_EQ(health.state(), Health::State::kDraining);
}

TEST(Health, OtherMethodsAreNotAllowed) {
  Health health;
  health.Set(Health::State::kReady);
  const HttpHandler handler = MakeHealthHandler(&health);
  for (const char* method : {"POST", "PUT", "DELETE", "OPTIONS", "get", "GETX"}) {
    const HttpResponse response = handler({method, "/"});
    EXPECT_EQ(response.status, 405u) << method;
    EXPECT_EQ(response.allow, "GET, HEAD");
    EXPECT_EQ(response.body, "");
  }
}

TEST(Health, StatesHaveNames) {
  EXPECT_STREQ(HealthStateName(Health::State::kStarting), "starting");
  EXPECT_STREQ(HealthStateName(Health::State::kReady), "ready");
  EXPECT_STREQ(HealthStateName(Health::State::kUnserved), "unserved");
  EXPECT_STREQ(HealthStateName(Health::State::kDraining), "draining");
}

}  // namespace
}  // namespace callout::host
