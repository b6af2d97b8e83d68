// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/watchdog.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "host/base/clock.h"
#include "host/base/thread.h"

namespace callout::host {
namespace {

uint64_t LimitOf(const HookPlace& place, const HangLimits& limits) {
  if (IsAtLoad(place.hook)) return limits.create_ms;
  if (place.hook == Hook::kDestroy) return limits.destroy_ms;
  return place.may_wait ? 0 : limits.serving_ms;
}

uint64_t LeastOf(const HangLimits& limits) {
  uint64_t least = UINT64_MAX;
  for (const uint64_t limit : {limits.serving_ms, limits.create_ms, limits.destroy_ms}) {
    if (limit != 0) least = std::min(least, limit);
  }
  return least;
}

}  // namespace

bool IsAtLoad(Hook hook) { return hook == Hook::kLoad || hook == Hook::kCreate; }

std::vector<HookTable::Running> FindHung(const std::vector<HookTable::Running>& running,
                                         const HangLimits& limits, uint64_t now_ns) {
  std::vector<HookTable::Running> hung;
  for (const HookTable::Running& one : running) {
    const uint64_t limit_ms = LimitOf(one.place, limits);
    const bool old = one.since_ns < now_ns && now_ns - one.since_ns >= limit_ms * 1'000'000;
    if (old && limit_ms != 0) hung.push_back(one);
  }
  return hung;
}

std::string DescribeHung(const HookTable& table, const HookTable::Running& hung, uint64_t now_ns) {
  return fmt::format("plugin {} has been in {} for {} ms{}", table.PluginName(hung.place.plugin),
                     HookName(hung.place.hook), (now_ns - hung.since_ns) / 1'000'000,
                     hung.stream_id == 0 ? "" : fmt::format("; stream {}", hung.stream_id));
}

absl::StatusOr<std::unique_ptr<Watchdog>> Watchdog::Start(const HangLimits& limits,
                                                          const HookTable* table, OnHung on_hung) {
  std::unique_ptr<Watchdog> watchdog(new Watchdog(limits, table, std::move(on_hung)));
  absl::StatusOr<std::thread> thread =
      StartThread("the watchdog", [watchdog = watchdog.get()] { watchdog->Run(); });
  if (!thread.ok()) return thread.status();
  watchdog->thread_ = *std::move(thread);
  return watchdog;
}

Watchdog::~Watchdog() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Watchdog::Run() {
  const std::chrono::milliseconds pause(std::clamp<uint64_t>(LeastOf(limits_) / 10, 1, 1000));
  std::unique_lock<std::mutex> lock(mutex_);
  while (!wake_.wait_for(lock, pause, [this] { return stop_; })) {
    lock.unlock();
    Rescan();
    lock.lock();
  }
}

void Watchdog::Rescan() {
  std::set<std::pair<int32_t, uint64_t>> told;
  for (const HookTable::Running& hung : FindHung(table_->ListRunning(), limits_, MonotonicNs())) {
    const std::pair key(hung.thread, hung.since_ns);
    told.insert(key);
    if (told_.count(key) == 0) on_hung_(hung);
  }
  told_ = std::move(told);
}

}  // namespace callout::host
