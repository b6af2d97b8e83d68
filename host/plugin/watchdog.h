// SPDX-License-Identifier: Apache-2.0

// Reports hooks that hang: that have occupied a transport's thread for longer than a limit. Such a
// thread serves no stream, and cannot be taken back. It may report creates and destroys that hang,
// too: the reloads of all plugins may wait for them.
//
//   absl::StatusOr<std::unique_ptr<Watchdog>> watchdog = Watchdog::Start(
//       {.serving_ms = 5000}, HookTable::InUse(), [](const HookTable::Running& hung) { … });
//
// Each call that hangs is reported once, on the watchdog's thread. Hooks on threads that may wait,
// as those of the blocking pool, do not count.
//
// Tested by tests/host/plugin/hook_table_test.cc.
#ifndef CALLOUT_HOST_PLUGIN_WATCHDOG_H_
#define CALLOUT_HOST_PLUGIN_WATCHDOG_H_

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "host/plugin/hook_table.h"

namespace callout::host {

// How long hooks may run. 0: as long as they like.
struct HangLimits {
  uint64_t serving_ms = 0;  // on a thread that serves streams
  uint64_t create_ms = 0;   // create, and the constructors of a file that is being loaded
  uint64_t destroy_ms = 0;

  bool any() const { return serving_ms != 0 || create_ms != 0 || destroy_ms != 0; }
};

// Whether the hook is one of those that `create_ms` is for.
bool IsAtLoad(Hook hook);

// Those of `running` that have reached their limit at `now_ns`.
std::vector<HookTable::Running> FindHung(const std::vector<HookTable::Running>& running,
                                         const HangLimits& limits, uint64_t now_ns);

// "plugin 10-auth has been in callout_on_request_headers for 5012 ms; stream 12". Explanations and
// lines about faults have the stream's id with its x-request-id, which nobody looks for at each
// call.
std::string DescribeHung(const HookTable& table, const HookTable::Running& hung, uint64_t now_ns);

class Watchdog {
 public:
  using OnHung = std::function<void(const HookTable::Running&)>;

  // There are limits. The table outlives the watchdog. UNAVAILABLE if the thread cannot be started.
  static absl::StatusOr<std::unique_ptr<Watchdog>> Start(const HangLimits& limits,
                                                         const HookTable* table, OnHung on_hung);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  Watchdog(const HangLimits& limits, const HookTable* table, OnHung on_hung)
      : limits_(limits), table_(table), on_hung_(std::move(on_hung)) {}

  void Run();
  void Rescan();

  const HangLimits limits_;
  const HookTable* const table_;
  const OnHung on_hung_;
  std::set<std::pair<int32_t, uint64_t>> told_;  // thread and since_ns

  std::mutex mutex_;  // guards the following
  std::condition_variable wake_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_WATCHDOG_H_
