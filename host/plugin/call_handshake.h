// SPDX-License-Identifier: Apache-2.0

// Who settles a call: the thread whose hook returns, the one that calls finish(), or
// the stream when the deadline has passed. They may meet at any time; each asks here
// once and is told whether it is the one that acts.
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

  // `detached`: the hook runs on a thread kept for blocking ones.
  void Begin(bool detached = false) {
    bits_.store(detached ? uint32_t{kDetached} : 0, std::memory_order_relaxed);
  }

  // A detached call has come to its thread; `in_time`: the hook is going to be called.
  // True: the stream has answered for the plugin already.
  bool OnBegin(bool in_time) { return (Set(in_time ? kBegun : kDropped) & kExpired) != 0; }

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

  // `expired`: the stream has answered for the plugin meanwhile.
  Finish OnFinish(bool* expired) {
    const uint32_t before = Set(kFinished);
    *expired = (before & kExpired) != 0;
    if ((before & kFinished) != 0) return Finish::kRefused;
    return (before & kReturned) != 0 ? Finish::kPost : Finish::kReturned;
  }

  // True: the caller answers for the plugin, and what the plugin says is ignored.
  // False: it was finished in time, and the news is on its way.
  bool OnDeadline() { return (Set(kExpired) & kFinished) == 0; }

  // The call is over.
  void End() { bits_.store(kClaimed | kFinished, std::memory_order_release); }

  bool finished() const { return (Bits() & kFinished) != 0; }
  bool expired() const { return (Bits() & kExpired) != 0; }
  bool detached() const { return (Bits() & kDetached) != 0; }
  // A detached call whose hook was not called, for want of time.
  bool dropped() const { return (Bits() & kDropped) != 0; }
  // A detached call that still waits for a thread.
  bool unbegun() const { return (Bits() & (kDetached | kBegun)) == kDetached; }
  bool returned() const { return (Bits() & kReturned) != 0; }
  // The hook does not run on the stream's own thread at this moment.
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
  };

  uint32_t Set(Bit bit) { return bits_.fetch_or(bit, std::memory_order_acq_rel); }
  uint32_t Bits() const { return bits_.load(std::memory_order_acquire); }

  std::atomic<uint32_t> bits_{0};
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_CALL_HANDSHAKE_H_
