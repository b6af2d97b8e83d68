// SPDX-License-Identifier: Apache-2.0

// Records which hook of which plugin runs on which thread, in memory that can still be read when
// the process is dead: a supervisor shares it, and signal handlers read it.
//
//   HookTable* table = HookTable::Share(fd);            // or the process's own, by default
//   HookTable::Use(table);
//   const uint32_t plugin = HookTable::InUse()->FindOrAddPlugin("10-auth");
//   { const HookScope scope({plugin, Hook::kClose}, now_ns, stream_id); … call the hook … }
//
// A call costs a few plain stores to memory that only its thread writes. There are kThreadsMax
// slots; further threads are not recorded.
//
// Any thread may call FindOrAddPlugin, Use and Share; a HookScope belongs to one thread. Anyone may
// read at any time, and sees each hook consistently.
//
// The reader trusts nothing, since a plugin may have written anywhere in the memory. Whatever is in
// it, reading stays within it and ends. The values may be nonsense; the caller has to check them.
#ifndef CALLOUT_HOST_PLUGIN_HOOK_TABLE_H_
#define CALLOUT_HOST_PLUGIN_HOOK_TABLE_H_

#include <callout/plugin.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "host/base/owned_fd.h"

namespace callout::host {

// Phases are their own numbers, with 0 for on_process.
enum class Hook : uint8_t {
  kProcess = 0,
  kRequestHeaders = CALLOUT_REQUEST_HEADERS,
  kResponseTrailers = CALLOUT_RESPONSE_TRAILERS,
  kOpen,
  kClose,
  kCancel,
  kCreate,
  kDestroy,
  kLoad,   // the constructors of the file
  kCheck,  // and the others in the order of their phases
  kReadData,
  kWriteData,
  kConnection,
  kRateLimit,
  kTimer,
  kCallDone,
};

inline constexpr Hook HookOf(callout_phase_t phase) {
  if (phase < CALLOUT_CHECK) return static_cast<Hook>(phase);
  return static_cast<Hook>(static_cast<uint32_t>(Hook::kCheck) + (phase - CALLOUT_CHECK));
}

// "callout_on_request_headers", …; "an unknown hook" for an invalid number.
const char* HookName(Hook hook);
bool IsHook(Hook hook);

// Where a thread is. `plugin` is an index in the table; 0: in no hook.
struct HookPlace {
  uint32_t plugin = 0;
  Hook hook = Hook::kProcess;
  bool may_wait = false;  // its thread is not one that serves streams
};

class HookTable {
 public:
  static constexpr size_t kThreadsMax = 1024;
  static constexpr size_t kPluginsMax = 1024;
  static constexpr size_t kNameBytesMax = 128;

  struct Running {
    HookPlace place;
    uint64_t since_ns = 0;
    int32_t thread = 0;      // the kernel's thread id
    uint64_t stream_id = 0;  // of the process; 0: the hook is of no stream
  };

  // Its thread writes a slot; others read it.
  struct alignas(64) Slot {
    std::atomic<uint64_t> place{0};  // a packed HookPlace; written last
    std::atomic<uint64_t> since_ns{0};
    std::atomic<uint64_t> stream_id{0};
    std::atomic<int32_t> thread{0};  // 0: free
  };

  // A new file for a table. Its size is sealed, since readers of a file that shrinks would crash.
  // UNAVAILABLE with the system's reason.
  static absl::StatusOr<OwnedFd> MakeFile();
  // The table in such a file. UNAVAILABLE if it cannot be mapped. Never unmapped.
  static absl::StatusOr<HookTable*> Share(int fd);
  // Makes this the table in which hooks are recorded. Call it before the first hook.
  static void Use(HookTable* table);
  static HookTable* InUse();

  // The index of the name, from 1; 0 if the table is full.
  uint32_t FindOrAddPlugin(std::string_view name);
  // At most kNameBytesMax bytes of the table's memory, with any values; "" for 0 and for an invalid
  // index. Safe in a signal handler.
  std::string_view PluginName(uint32_t plugin) const;

