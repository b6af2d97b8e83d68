// SPDX-License-Identifier: Apache-2.0

#include "host/wire/refusal.h"

#include <gtest/gtest.h>

#include <string>

#include "host/wire/check_response.h"
#include "host/wire/network_message.h"
#include "host/wire/rate_limit.h"

namespace callout::host {
namespace {

Response Of(callout_field_t field, std::string_view payload) {
  Response response;
  BuildRecord(field, payload, &response);
  return response;
}

TEST(Refusal, IsAnImmediateResponseInEveryPhaseOfExtProc) {
  for (callout_phase_t phase = CALLOUT_REQUEST_HEADERS; phase <= CALLOUT_RESPONSE_TRAILERS;
       ++phase) {
    EXPECT_FALSE(IsRefusal(phase, {}, {}));
    EXPECT_FALSE(IsRefusal(phase, Of(phase - 1, {}), {}));
    EXPECT_TRUE(IsRefusal(phase, Of(CALLOUT_IMMEDIATE_RESPONSE, "\xff"), {})) << "valid or not";
    EXPECT_TRUE(IsRefusal(phase, Of(CALLOUT_STREAMED_IMMEDIATE_RESPONSE, {}), {}));
  }
}

TEST(Refusal, IsADenialAnErrorOrAStatusOfACheck) {
  EXPECT_FALSE(IsRefusal(CALLOUT_CHECK, {}, {})) << "nothing is set: it can still be allowed";
  EXPECT_FALSE(IsRefusal(CALLOUT_CHECK, Of(CALLOUT_CHECK_OK, {}), {}));
  EXPECT_TRUE(IsRefusal(CALLOUT_CHECK, Of(CALLOUT_CHECK_DENIED, {}), {}));
  EXPECT_TRUE(IsRefusal(CALLOUT_CHECK, Of(CALLOUT_CHECK_ERROR, {}), {}));
  // CheckResponse.status 1 { code 1: 7 }, beside ok_response 3.
  Response response;
  std::string annotations;
  ASSERT_TRUE(
      SplitCheckResponse(std::string("\x0a\x02\x08\x07\x1a\x00", 6), &response, &annotations));
  EXPECT_TRUE(IsRefusal(CALLOUT_CHECK, response, annotations));
  EXPECT_TRUE(IsRefusal(CALLOUT_CHECK, response, "\x0a\x01\x08")) << "a status that is cut off";
  EXPECT_FALSE(IsRefusal(CALLOUT_CHECK, response, std::string("\x0a\x02\x08\x00", 4)));
}

TEST(Refusal, IsARateLimitThatIsOver) {
  Response response;
  std::string annotations;
  EXPECT_FALSE(IsRefusal(CALLOUT_RATE_LIMIT, {}, {}));
  ASSERT_TRUE(SplitRateLimitResponse("\x08\x01", &response, &annotations));
  EXPECT_FALSE(IsRefusal(CALLOUT_RATE_LIMIT, response, annotations));
  ASSERT_TRUE(SplitRateLimitResponse("\x08\x02", &response, &annotations));
  EXPECT_TRUE(IsRefusal(CALLOUT_RATE_LIMIT, response, annotations));
  // A status over its limit; bytes that are no message.
  ASSERT_TRUE(SplitRateLimitResponse("\x12\x02\x08\x02", &response, &annotations));
  EXPECT_TRUE(IsRefusal(CALLOUT_RATE_LIMIT, response, annotations));
  EXPECT_TRUE(IsRefusal(CALLOUT_RATE_LIMIT, Of(kRateLimitAnswer, "\x12\x7f"), {}));
}

TEST(Refusal, IsTheEndOfAConnection) {
  for (const callout_phase_t phase : {CALLOUT_CONNECTION, CALLOUT_READ_DATA, CALLOUT_WRITE_DATA}) {
    Response response;
    std::string annotations;
    EXPECT_FALSE(IsRefusal(phase, {}, {}));
    ASSERT_TRUE(SplitNetworkResponse(std::string("\x20\x00", 2), &response, &annotations));
    EXPECT_FALSE(IsRefusal(phase, response, annotations));
    for (const char* how : {"\x20\x01", "\x20\x02", "\x20\x03"}) {
      ASSERT_TRUE(SplitNetworkResponse(how, &response, &annotations));
      EXPECT_TRUE(IsRefusal(phase, response, annotations));
    }
  }
  EXPECT_FALSE(IsRefusal(CALLOUT_READ_DATA, Of(CALLOUT_READ_DATA_RESPONSE, "\x0a\x01x"), {}));
}

}  // namespace
}  // namespace callout::host
