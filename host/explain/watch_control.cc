// SPDX-License-Identifier: Apache-2.0

#include "host/explain/watch_control.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "host/base/clock.h"

namespace callout::host {

WatchSettings WatchControl::settings() {
  const std::lock_guard<std::mutex> lock(mutex_);
  DropExpired();
  return settings_;
}

// Under mutex_. The processes know by themselves when a rule's time is over.
void WatchControl::DropExpired() {
  const uint64_t now_ns = now_ns_();
  for (size_t i = settings_.rules.size(); i > 0; --i) {
    if (rules_until_ns_[i - 1] <= now_ns) EraseRule(i - 1);
  }
}

void WatchControl::EraseRule(size_t index) {
  settings_.rules.erase(settings_.rules.begin() + static_cast<ptrdiff_t>(index));
  rules_until_ns_.erase(rules_until_ns_.begin() + static_cast<ptrdiff_t>(index));
}

absl::Status WatchControl::SetLogLevel(const std::string& plugin, std::string_view level) {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::map<std::string, LogLevel>& levels = settings_.plugin_log_levels;
  if (!plugin.empty() && level == "default") {
    levels.erase(plugin);
    apply_(settings_);
    return absl::OkStatus();
  }
  const std::optional<LogLevel> parsed = ParseLogLevel(level);
  if (!parsed.has_value()) {
    constexpr size_t kShownMax = 64;
    return absl::InvalidArgumentError(fmt::format(
        "log level '{}': expected debug, info, warning or error{}",
        EscapeControls(level.substr(0, kShownMax)), plugin.empty() ? "" : ", or default"));
  }
  if (plugin.empty()) {
    settings_.log_level = *parsed;
  } else if (levels.size() >= kPluginLogLevelsMax && !levels.contains(plugin)) {
    return absl::ResourceExhaustedError(fmt::format(
        "{} plugins have log levels of their own, and more are not kept; set one to default",
        levels.size()));
  } else {
    levels[plugin] = *parsed;
  }
  apply_(settings_);
  return absl::OkStatus();
}

absl::Status WatchControl::AddRule(const std::string& form) {
  const absl::StatusOr<ExchangeRule> rule = ParseExchangeRule(form);
  if (!rule.ok()) return rule.status();
  const std::lock_guard<std::mutex> lock(mutex_);
  DropExpired();
  const auto known = std::find(settings_.rules.begin(), settings_.rules.end(), form);
  if (known != settings_.rules.end()) {
    // Without it for a moment, so that it begins anew.
    EraseRule(static_cast<size_t>(known - settings_.rules.begin()));
    apply_(settings_);
  } else if (settings_.rules.size() >= kExchangeRulesMax) {
    return absl::ResourceExhaustedError(fmt::format(
        "there are {} rules, and more are not kept; clear them first", settings_.rules.size()));
  }
  settings_.rules.push_back(form);
  rules_until_ns_.push_back(now_ns_() + uint64_t{rule->seconds} * 1'000'000'000);
  apply_(settings_);
  return absl::OkStatus();
}

void WatchControl::ClearRules() {
  const std::lock_guard<std::mutex> lock(mutex_);
  settings_.rules.clear();
  rules_until_ns_.clear();
  apply_(settings_);
}

void WatchControl::StartTap(TapOrder order) {
  const std::lock_guard<std::mutex> lock(mutex_);
  order.id = ++last_tap_;
  settings_.tap = std::move(order);
  apply_(settings_);
}

bool WatchControl::StopTap() {
  const std::lock_guard<std::mutex> lock(mutex_);
  const TapOrder order = std::exchange(settings_.tap, {});
  apply_(settings_);
  return order.id != 0 && order.until_ns > MonotonicNs();
}

}  // namespace callout::host
