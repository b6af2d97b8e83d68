// SPDX-License-Identifier: Apache-2.0

// The options that limit what a plugin's crash or hang affects.
//
// Plain values; AddContainmentOptions is for the start of the process.
//
// Tested by tests/host/config/config_test.cc.
#ifndef CALLOUT_HOST_CONFIG_CONTAINMENT_OPTIONS_H_
#define CALLOUT_HOST_CONFIG_CONTAINMENT_OPTIONS_H_

#include "host/config/options.h"
#include "host/workers/containment.h"

namespace callout::host {

// `config` outlives the parsing of `options`.
void AddContainmentOptions(ContainmentConfig* config, OptionSet* options);

}  // namespace callout::host

#endif  // CALLOUT_HOST_CONFIG_CONTAINMENT_OPTIONS_H_
