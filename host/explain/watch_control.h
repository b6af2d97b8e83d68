// SPDX-License-Identifier: Apache-2.0

// What operators change while the host runs: log levels, and the rules that mark exchanges. It has
// the settings in force, and brings each change to all processes that serve streams.
//
//   WatchControl control(settings, [&](const WatchSettings& now) { traffic->SetWatch(now); });
//   absl::Status status = control.SetLogLevel("auth", "debug");     // "": all lines; "default":
//   back status = control.AddRule("header=x-tenant:7&count=5"); control.ClearRules();
//
// Any thread; one change at a time, in its order.
//
// Tested by tests/host/explain/explainer_test.cc.
#ifndef CALLOUT_HOST_EXPLAIN_WATCH_CONTROL_H_
#define CALLOUT_HOST_EXPLAIN_WATCH_CONTROL_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "host/base/clock.h"
#include "host/explain/explainer.h"

namespace callout::host {

class WatchControl {
 public:
  // `apply` is called with every change, with a lock held, and at once.
  using Apply = std::function<void(const WatchSettings&)>;
  // `now_ns` is MonotonicNs, but for tests. `settings` has no rules yet.
  WatchControl(WatchSettings settings, Apply apply, std::function<uint64_t()> now_ns = MonotonicNs)
      : apply_(std::move(apply)), now_ns_(std::move(now_ns)), settings_(std::move(settings)) {
    apply_(settings_);
  }

  // Without rules whose time is over.
  WatchSettings settings();

  // The level of lines about `plugin` and of its own; "": of all lines but those of plugins with a
  // level of their own. `level` "default" takes a plugin's own level away. INVALID_ARGUMENT if it
  // is none, RESOURCE_EXHAUSTED if too many plugins have one.
  absl::Status SetLogLevel(const std::string& plugin, std::string_view level);

  // Errors of ParseExchangeRule; RESOURCE_EXHAUSTED if there are kExchangeRulesMax whose time is
  // not over. A rule keeps its place for its `seconds`, also if its `count` is used up before. One
  // that is there already begins anew.
  absl::Status AddRule(const std::string& form);
  void ClearRules();

  // Begins a recording; one that is there ends. The order's `id` is chosen here.
  void StartTap(TapOrder order);
  // False: there is none.
  bool StopTap();

 private:
  void DropExpired();
  void EraseRule(size_t index);

  const Apply apply_;
  const std::function<uint64_t()> now_ns_;
  std::mutex mutex_;  // guards the following
  WatchSettings settings_;
  std::vector<uint64_t> rules_until_ns_;  // of settings_.rules
  uint64_t last_tap_ = 0;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_EXPLAIN_WATCH_CONTROL_H_