  // Records that this thread ends the process, for CrashPlace. Only the first call counts. Safe in
  // a signal handler.
  static void NoteCrash();
  // Records that the host itself ends the process, whatever plugins do meanwhile. Only the first
  // call of the two counts.
  static void NoteOwnEnd();
  // Where the thread was that ended the process; plugin 0: in no hook, or by NoteOwnEnd. Nothing if
  // the process recorded no end.
  std::optional<HookPlace> CrashPlace() const;
  // Whether the process recorded its end by NoteOwnEnd.
  bool ended_itself() const;

  // The hooks that run now, or ran when the process ended.
  std::vector<Running> ListRunning() const;

  // Clears the table for the next process that uses it. No process may use it meanwhile.
  void Clear();

  // This thread's slot, which it takes if it has none; null if none is free.
  static Slot* ThisThread();
  // The same for signal handlers: null if the thread has never been in a hook.
  static const Slot* OfThisThread();

  // Hooks on this thread may wait from now on: it serves no stream beside the one of the hook, as a
  // thread of the blocking pool, or none that anybody waits for, as one of shadows.
  static void LetThisThreadWait() { t_may_wait_ = true; }
  static bool ThisThreadMayWait() { return t_may_wait_; }

  static uint64_t Pack(const HookPlace& place) {
    return uint64_t{place.plugin} << 16 | uint64_t{place.may_wait} << 8 |
           static_cast<uint8_t>(place.hook);
  }
  static HookPlace Unpack(uint64_t packed) {
    return {static_cast<uint32_t>(packed >> 16), static_cast<Hook>(packed & 0xff),
            (packed >> 8 & 1) != 0};
  }

 private:
  friend class ThreadSlot;
  static constexpr uint64_t kCrashed = uint64_t{1} << 63;
  static constexpr uint64_t kOwnEnd = uint64_t{1} << 62;  // with kCrashed, and no place
  // Without a constructor, so that a read of it is one instruction.
  static inline constinit thread_local bool t_may_wait_ = false;
  Slot* TakeSlot();

  std::array<Slot, kThreadsMax> slots_;
  std::atomic<uint64_t> crash_{0};  // a packed HookPlace, and kCrashed
  std::atomic<uint32_t> plugin_count_{0};
  // Written before plugin_count_ includes them, and never changed.
  std::array<std::array<char, kNameBytesMax + 1>, kPluginsMax> names_{};
};

// While it lives, the table says that the thread is in the hook. Scopes can nest.
class HookScope {
 public:
  HookScope(const HookPlace& place, uint64_t now_ns, uint64_t stream_id = 0)
      : slot_(HookTable::ThisThread()) {
    if (slot_ == nullptr) return;
    outer_ = slot_->place.load(std::memory_order_relaxed);
    outer_since_ns_ = slot_->since_ns.load(std::memory_order_relaxed);
    outer_stream_id_ = slot_->stream_id.load(std::memory_order_relaxed);
    slot_->since_ns.store(now_ns, std::memory_order_relaxed);
    slot_->stream_id.store(stream_id, std::memory_order_relaxed);
    slot_->place.store(HookTable::Pack(place), std::memory_order_release);
  }
  ~HookScope() {
    if (slot_ == nullptr) return;
    slot_->place.store(outer_, std::memory_order_release);
    slot_->since_ns.store(outer_since_ns_, std::memory_order_relaxed);
    slot_->stream_id.store(outer_stream_id_, std::memory_order_relaxed);
  }
  HookScope(const HookScope&) = delete;
  HookScope& operator=(const HookScope&) = delete;

  // The call goes on in another hook.
  void MoveTo(const HookPlace& place) {
    if (slot_ != nullptr) slot_->place.store(HookTable::Pack(place), std::memory_order_release);
  }

 private:
  HookTable::Slot* const slot_;
  uint64_t outer_ = 0;
  uint64_t outer_since_ns_ = 0;
  uint64_t outer_stream_id_ = 0;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_HOOK_TABLE_H_
