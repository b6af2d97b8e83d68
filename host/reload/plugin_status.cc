// SPDX-License-Identifier: Apache-2.0

#include "host/reload/plugin_status.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <chrono>
#include <map>
#include <nlohmann/json.hpp>
#include <string_view>

namespace callout::host {
namespace {

// Keys stay in the order in which they are set.
using Json = nlohmann::ordered_json;

std::string ToTime(int64_t ms) {
  const std::chrono::system_clock::time_point time{std::chrono::milliseconds(ms)};
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z",
                     fmt::gmtime(std::chrono::system_clock::to_time_t(time)), ms % 1000);
}

struct Counts {
  uint64_t calls = 0;
  std::map<std::string, uint64_t> errors;  // by kind
};

std::string LabelOf(const prometheus::ClientMetric& metric, std::string_view name) {
  for (const auto& label : metric.label) {
    if (label.name == name) return label.value;
  }
  return "";
}

// By plugin.
std::map<std::string, Counts> CountsOf(const std::vector<prometheus::MetricFamily>& families) {
  std::map<std::string, Counts> counts;
  for (const prometheus::MetricFamily& family : families) {
    for (const prometheus::ClientMetric& metric : family.metric) {
      if (family.name == "callout_call_seconds") {
        counts[LabelOf(metric, "plugin")].calls += metric.histogram.sample_count;
      } else if (family.name == "callout_plugin_faults_total" && metric.counter.value > 0) {
        counts[LabelOf(metric, "plugin")].errors[LabelOf(metric, "kind")] +=
            static_cast<uint64_t>(metric.counter.value);
      }
    }
  }
  return counts;
}

Json ToJson(const Reloader::GenerationStatus& generation, const GenerationTarget::Usage& usage) {
  const auto streams = usage.streams.find(generation.id);
  Json json;
  json["generation"] = generation.number;
  json["sha256"] = generation.sha256;
  json["version"] = generation.facts.version;
  json["loaded_at"] = ToTime(generation.loaded_at_ms);
  const bool canary = generation.canary_percent > 0;
  json["state"] = canary ? "canary" : generation.in_service ? "serving" : "draining";
  if (canary) json["percent"] = generation.canary_percent;
  json["streams"] = streams == usage.streams.end() ? 0 : streams->second;
  if (const auto counts = usage.calls.find(generation.id); counts != usage.calls.end()) {
    json["calls"] = counts->second.calls;
    json["faults"] = counts->second.faults;
    json["mean_ms"] = counts->second.MeanMs();
    json["p99_ms"] = counts->second.QuantileMs(0.99);
  }
  return json;
}

// Null if there is none.
Json TextOf(const std::map<std::string, std::string>& texts, const std::string& plugin) {
  const auto text = texts.find(plugin);
  return text == texts.end() ? Json() : Json(text->second);
}

Json ToJson(const Reloader::PluginStatus& plugin, const GenerationTarget::Usage& usage,
            const Counts& counts) {
  Json json;
  json["name"] = plugin.name;
  json["file"] = plugin.path;
  json["mode"] = plugin.shadow ? "shadow" : "live";
  const Json quarantined = TextOf(usage.quarantined, plugin.name);
  json["state"] = quarantined.is_null() ? std::string(StateName(plugin.state)) : "quarantined";
  Json generations = Json::array();
  for (const Reloader::GenerationStatus& generation : plugin.generations) {
    // It has ended since the last rescan.
    const bool known = !usage.complete || usage.streams.count(generation.id) > 0;
    if (!generation.in_service && generation.canary_percent == 0 && !known) continue;
    generations.push_back(ToJson(generation, usage));
    if (!generation.in_service) continue;
    json["generation"] = generation.number;
    json["sha256"] = generation.sha256;
    if (!generation.signer.empty()) json["signed_by"] = generation.signer;
    json["version"] = generation.facts.version;
    json["description"] = generation.facts.description;
    json["abi"] = generation.facts.abi_version;
    json["hooks"] = generation.facts.hooks;
    json["extensions"] = generation.facts.extensions;
    json["loaded_at"] = ToTime(generation.loaded_at_ms);
  }
  json["calls"] = counts.calls;
  json["errors"] = Json::object();
  for (const auto& [kind, count] : counts.errors) json["errors"][kind] = count;
  const bool has_error = !plugin.last_error.empty();
  json["last_error"] = has_error ? Json(plugin.last_error) : Json();
  json["last_error_at"] = has_error ? Json(ToTime(plugin.last_error_at_ms)) : Json();
  const auto crashes = usage.crashes.find(plugin.name);
  json["crashes"] = crashes == usage.crashes.end() ? 0 : crashes->second;
  json["last_crash"] = TextOf(usage.last_crash, plugin.name);
  json["quarantined"] = quarantined;
  json["withdrawn"] = plugin.withdrawn;
  json["generations"] = std::move(generations);
  return json;
}

}  // namespace

std::string PluginStatusJson(const Reloader::Snapshot& snapshot,
                             const GenerationTarget::Usage& usage, size_t generations_max,
                             const std::vector<prometheus::MetricFamily>& metrics) {
  std::map<std::string, Counts> counts = CountsOf(metrics);
  Json json;
  json["generations_mapped"] = usage.mapped;
  json["generations_max"] = generations_max;
  json["problems"] = snapshot.problems;
  for (const std::string& problem : usage.problems) json["problems"].push_back(problem);
  json["plugins"] = Json::array();
  for (const Reloader::PluginStatus& plugin : snapshot.plugins) {
    json["plugins"].push_back(ToJson(plugin, usage, counts[plugin.name]));
  }
  // Paths and a plugin's texts may not be UTF-8.
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace callout::host
