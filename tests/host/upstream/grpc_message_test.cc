// SPDX-License-Identifier: Apache-2.0

#include "host/upstream/grpc_message.h"

#include <gtest/gtest.h>

namespace callout::host {
namespace {

TEST(GrpcMessage, HasItsLengthBeforeIt) {
  EXPECT_EQ(FrameGrpcMessage(""), std::string(5, '\0'));
  EXPECT_EQ(FrameGrpcMessage(std::string(258, 'x')).substr(0, 5), std::string("\0\0\0\1\2", 5));
}

TEST(GrpcMessage, ATimeoutHasAtMostEightDigits) {
  EXPECT_EQ(GrpcTimeout(0), "1m");
  EXPECT_EQ(GrpcTimeout(1'500'000'000), "1500m");
  EXPECT_EQ(GrpcTimeout(uint64_t{365} * 86400 * 1'000'000'000), "31536000S");
}

TEST(GrpcMessage, AnUnknownStatusIsUnknown) {
  UpstreamResponse response;
  response.status = 200;
  response.headers = {{"content-type", "application/grpc"}, {"grpc-status", "99"}};
  const GrpcReply reply = ReadGrpcReply(response);
  EXPECT_TRUE(reply.valid) << reply.why;
  EXPECT_EQ(reply.status, CALLOUT_UNKNOWN);
}

}  // namespace
}  // namespace callout::host
