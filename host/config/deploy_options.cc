// SPDX-License-Identifier: Apache-2.0

#include "host/config/deploy_options.h"

#include <utility>
#include <vector>

#include "absl/strings/str_join.h"
#include "host/config/option_kinds.h"

namespace callout::host {
namespace {

// In the order of DeployTarget.
const std::vector<std::string>& TargetNames() {
  static const auto* const kNames = new std::vector<std::string>{
      "envoy", "envoy-gateway", "istio", "kgateway", "agentgateway", "gke", "gcloud"};
  return *kNames;
}

}  // namespace

void AddDeployOptions(DeployConfig* config, const char* group, OptionSet* options) {
  OptionSet::Option print = ChoiceOption(
      "print_config", group, "TARGET", TargetNames(), 0,
      [config](size_t index) { config->print = static_cast<DeployTarget>(index); },
      "Print the configuration that Envoy needs for these plugins and options, and exit. TARGET is "
      "envoy, envoy-gateway, istio, kgateway, agentgateway, gke or gcloud");
  print.default_text = "";
  print.command_line_only = true;
  options->Add(std::move(print));
  options->Add({.name = "doctor",
                .group = group,
                .value = "FILE",
                .default_text = "",
                .help =
                    "Read an Envoy bootstrap, a config dump or the resources of a gateway (YAML or "
                    "JSON), and list what would fail in silence with these plugins and options. "
                    "Exit 0: nothing, 1: findings, 2: the file or the plugins cannot be read",
                .command_line_only = true,
                .set = [config](const std::string& text) {
                  config->doctor_file = text;
                  return absl::OkStatus();
                }});
}

}  // namespace callout::host
