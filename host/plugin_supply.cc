#include "host/plugin_supply.h"

#include "host/plugin_status.h"
#include "host/stream_environment.h"

namespace callout::host {
namespace {

PluginSet::Options SetOptions(const Config& config, Metrics* metrics) {
  PluginSet::Options options;
  options.instance.metrics = metrics;
  options.instance.message_bytes_max = config.message_bytes_max;
  options.generations_max = config.reload.generations_max;
  options.guard = config.reload.guard;
  return options;
}

Reloader::Options ReloaderOptions(const Config& config, PluginSet* set, Metrics* metrics) {
  Reloader::Options options;
  options.sources.plugins = config.plugins;
  options.sources.watch_plugins = config.reload.watch_plugins;
  options.sources.directories = config.reload.directories;
  options.require_plugins = config.reload.require_plugins;
  options.target = set;
  options.metrics = metrics;
  return options;
}

}  // namespace

PluginSupply::PluginSupply(const Config& config, Metrics* metrics)
    : config_(config),
      metrics_(metrics),
      set_(SetOptions(config, metrics), loop_.waker()),
      reloader_(ReloaderOptions(config, &set_, metrics)) {}

PluginSupply::~PluginSupply() { Stop(); }

absl::StatusOr<std::unique_ptr<PluginSupply>> PluginSupply::Load(const Config& config,
                                                                 Metrics* metrics) {
  std::unique_ptr<PluginSupply> supply(new PluginSupply(config, metrics));
  if (absl::Status status = supply->reloader_.LoadFirst(MonotonicNs()); !status.ok()) return status;
  return supply;
}

void PluginSupply::Follow() {
  reloader_.LogFirst();
  loop_.Start(&reloader_, [this] { set_.Bury(); });
}

std::string PluginSupply::StatusJson() const {
  return PluginStatusJson(reloader_.Status(), set_.GetUsage(), config_.reload.generations_max,
                          metrics_->Collect());
}

}  // namespace callout::host
