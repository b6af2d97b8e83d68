// SPDX-License-Identifier: Apache-2.0

#include "host/deploy/envoy_needs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/host/deploy/made_instance.h"

namespace callout::host {
namespace {

using ::testing::ElementsAre;

TEST(EnvoyNeeds, NamesTheFirstInstanceThatWantsAPhase) {
  const EnvoyNeeds needs = NeedsOf(
      {}, MadeChain({MadeInstance("a", {CALLOUT_REQUEST_HEADERS}),
                     MadeInstance("b", {CALLOUT_REQUEST_HEADERS, CALLOUT_RESPONSE_TRAILERS})}));
  EXPECT_THAT(needs.plugins, ElementsAre("a", "b"));
  EXPECT_EQ(needs.request.headers_for, "a");
  EXPECT_EQ(needs.request.body(), BodyNeed::kNone);
  EXPECT_FALSE(needs.request.trailers());
  EXPECT_EQ(needs.response.trailers_for, "b");
  // The host judges what follows by the headers.
  EXPECT_EQ(needs.response.headers_for, "b");
}

TEST(EnvoyNeeds, AnyInstanceThatTakesWholeBodiesMakesThemWhole) {
  const std::vector<callout_phase_t> body = {CALLOUT_REQUEST_BODY};
  EnvoyNeeds needs = NeedsOf({}, MadeChain({MadeInstance("chunks", body)}));
  EXPECT_EQ(needs.request.body(), BodyNeed::kChunks);
  EXPECT_EQ(needs.whole_body_bytes_max, 0u);
  needs = NeedsOf({}, MadeChain({MadeInstance("chunks", body),
                                 MadeInstance("whole", body, R"({"max_whole_body_bytes": 5})")}));
  EXPECT_EQ(needs.request.body(), BodyNeed::kWhole);
  EXPECT_EQ(needs.request.whole_body_for, "whole");
  EXPECT_EQ(needs.response.body(), BodyNeed::kNone);
  EXPECT_EQ(needs.whole_body_bytes_max, 5u);
}

TEST(EnvoyNeeds, AMatchNeedsTheRequestsHeadersAndItsAttributes) {
  const EnvoyNeeds needs = NeedsOf(
      {}, MadeChain({MadeInstance("a", {CALLOUT_RESPONSE_HEADERS},
                                  R"({"match": {"attributes": {"x.b": "1", "x.a": "2"}}})")}));
  EXPECT_EQ(needs.request.headers_for, "a");
  EXPECT_THAT(needs.attributes, ElementsAre("x.a", "x.b"));
}

TEST(EnvoyNeeds, APolicyOtherThanContinueDenies) {
  const std::vector<callout_phase_t> headers = {CALLOUT_REQUEST_HEADERS};
  const auto lenient = MadeInstance("lenient", headers, R"({"policy": "continue"})");
  EXPECT_EQ(NeedsOf({}, MadeChain({lenient})).denying, "");
  EXPECT_EQ(NeedsOf({}, MadeChain({lenient, MadeInstance("strict", headers)})).denying, "strict");
}

TEST(EnvoyNeeds, DeadlinesOfTheInstancesOfOneMessageAddUp) {
  Config config;
  config.stream_limits.hook_deadline_ms = 100;
  const auto both = MadeInstance("both", {CALLOUT_REQUEST_HEADERS, CALLOUT_RESPONSE_HEADERS});
  EnvoyNeeds needs =
      NeedsOf(config, MadeChain({both, MadeInstance("one", {CALLOUT_RESPONSE_HEADERS})}));
  EXPECT_EQ(needs.answer_ms_max, 200u);
  EXPECT_GT(MessageTimeoutMs(needs), 200u);
  // Never below Envoy's default.
  EXPECT_EQ(MessageTimeoutMs(NeedsOf(config, Chain())), 200u);
}

TEST(EnvoyNeeds, TwoHealthChecksFitIntoTheDrainDelay) {
  EnvoyNeeds needs;
  for (const uint64_t delay_ms : {500, 1500, 3000, 5000, 60000}) {
    needs.drain_delay_ms = delay_ms;
    // Two intervals, and the timeout of the second.
    EXPECT_LT(3 * HealthIntervalMs(needs), delay_ms) << delay_ms;
  }
}

TEST(EnvoyNeeds, BufferedBodiesStayBelowTheLimitOfMessages) {
  EnvoyNeeds needs;
  needs.message_bytes_max = 16777216;
  EXPECT_EQ(BufferBytes(needs), kEnvoyBufferBytesDefault);
  needs.whole_body_bytes_max = 5000000;
  EXPECT_EQ(BufferBytes(needs), 5000000u);
  needs.whole_body_bytes_max = 20000000;
  EXPECT_LT(BufferBytes(needs), needs.message_bytes_max);
  needs.message_bytes_max = 1024;
  EXPECT_LT(BufferBytes(needs), needs.message_bytes_max);
}

TEST(EnvoyNeeds, EndpointsAreWhereTheHostListens) {
  Config config;
  config.plaintext_address = *ParseAddress("0.0.0.0:8080");
  config.secure_address = *ParseAddress("[::1]:9443");
  EnvoyNeeds needs = NeedsOf(config, Chain());
  EXPECT_EQ(needs.plaintext->ip, "");
  EXPECT_EQ(needs.plaintext->port, 8080);
  EXPECT_EQ(needs.secure->ip, "::1");
  EXPECT_EQ(needs.secure->port, 9443);
  EXPECT_FALSE(needs.health.has_value());
  config.plaintext_address = *ParseAddress("unix:/run/callout.sock");
  EXPECT_EQ(NeedsOf(config, Chain()).plaintext->unix_path, "/run/callout.sock");
}

}  // namespace
}  // namespace callout::host
