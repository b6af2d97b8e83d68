// SPDX-License-Identifier: Apache-2.0

#include "host/shadow/shadow_exchange.h"

#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>

#include "host/wire/phase.h"

namespace callout::host {

std::string FaultText(Violation violation, callout_phase_t phase) {
  return fmt::format("{} in {}", ViolationName(violation), PhaseName(phase));
}

std::vector<ShadowReport> JoinShadowReports(std::vector<ShadowReport> reports) {
  std::map<std::string, ShadowReport> by_plugin;
  for (ShadowReport& report : reports) {
    const auto known = by_plugin.find(report.plugin);
    if (known == by_plugin.end() || report.generation > known->second.generation) {
      std::string plugin = report.plugin;
      by_plugin.insert_or_assign(std::move(plugin), std::move(report));
    } else if (report.generation == known->second.generation) {
      known->second.summary.Add(report.summary);
    }
  }
  std::vector<ShadowReport> joined;
  for (auto& [plugin, report] : by_plugin) joined.push_back(std::move(report));
  return joined;
}

std::string ShadowsJson(std::vector<ShadowReport> reports) {
  nlohmann::ordered_json json = {{"shadows", nlohmann::ordered_json::array()}};
  for (const ShadowReport& report : JoinShadowReports(std::move(reports))) {
    nlohmann::ordered_json one = {{"plugin", report.plugin}, {"generation", report.generation}};
    one["instead_of"] = nullptr;
    if (!report.instead_of.empty()) one["instead_of"] = report.instead_of;
    one.update(ReportJson(report.summary));
    json["shadows"].push_back(std::move(one));
  }
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace callout::host
