// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/call_slot.h"

#include <cstring>
#include <mutex>
#include <utility>
#include <vector>

namespace callout::host {

namespace {

constexpr std::array<size_t, 3> kReuseAfter = {128, 4096, 65536};
constexpr size_t kBlockSlots = 160;  // more than kReuseAfter[0], so that most threads take one
constexpr char kPoison = '\xdd';

// Slots in the order of their release.
struct SlotLine {
  CallSlot* first = nullptr;
  CallSlot* last = nullptr;
  size_t count = 0;

  void Add(CallSlot* slot) {
    slot->next = nullptr;
    if (count == 0) {
      first = slot;
    } else {
      last->next = slot;
    }
    last = slot;
    ++count;
  }
  CallSlot* Take() {
    --count;
    return std::exchange(first, first->next);
  }
};

// Of one thread.
struct ThreadSlots {
  std::array<SlotLine, kReuseAfter.size()> free;
  std::vector<std::unique_ptr<CallSlot[]>> blocks;

  void Grow() {
    blocks.push_back(std::make_unique<CallSlot[]>(kBlockSlots));
    for (size_t i = 0; i < kBlockSlots; ++i) free[0].Add(&blocks.back()[i]);
  }
  CallSlot* Take() {
    for (size_t i = 0; i < free.size(); ++i) {
      if (free[i].count > kReuseAfter[i]) return free[i].Take();
    }
    Grow();
    return free[0].Take();
  }
};

// Slots of threads that have ended. Never destroyed: slots are not.
struct Left {
  std::mutex mutex;
  std::vector<ThreadSlots*> slots;
  std::vector<ThreadSlots*> all;  // those in use, too, so that leak checkers find them
};
Left& LeftBehind() {
  static auto* const left = new Left;
  return *left;
}

// Without a destructor of its own, so that it costs no check.
thread_local ThreadSlots* t_slots = nullptr;

struct AtThreadEnd {
  ~AtThreadEnd() {
    Left& left = LeftBehind();
    std::lock_guard<std::mutex> lock(left.mutex);
    left.slots.push_back(std::exchange(t_slots, nullptr));
  }
};

void BeginThread() {
  Left& left = LeftBehind();
  std::lock_guard<std::mutex> lock(left.mutex);
  if (left.slots.empty()) {
    left.all.push_back(new ThreadSlots);
    left.slots.push_back(left.all.back());
  }
  t_slots = left.slots.back();
  left.slots.pop_back();
  thread_local const AtThreadEnd at_end;
  static_cast<void>(at_end);
}

}  // namespace

CallSlot* CallSlots::Take() {
  if (t_slots == nullptr) BeginThread();
  CallSlot* const slot = t_slots->Take();
  slot->call = {};
  slot->may_respond = false;
  return slot;
}

void CallSlots::Release(CallSlot* slot, Reuse reuse) {
  if (t_slots == nullptr) BeginThread();
  slot->handshake.End();
  slot->state.store(nullptr, std::memory_order_release);
  if (slot->shown != nullptr) std::memset(slot->shown.get(), kPoison, slot->shown_bytes);
  t_slots->free[static_cast<size_t>(reuse)].Add(slot);
}

}  // namespace callout::host
