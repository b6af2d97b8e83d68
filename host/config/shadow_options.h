// SPDX-License-Identifier: Apache-2.0

// The options for plugins in shadow: threads, and limits on what is copied for them.
//
// Tested by tests/host/config/config_test.cc.
#ifndef CALLOUT_HOST_CONFIG_SHADOW_OPTIONS_H_
#define CALLOUT_HOST_CONFIG_SHADOW_OPTIONS_H_

#include "host/config/options.h"
#include "host/shadow/shadow_exchange.h"

namespace callout::host {

// `config` outlives the parsing.
void AddShadowOptions(ShadowLimits* config, OptionSet* options);

}  // namespace callout::host

#endif  // CALLOUT_HOST_CONFIG_SHADOW_OPTIONS_H_
