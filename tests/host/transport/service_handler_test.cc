// SPDX-License-Identifier: Apache-2.0

#include "host/transport/service_handler.h"

#include <gtest/gtest.h>

#include <string>

#include "host/transport/builtin_rpcs.h"
#include "tests/host/unary/check_fixture.h"

namespace callout::host {
namespace {

constexpr char kCheckPath[] = "/envoy.service.auth.v3.Authorization/Check";

using ServiceHandlerTest = CheckTest;

TEST_F(ServiceHandlerTest, AnswersTheMethodOfAServiceThatIsOn) {
  AddPlugin()->phases[CALLOUT_CHECK] = Allows();
  Begin();
  EXPECT_EQ(MakeServiceHandler(kProcessPath, environment_.get(), &rpc_), nullptr);
  EXPECT_EQ(
      MakeServiceHandler("/envoy.service.auth.v3.Authorization/Other", environment_.get(), &rpc_),
      nullptr);
  const auto handler = MakeServiceHandler(kCheckPath, environment_.get(), &rpc_);
  ASSERT_NE(handler, nullptr);
  EXPECT_TRUE(handler->wants_message());
  EXPECT_FALSE(handler->closed());
  const std::string request = Request().SerializeAsString();
  handler->OnMessage(request);
  EXPECT_FALSE(handler->wants_message());
  CheckReply response;
  const auto output = handler->TakeOutput();
  ASSERT_EQ(output.size(), 1u);
  EXPECT_TRUE(response.ParseFromString(output[0]));
  EXPECT_TRUE(response.has_ok_response());
  EXPECT_EQ(*handler->end(), absl::OkStatus());
  EXPECT_TRUE(handler->closed());
}

TEST_F(ServiceHandlerTest, AServiceIsOnWhereAPluginHasAHookForIt) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  Begin();
  EXPECT_TRUE(environment_->services().Has(RpcService::kExtProc));
  EXPECT_FALSE(environment_->services().Has(RpcService::kExtAuthz));
  EXPECT_EQ(MakeServiceHandler(kCheckPath, environment_.get(), &rpc_), nullptr);
  Reset();
  AddPlugin()->phases[CALLOUT_CHECK] = Allows();
  Begin();
  EXPECT_FALSE(environment_->services().Has(RpcService::kExtProc))
      << "or all that is sent to the wrong service would pass";
  Reset();
  Begin();
  EXPECT_TRUE(environment_->services().Has(RpcService::kExtProc)) << "without a plugin";
  EXPECT_FALSE(environment_->services().Has(RpcService::kExtAuthz));
}

TEST_F(ServiceHandlerTest, EachServiceHasItsPath) {
  AddPlugin()->phases[CALLOUT_RATE_LIMIT] = Returns(CALLOUT_OK);
  Begin();
  EXPECT_TRUE(environment_->services().Has(RpcService::kRateLimit));
  EXPECT_EQ(MakeServiceHandler(kCheckPath, environment_.get(), &rpc_), nullptr);
  const auto handler = MakeServiceHandler(
      "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit", environment_.get(), &rpc_);
  ASSERT_NE(handler, nullptr);
  handler->OnMessage("");
  const auto output = handler->TakeOutput();
  ASSERT_EQ(output.size(), 1u);
  EXPECT_EQ(output[0], "\x08\x01") << "overall_code: OK";
}

TEST_F(ServiceHandlerTest, AConnectionIsAStream) {
  AddPlugin()->phases[CALLOUT_READ_DATA] = Returns(CALLOUT_OK);
  Begin();
  const auto handler =
      MakeServiceHandler("/envoy.service.network_ext_proc.v3.NetworkExternalProcessor/Process",
                         environment_.get(), &rpc_);
  ASSERT_NE(handler, nullptr);
  LiveRpc live;
  handler->Describe(&live);
  EXPECT_EQ(live.kind, "network_ext_proc");
  const size_t kept = handler->kept_bytes();
  for (int i = 0; i < 2; ++i) {
    handler->OnMessage("\x0a\x03\x0a\x01r");
    const auto output = handler->TakeOutput();
    ASSERT_EQ(output.size(), 1u);
    EXPECT_EQ(output[0], "\x0a\x03\x0a\x01r\x18\x01") << "the data, UNMODIFIED";
    EXPECT_TRUE(handler->quiet());
    EXPECT_TRUE(handler->wants_message());
    EXPECT_EQ(handler->kept_bytes(), kept);
  }
  handler->OnHalfClose();
  EXPECT_EQ(*handler->end(), absl::OkStatus());
  EXPECT_TRUE(handler->closed());
}

TEST_F(ServiceHandlerTest, TheOperatorSaysWhichAreOn) {
  limits_.services.Add(RpcService::kExtAuthz);
  Begin();
  EXPECT_FALSE(environment_->services().Has(RpcService::kExtProc));
  EXPECT_NE(MakeServiceHandler(kCheckPath, environment_.get(), &rpc_), nullptr);
}

}  // namespace
}  // namespace callout::host
