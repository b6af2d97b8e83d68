// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/call_slot.h"

#include <gtest/gtest.h>

#include <cstring>
#include <set>
#include <thread>

#include "host/plugin/call.h"

namespace callout::host {
namespace {

using Reuse = CallSlots::Reuse;

// How many other calls are made before the slot of a call is used again.
size_t CallsUntilReuse(Reuse reuse, size_t most) {
  CallSlot* const first = CallSlots::Take();
  CallSlots::Release(first, reuse);
  for (size_t others = 0; others < most; ++others) {
    CallSlot* const slot = CallSlots::Take();
    CallSlots::Release(slot, reuse);
    if (slot == first) return others;
  }
  return most;
}

TEST(CallSlots, AreUsedAgainAfterManyOtherCalls) {
  // A thread of its own, whose slots nobody has used before.
  std::thread([] {
    EXPECT_GE(CallsUntilReuse(Reuse::kSoon, 100000), 128u);
    EXPECT_LT(CallsUntilReuse(Reuse::kSoon, 100000), 100000u) << "memory has a limit";
    EXPECT_GE(CallsUntilReuse(Reuse::kLate, 100000), 4096u);
    EXPECT_LT(CallsUntilReuse(Reuse::kLate, 100000), 100000u);
    EXPECT_GE(CallsUntilReuse(Reuse::kStrict, 200000), 65536u);
    EXPECT_LT(CallsUntilReuse(Reuse::kStrict, 200000), 200000u);
  }).join();
}

TEST(CallSlots, AreEmptyWhenTheyAreTaken) {
  CallSlot* const used = CallSlots::Take();
  std::memset(static_cast<void*>(&used->call), 0x5a, sizeof(used->call));
  used->may_respond = true;
  CallSlots::Release(used, Reuse::kSoon);
  CallSlot* slot = nullptr;
  do {
    slot = CallSlots::Take();
    EXPECT_EQ(slot->call.phase, 0u);
    EXPECT_EQ(slot->call.message.data, nullptr);
    EXPECT_FALSE(slot->may_respond);
    CallSlots::Release(slot, Reuse::kSoon);
  } while (slot != used);
}

TEST(CallSlots, AReleasedOneIsOver) {
  CallState state;
  CallSlot* const slot = CallSlots::Take();
  slot->state.store(&state);
  slot->handshake.Begin();
  EXPECT_FALSE(slot->handshake.finished());
  CallSlots::Release(slot, Reuse::kSoon);
  EXPECT_EQ(slot->state.load(), nullptr);
  EXPECT_TRUE(slot->handshake.finished());
  EXPECT_FALSE(slot->handshake.Claim());
}

TEST(CallSlots, OfAThreadThatHasEndedGoToTheNextOne) {
  std::set<CallSlot*> first, second;
  const auto take = [](std::set<CallSlot*>* slots) {
    for (int i = 0; i < 300; ++i) {
      CallSlot* const slot = CallSlots::Take();
      slots->insert(slot);
      CallSlots::Release(slot, Reuse::kSoon);
    }
  };
  std::thread(take, &first).join();
  std::thread(take, &second).join();
  EXPECT_EQ(first, second);
}

}  // namespace
}  // namespace callout::host
