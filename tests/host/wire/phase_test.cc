// SPDX-License-Identifier: Apache-2.0

#include "host/wire/phase.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "envoy/service/ext_proc/v3/external_processor.pb.h"

namespace callout::host {
namespace {

namespace ext_proc = envoy::service::ext_proc::v3;

TEST(Phase, HasTheNameOfItsField) {
  const auto* oneof = ext_proc::ProcessingRequest::descriptor()->FindOneofByName("request");
  ASSERT_EQ(oneof->field_count(), 6);
  for (int i = 0; i < oneof->field_count(); ++i) {
    const auto phase = static_cast<callout_phase_t>(oneof->field(i)->number());
    EXPECT_EQ(PhaseName(phase), oneof->field(i)->name());
    EXPECT_EQ(IsRequestPhase(phase), PhaseName(phase).starts_with("request"));
    EXPECT_EQ(IsHeadersPhase(phase), PhaseName(phase).ends_with("headers"));
    EXPECT_EQ(IsBodyPhase(phase), PhaseName(phase).ends_with("body"));
    EXPECT_EQ(IsTrailersPhase(phase), PhaseName(phase).ends_with("trailers"));
    const auto* response =
        ext_proc::ProcessingResponse::descriptor()->FindFieldByName(oneof->field(i)->name());
    EXPECT_EQ(ResponseField(phase), static_cast<callout_field_t>(response->number()));
  }
  EXPECT_EQ(PhaseName(0), "process");
  EXPECT_EQ(PhaseName(8), "unknown");
  EXPECT_EQ(PhaseName(CALLOUT_CHECK), "check");
  EXPECT_EQ(PhaseName(CALLOUT_READ_DATA), "read_data");
  EXPECT_EQ(PhaseName(CALLOUT_WRITE_DATA), "write_data");
  EXPECT_EQ(PhaseName(CALLOUT_CONNECTION), "connection");
  EXPECT_EQ(PhaseName(CALLOUT_RATE_LIMIT + 1), "unknown");
  EXPECT_EQ(PhaseName(CALLOUT_RATE_LIMIT), "rate_limit");
}

TEST(Phase, EachOneHasAPlaceOfItsOwn) {
  std::set<size_t> places = {PhaseSlot(0), PhaseSlot(1)};
  for (const callout_phase_t phase : kPhases) {
    EXPECT_TRUE(IsKnownPhase(phase));
    EXPECT_LT(PhaseSlot(phase), kPhaseSlots);
    EXPECT_TRUE(places.insert(PhaseSlot(phase)).second) << PhaseName(phase);
  }
  for (const callout_phase_t phase : {8u, 31u, 37u, 63u}) {
    EXPECT_FALSE(IsKnownPhase(phase)) << phase;
  }
}

TEST(Phase, ResponseFieldsAreTheMembersOfTheOneof) {
  std::set<int> members;
  const auto* oneof = ext_proc::ProcessingResponse::descriptor()->FindOneofByName("response");
  for (int i = 0; i < oneof->field_count(); ++i) members.insert(oneof->field(i)->number());
  for (int field = 0; field < 32; ++field) {
    EXPECT_EQ(IsResponseField(static_cast<callout_field_t>(field)), members.count(field) == 1)
        << field;
  }
}

}  // namespace
}  // namespace callout::host
