// SPDX-License-Identifier: Apache-2.0

// The options that print or check the configuration of what calls the host:
//
//   --print_config=TARGET      --doctor=FILE
//
// Single-threaded; for the start of the process.
//
// Tested by tests/host/config/config_test.cc.
#ifndef CALLOUT_HOST_CONFIG_DEPLOY_OPTIONS_H_
#define CALLOUT_HOST_CONFIG_DEPLOY_OPTIONS_H_

#include <cstdint>
#include <optional>
#include <string>

#include "host/config/options.h"

namespace callout::host {

// What a printed configuration is for.
enum class DeployTarget : uint8_t {
  kEnvoy,
  kEnvoyGateway,
  kIstio,
  kKgateway,
  kAgentgateway,
  kGke,
  kGcloud,
};

// Google's load balancers have rules of their own.
inline bool IsGoogle(DeployTarget target) {
  return target == DeployTarget::kGke || target == DeployTarget::kGcloud;
}

struct DeployConfig {
  std::optional<DeployTarget> print;  // --print_config
  std::string doctor_file;            // --doctor; "": not given
};

// Fills `config`, which outlives the parsing. Both options only count on the command line.
void AddDeployOptions(DeployConfig* config, const char* group, OptionSet* options);

}  // namespace callout::host

#endif  // CALLOUT_HOST_CONFIG_DEPLOY_OPTIONS_H_
