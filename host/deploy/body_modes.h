// SPDX-License-Identifier: Apache-2.0

// The smallest processing mode in which every plugin gets what it wants, by the kind of
// proxy, for each kind offers other modes.
//
// Plain functions; any thread.
//
// Tested by tests/host/deploy/print_config_test.cc.
#ifndef CALLOUT_HOST_DEPLOY_BODY_MODES_H_
#define CALLOUT_HOST_DEPLOY_BODY_MODES_H_

#include <string>
#include <string_view>

#include "host/config/deploy_options.h"
#include "host/deploy/envoy_needs.h"

namespace callout::host {

struct DirectionModes {
  bool headers = false;
  BodyMode body = BodyMode::kNone;
  bool trailers = false;
};

DirectionModes ModesFor(DeployTarget target, const DirectionNeeds& needs);

// "NONE", "FULL_DUPLEX_STREAMED": Envoy's names.
std::string_view BodyModeName(BodyMode mode);
// "None", "FullDuplexStreamed": those of Kubernetes' resources.
std::string_view BodyModeCamelName(BodyMode mode);

}  // namespace callout::host

#endif  // CALLOUT_HOST_DEPLOY_BODY_MODES_H_
