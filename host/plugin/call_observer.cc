// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/call_observer.h"

#include <algorithm>
#include <bit>

namespace callout::host {

std::string_view CallOutcomeName(CallOutcome outcome) {
  constexpr std::array<std::string_view, kCallOutcomes> kNames = {
      "unchanged", "changed", "kept", "immediate", "denied", "fault", "overruled"};
  return kNames[static_cast<size_t>(outcome)];
}

std::string_view OverruledName(Overruled overruled) {
  constexpr std::array<std::string_view, kOverruledCount> kNames = {"",
                                                                    "ended",
                                                                    "replied",
                                                                    "observability",
                                                                    "mode_override",
                                                                    "late_mode",
                                                                    "late_body_headers",
                                                                    "headers_body",
                                                                    "continue_and_replace",
                                                                    "route_cache",
                                                                    "header_value",
                                                                    "append_action",
                                                                    "header_removal"};
  return kNames[static_cast<size_t>(overruled)];
}

void RpcWatchers::Add(RpcWatcher* watcher) {
  if (count_ < kWatchersMax) watchers_[count_++] = watcher;
}

void RpcWatchers::SetActive(const RpcWatcher* watcher, bool active) {
  const auto at = std::find(watchers_.begin(), watchers_.begin() + count_, watcher);
  if (at == watchers_.begin() + count_) return;
  const uint32_t bit = uint32_t{1} << (at - watchers_.begin());
  if (active) {
    active_.fetch_or(bit, std::memory_order_relaxed);
  } else {
    active_.fetch_and(~bit, std::memory_order_relaxed);
  }
}

std::unique_ptr<RpcObservers> RpcWatchers::Watch(const RpcStart& start) const {
  const uint32_t active = active_.load(std::memory_order_relaxed);
  std::unique_ptr<RpcObservers> observers;  // not made for an RPC that nobody wants
  for (uint32_t left = active; left != 0; left &= left - 1) {
    RpcWatcher* const watcher = watchers_[static_cast<size_t>(std::countr_zero(left))];
    if (std::unique_ptr<RpcObserver> observer = watcher->Watch(start)) {
      if (observers == nullptr) observers = std::make_unique<RpcObservers>();
      observers->Add(std::move(observer));
    }
  }
  return observers;
}

}  // namespace callout::host
