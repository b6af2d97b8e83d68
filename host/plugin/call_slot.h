// SPDX-License-Identifier: Apache-2.0

// The memory that a plugin's callout_call_t* points to. It shows when a pointer is used too late.
//
// A slot is taken for one call and released when the call is over. Its memory is never freed, and
// is reused only after many later calls. So a finish() on a call that is over finds its slot empty
// or finished, and has no effect, also after the stream and the instance were destroyed.
//
//   CallSlot* slot = CallSlots::Take();
//   slot->state.store(&state);     // from here on the services find the call
//   hook(&slot->call);
//   CallSlots::Release(slot, CallSlots::Reuse::kSoon);
//
// Each thread has its own slots. Take and Release need no lock, and different threads may call them
// for one slot. The slots of a thread that has ended go to the next new thread.
//
// Tested by tests/host/plugin/call_slot_test.cc.
#ifndef CALLOUT_HOST_PLUGIN_CALL_SLOT_H_
#define CALLOUT_HOST_PLUGIN_CALL_SLOT_H_

#include <callout/plugin.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "host/plugin/call_handshake.h"

namespace callout::host {

struct CallState;

struct alignas(64) CallSlot {
  // The slot of the plugin's pointer `call`, for which IsCall is true.
  static CallSlot* From(const callout_call_t* call) {
    return reinterpret_cast<CallSlot*>(const_cast<callout_call_t*>(call));
  }

  // False for a copy of a call.
  static bool IsCall(const callout_call_t* call) { return call->self == call; }

  callout_call_t call = {};
  // What a plugin finds that reads fields which this host does not know.
  std::array<uint64_t, 8> spare{};
  std::atomic<CallState*> state{nullptr};  // null: the call is over
  CallHandshake handshake;
  callout_status_t finish_status = 0;  // by whoever claimed the handshake
  bool may_respond = false;            // not at stream open, cancel and close
  uint64_t stream_id = 0;
  CallSlot* next = nullptr;  // of CallSlots
  // --strict_plugins: the bytes that the plugin was shown, for this call only.
  std::unique_ptr<char[]> shown;
  size_t shown_bytes = 0;
};

class CallSlots {
 public:
  // How many other calls are made on a thread before a slot is used again.
  enum class Reuse : uint8_t {
    kSoon,    // its hook has returned: 128
    kLate,    // it was deferred, so that some thread may still have it: 4,096
    kStrict,  // --strict_plugins: 65,536
  };

  // A slot whose call is all zeroes. Any thread.
  static CallSlot* Take();
  // The call is over. In a strict slot the bytes that were shown are overwritten. Any
  // thread; the caller uses the slot no more.
  static void Release(CallSlot* slot, Reuse reuse);
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_CALL_SLOT_H_
