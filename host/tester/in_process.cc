// SPDX-License-Identifier: Apache-2.0

#include "host/tester/in_process.h"

#include <fmt/format.h>

#include <chrono>

#include "absl/status/statusor.h"
#include "host/base/clock.h"
#include "host/plugin/instance.h"
#include "host/plugin/loader.h"

namespace callout::host {

void InProcessRpc::Post(CallState* call, Event event) {
  // The stream may be gone once the lock is released.
  const std::lock_guard lock(mutex_);
  posted_.emplace_back(call, event);
  changed_.notify_all();
}

bool InProcessRpc::Deliver(Stream* stream, uint64_t deadline_ns) {
  std::vector<std::pair<CallState*, Event>> posted;
  {
    std::unique_lock lock(mutex_);
    const auto has_posted = [this] { return !posted_.empty(); };
    if (deadline_ns == 0) {
      changed_.wait(lock, has_posted);
    } else {
      const uint64_t now_ns = MonotonicNs();
      const uint64_t left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
      changed_.wait_for(lock, std::chrono::nanoseconds(left_ns), has_posted);
    }
    posted.swap(posted_);
  }
  for (const auto& [call, event] : posted) stream->OnPosted(call, event);
  return !posted.empty();
}

absl::Status InProcessChain::Add(const Plugin& plugin) {
  if (plugin.settings.disabled) {
    warnings_.push_back(
        fmt::format("plugin {} does not run: its settings disable it", plugin.name));
    return absl::OkStatus();
  }
  absl::StatusOr<std::shared_ptr<const host::Plugin>> loaded = LoadPlugin(plugin.path);
  if (!loaded.ok()) return loaded.status();
  absl::StatusOr<std::shared_ptr<Instance>> instance =
      Instance::Create(*loaded, plugin.name, plugin.config, plugin.settings,
                       {.metrics = &metrics_, .extensions = &extensions_});
  if (!instance.ok()) return instance.status();
  places_.push_back({*std::move(instance)});
  if (plugin.settings.mode == InstanceMode::kShadow) {
    warnings_.push_back(fmt::format(
        "plugin {} is not called: by its settings it is a shadow, which decides nothing; leave out "
        "\"mode\" to run it",
        plugin.name));
  }
  return absl::OkStatus();
}

absl::Status InProcessChain::Begin(const StreamLimits& limits) {
  chains_ = std::make_unique<ChainSource>(ArrangeChain(std::move(places_)));
  absl::StatusOr<std::unique_ptr<StreamEnvironment>> environment =
      StreamEnvironment::Create(limits, chains_.get(), &metrics_);
  if (!environment.ok()) return environment.status();
  environment_ = *std::move(environment);
  return absl::OkStatus();
}

}  // namespace callout::host
