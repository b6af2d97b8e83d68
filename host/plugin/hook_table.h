// SPDX-License-Identifier: Apache-2.0

// Which hook of which plugin runs on which thread at this moment, kept where it
// can still be read when the process is dead: in memory that a supervisor shares,
// or that a signal's handler looks at.
//
//   HookTable* table = HookTable::Share(fd);            // or the process's own, by default
//   HookTable::Use(table);
//   const uint32_t plugin = HookTable::InUse()->FindOrAddPlugin("10-auth");
//   { const HookScope scope({plugin, Hook::kClose}, now_ns); … call the hook … }
//
// A call costs a few plain stores to memory that only its thread writes. There
// are as many slots as kThreadsMax; threads beyond are not seen.
//
// FindOrAddPlugin, Use and Share are for any thread; a HookScope belongs to one.
// Reading is for anyone, at any time, and sees each hook in whole.
//
// The reader believes nothing: a plugin may have written anywhere in the memory, at
// any time. Whatever is in it, reading stays inside of it and ends; what is read may
// then be nonsense, which is for the reader's user to see.
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
  kLoad,  // the constructors of the file
  kCheck,
};

inline constexpr Hook HookOf(callout_phase_t phase) {
  return phase == CALLOUT_CHECK ? Hook::kCheck : static_cast<Hook>(phase);
}

// "callout_on_request_headers", …; "an unknown hook" for a number that is none.
const char* HookName(Hook hook);
bool IsHook(Hook hook);

// Where a thread is. `plugin` is an index of the table's; 0: in no hook.
struct HookPlace {
  uint32_t plugin = 0;
  Hook hook = Hook::kProcess;
  bool may_wait = false;  // not on a thread that serves others
};

class HookTable {
 public:
  static constexpr size_t kThreadsMax = 1024;
  static constexpr size_t kPluginsMax = 1024;
  static constexpr size_t kNameBytesMax = 128;

  struct Running {
    HookPlace place;
    uint64_t since_ns = 0;
    int32_t thread = 0;  // as the kernel numbers them
  };

  // A slot is written by the thread that has it, and read by others.
  struct alignas(64) Slot {
    std::atomic<uint64_t> place{0};  // a packed HookPlace; last to be written
    std::atomic<uint64_t> since_ns{0};
    std::atomic<int32_t> thread{0};  // 0: free
  };

  // A new file for a table, whose size nobody can change: a mapping of a file that
  // shrinks would end its readers. UNAVAILABLE with the system's reason.
  static absl::StatusOr<OwnedFd> MakeFile();
  // The table in such a file. UNAVAILABLE if it cannot be mapped. Never unmapped.
  static absl::StatusOr<HookTable*> Share(int fd);
  // From here on this is where hooks are marked. Before the first of them.
  static void Use(HookTable* table);
  static HookTable* InUse();

  // The index of the name, from 1; 0 if the table is full.
  uint32_t FindOrAddPlugin(std::string_view name);
  // At most kNameBytesMax bytes of the table's memory, of any values; "" for 0 and for
  // what is no index. Safe in a signal's handler.
  std::string_view PluginName(uint32_t plugin) const;

  // Notes that this thread ends the process, for CrashPlace. Only the first is
  // kept. Safe in a signal's handler.
  static void NoteCrash();
  // Where the thread was that ended the process, plugin 0 for in no hook; nothing
  // if the process left no word.
  std::optional<HookPlace> CrashPlace() const;

  // The hooks that run now, or ran when the process ended.
  std::vector<Running> ListRunning() const;

  // As new, for the next process that uses the same memory. While no other does.
  void Clear();

  // This thread's slot, which is taken if it has none yet; null if all are taken.
  static Slot* ThisThread();
  // The same, for handlers of signals: null if the thread has never been in a hook.
  static const Slot* OfThisThread();

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
  Slot* TakeSlot();

  std::array<Slot, kThreadsMax> slots_;
  std::atomic<uint64_t> crash_{0};  // a packed HookPlace, and kCrashed
  std::atomic<uint32_t> plugin_count_{0};
  // Written before plugin_count_ covers them, and never again.
  std::array<std::array<char, kNameBytesMax + 1>, kPluginsMax> names_{};
};

// While it lives, the thread is in the hook. They nest.
class HookScope {
 public:
  HookScope(const HookPlace& place, uint64_t now_ns) : slot_(HookTable::ThisThread()) {
    if (slot_ == nullptr) return;
    outer_ = slot_->place.load(std::memory_order_relaxed);
    outer_since_ns_ = slot_->since_ns.load(std::memory_order_relaxed);
    slot_->since_ns.store(now_ns, std::memory_order_relaxed);
    slot_->place.store(HookTable::Pack(place), std::memory_order_release);
  }
  ~HookScope() {
    if (slot_ == nullptr) return;
    slot_->place.store(outer_, std::memory_order_release);
    slot_->since_ns.store(outer_since_ns_, std::memory_order_relaxed);
  }
  HookScope(const HookScope&) = delete;
  HookScope& operator=(const HookScope&) = delete;

  // The same call goes on in another hook.
  void MoveTo(const HookPlace& place) {
    if (slot_ != nullptr) slot_->place.store(HookTable::Pack(place), std::memory_order_release);
  }

 private:
  HookTable::Slot* const slot_;
  uint64_t outer_ = 0;
  uint64_t outer_since_ns_ = 0;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_HOOK_TABLE_H_
