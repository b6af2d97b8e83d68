// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/hook_table.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <mutex>
#include <new>

#include "absl/status/status.h"

namespace callout::host {
namespace {

constexpr std::array<const char*, 21> kHookNames = {
    "callout_on_process",
    nullptr,
    "callout_on_request_headers",
    "callout_on_response_headers",
    "callout_on_request_body",
    "callout_on_response_body",
    "callout_on_request_trailers",
    "callout_on_response_trailers",
    "callout_on_stream_open",
    "callout_on_stream_close",
    "callout_on_stream_cancel",
    "callout_plugin_create",
    "callout_plugin_destroy",
    "its constructors, while it was loaded",
    "callout_on_check",
    "callout_on_read_data",
    "callout_on_write_data",
    "callout_on_connection",
    "callout_on_rate_limit",
    "a timer that it has started",
    "the end of a call that it has made",
};

// Zero-filled, so it takes no memory before it is used.
alignas(HookTable) unsigned char own_memory[sizeof(HookTable)];
std::atomic<HookTable*> in_use{nullptr};

constinit thread_local HookTable::Slot* t_slot = nullptr;

}  // namespace

// Releases the slot when the thread ends. It also has a stack for signals, so that a hook that has
// used up the thread's stack is still reported.
class ThreadSlot {
 public:
  ThreadSlot() : slot_(HookTable::InUse()->TakeSlot()) {
    t_slot = slot_;
    stack_t present = {};
    if (sigaltstack(nullptr, &present) != 0 || (present.ss_flags & SS_DISABLE) == 0) return;
    void* memory = mmap(nullptr, kSignalStackBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return;
    stack_.ss_sp = memory;
    stack_.ss_size = kSignalStackBytes;
    sigaltstack(&stack_, nullptr);
  }
  ~ThreadSlot() {
    // A hook called exit(), which is reported later.
    if (slot_ != nullptr && slot_->place.load(std::memory_order_relaxed) != 0) return;
    GiveStackBack();
    t_slot = nullptr;
    if (slot_ == nullptr) return;
    slot_->place.store(0, std::memory_order_relaxed);
    slot_->thread.store(0, std::memory_order_release);
  }
  ThreadSlot(const ThreadSlot&) = delete;
  ThreadSlot& operator=(const ThreadSlot&) = delete;

 private:
  static constexpr size_t kSignalStackBytes = 65536;

  void GiveStackBack() {
    stack_t present = {};
    if (stack_.ss_sp == nullptr || sigaltstack(nullptr, &present) != 0 ||
        present.ss_sp != stack_.ss_sp) {
      return;
    }
    stack_t none = {};
    none.ss_flags = SS_DISABLE;
    if (sigaltstack(&none, nullptr) == 0) munmap(stack_.ss_sp, kSignalStackBytes);
  }

  HookTable::Slot* const slot_;
  stack_t stack_ = {};
};

bool IsHook(Hook hook) {
  const auto number = static_cast<size_t>(hook);
  return number < kHookNames.size() && kHookNames[number] != nullptr;
}

const char* HookName(Hook hook) {
  return IsHook(hook) ? kHookNames[static_cast<size_t>(hook)] : "an unknown hook";
}

absl::StatusOr<OwnedFd> HookTable::MakeFile() {
  OwnedFd file(memfd_create("callout-hooks", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (file.get() < 0 || ftruncate(file.get(), sizeof(HookTable)) != 0 ||
      fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return absl::UnavailableError(
        fmt::format("making the table of running hooks: {}", strerror(errno)));
  }
  return file;
}

absl::StatusOr<HookTable*> HookTable::Share(int fd) {
  void* memory = mmap(nullptr, sizeof(HookTable), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) {
    return absl::UnavailableError(
        fmt::format("mapping the table of running hooks: {}", strerror(errno)));
  }
  // Zeros are the initial values of all members, and a new file has zeros.
  return std::launder(reinterpret_cast<HookTable*>(memory));
}

void HookTable::Use(HookTable* table) { in_use.store(table, std::memory_order_release); }

HookTable* HookTable::InUse() {
  HookTable* table = in_use.load(std::memory_order_acquire);
  return table != nullptr ? table : std::launder(reinterpret_cast<HookTable*>(own_memory));
}

HookTable::Slot* HookTable::ThisThread() {
  if (t_slot == nullptr) {
    static thread_local const ThreadSlot slot;
  }
  return t_slot;
}

const HookTable::Slot* HookTable::OfThisThread() { return t_slot; }

HookTable::Slot* HookTable::TakeSlot() {
  const auto thread = static_cast<int32_t>(syscall(SYS_gettid));
  for (Slot& slot : slots_) {
    int32_t free = 0;
    if (slot.thread.compare_exchange_strong(free, thread, std::memory_order_acq_rel)) return &slot;
  }
  return nullptr;
}

uint32_t HookTable::FindOrAddPlugin(std::string_view name) {
  static std::mutex mutex;
  std::lock_guard<std::mutex> lock(mutex);
  name = name.substr(0, kNameBytesMax);
  const uint32_t count =
      std::min<uint32_t>(plugin_count_.load(std::memory_order_relaxed), kPluginsMax);
  for (uint32_t plugin = 1; plugin <= count; ++plugin) {
    if (PluginName(plugin) == name) return plugin;
  }
  if (count == kPluginsMax) return 0;
  std::copy(name.begin(), name.end(), names_[count].begin());
  plugin_count_.store(count + 1, std::memory_order_release);
  return count + 1;
}

std::string_view HookTable::PluginName(uint32_t plugin) const {
  if (plugin == 0 || plugin > kPluginsMax) return {};
  const char* const name = names_[plugin - 1].data();
  return {name, strnlen(name, kNameBytesMax)};
}

std::vector<HookTable::Running> HookTable::ListRunning() const {
  std::vector<Running> running;
  for (const Slot& slot : slots_) {
    const uint64_t packed = slot.place.load(std::memory_order_acquire);
    const uint64_t since_ns = slot.since_ns.load(std::memory_order_relaxed);
    const uint64_t stream_id = slot.stream_id.load(std::memory_order_relaxed);
    const int32_t thread = slot.thread.load(std::memory_order_acquire);
    const HookPlace place = Unpack(packed);
    // If the thread has gone on meanwhile, `since_ns` and `stream_id` may be those of another hook.
    if (thread == 0 || place.plugin == 0) continue;
    if (slot.place.load(std::memory_order_acquire) != packed) continue;
    running.push_back({place, since_ns, thread, stream_id});
  }
  return running;
}

void HookTable::NoteCrash() {
  const Slot* const slot = OfThisThread();
  const uint64_t place = slot == nullptr ? 0 : slot->place.load(std::memory_order_relaxed);
  uint64_t none = 0;
  InUse()->crash_.compare_exchange_strong(none, place | kCrashed, std::memory_order_release);
}

void HookTable::NoteOwnEnd() {
  uint64_t none = 0;
  InUse()->crash_.compare_exchange_strong(none, kCrashed | kOwnEnd, std::memory_order_release);
}

bool HookTable::ended_itself() const {
  return crash_.load(std::memory_order_acquire) == (kCrashed | kOwnEnd);
}

std::optional<HookPlace> HookTable::CrashPlace() const {
  const uint64_t packed = crash_.load(std::memory_order_acquire);
  if (packed == 0) return std::nullopt;
  return Unpack(packed & ~(kCrashed | kOwnEnd));
}

void HookTable::Clear() {
  // All of it, since a process that crashed may have written anywhere.
  for (Slot& slot : slots_) {
    slot.place.store(0, std::memory_order_relaxed);
    slot.since_ns.store(0, std::memory_order_relaxed);
    slot.stream_id.store(0, std::memory_order_relaxed);
    slot.thread.store(0, std::memory_order_relaxed);
  }
  crash_.store(0, std::memory_order_relaxed);
  plugin_count_.store(0, std::memory_order_relaxed);
  names_ = {};
}

}  // namespace callout::host
