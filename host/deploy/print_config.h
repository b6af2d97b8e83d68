// SPDX-License-Identifier: Apache-2.0

// What --print_config prints: the smallest configuration of a proxy that is right for a
// host's plugins and options, as YAML with the reasons in comments. Names of gateways,
// namespaces, clusters and projects are examples, which the first lines say.
//
//   fputs(PrintConfig(DeployTarget::kEnvoy, needs).c_str(), stdout);
//
// --doctor finds nothing in it, except where a target cannot do what a plugin needs: a
// comment then says so.
//
// A plain function; any thread.
#ifndef CALLOUT_HOST_DEPLOY_PRINT_CONFIG_H_
#define CALLOUT_HOST_DEPLOY_PRINT_CONFIG_H_

#include <string>

#include "host/config/deploy_options.h"
#include "host/deploy/envoy_needs.h"

namespace callout::host {

std::string PrintConfig(DeployTarget target, const EnvoyNeeds& needs);

}  // namespace callout::host

#endif  // CALLOUT_HOST_DEPLOY_PRINT_CONFIG_H_
