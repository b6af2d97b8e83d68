// SPDX-License-Identifier: Apache-2.0

// Reports hooks that hang: that have occupied a transport's thread for longer than a limit. Such a
// thread serves no stream, and cannot be taken back.
//
//   absl::StatusOr<std::unique_ptr<Watchdog>> watchdog = Watchdog::Start(
//       5000, HookTable::InUse(), [](const HookTable::Running& hung) { … });
//
// Each call that hangs is reported once, on the watchdog's thread. Hooks on the threads of the
// blocking pool do not count.
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

// Those of `running` that have been running for `limit_ms` at `now_ns`.
std::vector<HookTable::Running> FindHung(const std::vector<HookTable::Running>& running,
                                         uint64_t limit_ms, uint64_t now_ns);

// "plugin 10-auth has been in callout_on_request_headers for 5012 ms; stream 12". Explanations and
// lines about faults have the stream's id with its x-request-id, which nobody looks for at each
// call.
std::string DescribeHung(const HookTable& table, const HookTable::Running& hung, uint64_t now_ns);

class Watchdog {
 public:
  using OnHung = std::function<void(const HookTable::Running&)>;

  // `limit_ms` is above 0. The table outlives the watchdog. UNAVAILABLE if the thread cannot be
  // started.
  static absl::StatusOr<std::unique_ptr<Watchdog>> Start(uint64_t limit_ms, const HookTable* table,
                                                         OnHung on_hung);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  Watchdog(uint64_t limit_ms, const HookTable* table, OnHung on_hung)
      : limit_ms_(limit_ms), table_(table), on_hung_(std::move(on_hung)) {}

  void Run();
  void Rescan();

  const uint64_t limit_ms_;
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
