#include "host/plugin_supply.h"

#include "host/plugin_status.h"
#include "host/stream_environment.h"

namespace callout::host {
namespace {

Reloader::Options ReloaderOptions(const Config& config, GenerationTarget* target,
                                  Metrics* metrics) {
  Reloader::Options options;
  options.sources.plugins = config.plugins;
  options.sources.watch_plugins = config.reload.watch_plugins;
  options.sources.directories = config.reload.directories;
  options.require_plugins = config.reload.require_plugins;
  options.target = target;
  options.metrics = metrics;
  return options;
}

}  // namespace

PluginSet::Options PluginSetOptions(const Config& config, Metrics* metrics) {
  PluginSet::Options options;
  options.instance.metrics = metrics;
  options.instance.message_bytes_max = config.limits.message_bytes_max;
  options.generations_max = config.reload.generations_max;
  options.guard = config.reload.guard;
  return options;
}

PluginSupply::PluginSupply(const Config& config, Metrics* metrics, GenerationTarget* target,
                           std::shared_ptr<const Wake> wake)
    : config_(config),
      target_(target),
      reloader_(ReloaderOptions(config, target, metrics)),
      loop_(std::move(wake)) {}

PluginSupply::~PluginSupply() { Stop(); }

absl::StatusOr<std::unique_ptr<PluginSupply>> PluginSupply::Load(const Config& config,
                                                                 Metrics* metrics,
                                                                 GenerationTarget* target,
                                                                 std::shared_ptr<const Wake> wake) {
  std::unique_ptr<PluginSupply> supply(new PluginSupply(config, metrics, target, std::move(wake)));
  if (absl::Status status = supply->reloader_.LoadFirst(MonotonicNs()); !status.ok()) return status;
  return supply;
}

void PluginSupply::Follow() {
  reloader_.LogFirst();
  loop_.Start(&reloader_, [this] { target_->DoChores(); });
}

std::string PluginSupply::StatusJson(const std::vector<prometheus::MetricFamily>& metrics) const {
  return PluginStatusJson(reloader_.Status(), target_->GetUsage(), config_.reload.generations_max,
                          metrics);
}

}  // namespace callout::host
