// SPDX-License-Identifier: Apache-2.0

// Decides who settles a call: the thread whose hook returns, the thread that calls finish(), or the
// stream at the deadline. They may race; each asks once and learns whether it has to act.
//
//   handshake.Begin();
//   if (handshake.OnReturn()) settle;          // the hook has returned DEFERRED
//   if (handshake.Claim()) {                   // finish() …
//     status = …;
//     switch (handshake.OnFinish()) …
//   }
//   if (handshake.OnDeadline()) answer;        // by the policy; finish() comes later
//   handshake.End();                           // finish() is refused from here on
//
// Begin and End are for the stream's thread, while nobody else has the call. OnReturn is
// for the thread of the hook, Claim and OnFinish for any, OnDeadline and OnLeave for the
// stream's own. What the side that finishes has written before OnFinish is seen by who
// acts after it.
#ifndef CALLOUT_HOST_PLUGIN_CALL_HANDSHAKE_H_
#define CALLOUT_HOST_PLUGIN_CALL_HANDSHAKE_H_

#include <atomic>
#include <cstdint>

namespace callout::host {

class CallHandshake {
 public:
  enum class Finish : uint8_t {
    kRefused,   // it was finished before
    kReturned,  // the hook's own thread settles the call when it returns
    kPost,      // tell the stream
  };

  // `detached`: the hook runs on a thread of the blocking pool.
  void Begin(bool detached = false) {
    bits_.store(detached ? uint32_t{kDetached} : 0, std::memory_order_relaxed);
  }

  // A detached call has got its thread. `in_time`: the hook will be called.
  // True if the stream has already responded for the plugin: the call then stays unbegun.
  bool OnBegin(bool in_time) {
    uint32_t bits = Bits();
    while ((bits & kExpired) == 0 &&
           !bits_.compare_exchange_weak(bits, bits | (in_time ? kBegun : kDropped),
                                        std::memory_order_acq_rel, std::memory_order_acquire)) {
    }
    return (bits & kExpired) != 0;
  }

  // A detached call: the phase's hook is about to be called. False: the client has left,
  // so it is not.
  bool OnHook() { return (Set(kHook) & kLeft) == 0; }

  // The client has left. True: the plugin works on the call, and is to be told.
  bool OnLeave() {
    const uint32_t before = Set(kLeft);
    return (before & kFinished) == 0 && (before & (kDetached | kHook)) != kDetached;
  }

  // For finish(). True: the caller is the first, and the call lives until its OnFinish.
  bool Claim() { return (Set(kClaimed) & kClaimed) == 0; }

  // True: it has been finished already, so the caller settles it, or posts that it is.
  bool OnReturn() { return (Set(kReturned) & kFinished) != 0; }

  // The hook of a detached call has returned something else than DEFERRED: the caller posts.
  void OnDone() { bits_.fetch_or(kFinished | kDone, std::memory_order_acq_rel); }

  // `expired`: the stream has responded for the plugin meanwhile.
  Finish OnFinish(bool* expired) {
    const uint32_t before = Set(kFinished);
    *expired = (before & kExpired) != 0;
    if ((before & kFinished) != 0) return Finish::kRefused;
    return (before & kReturned) != 0 ? Finish::kPost : Finish::kReturned;
  }

  // True: the caller responds for the plugin, and a later response is ignored. False: the call was
  // over in time, and the event has been posted.
  bool OnDeadline() { return !IsOver(Set(kExpired)); }

  // The call is over.
  void End() { bits_.store(kClaimed | kFinished, std::memory_order_release); }

  bool finished() const { return (Bits() & kFinished) != 0; }
  // Finished, and no hook holds it up: one of the pool may still run, or hang, after finish().
  bool over() const { return IsOver(Bits()); }
  bool expired() const { return (Bits() & kExpired) != 0; }
  bool detached() const { return (Bits() & kDetached) != 0; }
  // A detached call whose hook was not called because it was too late.
  bool dropped() const { return (Bits() & kDropped) != 0; }
  // A detached call that waits for a thread, or was still waiting at its deadline.
  bool unbegun() const { return (Bits() & (kDetached | kBegun)) == kDetached; }
  bool returned() const { return (Bits() & kReturned) != 0; }
  // The hook does not run on the stream's thread now.
  bool elsewhere() const { return (Bits() & (kReturned | kDetached)) != 0; }

 private:
  enum Bit : uint32_t {
    kReturned = 1,
    kFinished = 2,
    kExpired = 4,
    kDetached = 8,
    kBegun = 16,
    kDropped = 32,
    kHook = 64,
    kLeft = 128,
    kClaimed = 256,
    kDone = 512,
  };

  static bool IsOver(uint32_t bits) {
    return (bits & kFinished) != 0 &&
           ((bits & kDetached) == 0 || (bits & (kReturned | kDone)) != 0);
  }

  uint32_t Set(Bit bit) { return bits_.fetch_or(bit, std::memory_order_acq_rel); }
  uint32_t Bits() const { return bits_.load(std::memory_order_acquire); }

  std::atomic<uint32_t> bits_{0};
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_CALL_HANDSHAKE_H_
