// SPDX-License-Identifier: Apache-2.0

#include "host/reload/plugin_manager.h"

#include "host/base/clock.h"
#include "host/reload/plugin_status.h"

namespace callout::host {
namespace {

Reloader::Options ReloaderOptions(const PluginManager::Options& from, GenerationTarget* target,
                                  Metrics* metrics) {
  Reloader::Options options;
  options.sources.plugins = from.plugins;
  options.sources.watch_plugins = from.reload.watch_plugins;
  options.sources.directories = from.reload.directories;
  options.require_plugins = from.reload.require_plugins;
  options.file_rules = from.reload.file_rules;
  options.create_timeout_ms = from.reload.create_timeout_ms;
  options.target = target;
  options.metrics = metrics;
  return options;
}

}  // namespace

PluginSet::Options PluginSetOptions(const ReloadConfig& reload, size_t message_bytes_max,
                                    Metrics* metrics) {
  PluginSet::Options options;
  options.instance.metrics = metrics;
  options.instance.message_bytes_max = message_bytes_max;
  options.instance.strict = reload.strict_plugins;
  options.generations_max = reload.generations_max;
  options.guard = reload.guard;
  return options;
}

PluginManager::PluginManager(const Options& options, Metrics* metrics, GenerationTarget* target,
                             std::shared_ptr<const Wake> wake)
    : generations_max_(options.reload.generations_max),
      target_(target),
      reloader_(ReloaderOptions(options, target, metrics)),
      loop_(std::move(wake)) {}

PluginManager::~PluginManager() { Stop(); }

absl::StatusOr<std::unique_ptr<PluginManager>> PluginManager::Load(
    const Options& options, Metrics* metrics, GenerationTarget* target,
    std::shared_ptr<const Wake> wake) {
  std::unique_ptr<PluginManager> manager(
      new PluginManager(options, metrics, target, std::move(wake)));
  if (absl::Status status = manager->reloader_.LoadFirst(MonotonicNs()); !status.ok())
    return status;
  return manager;
}

void PluginManager::Follow() {
  reloader_.LogFirst();
  loop_.Start(&reloader_, [this] { target_->DoChores(); });
}

std::string PluginManager::StatusJson(const std::vector<prometheus::MetricFamily>& metrics) const {
  return PluginStatusJson(reloader_.Status(), target_->GetUsage(), generations_max_, metrics);
}

}  // namespace callout::host
