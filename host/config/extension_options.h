// SPDX-License-Identifier: Apache-2.0

// The options for what plugins share: timers, shared data and upstreams.
//
// Plain values; AddExtensionOptions is for the start of the process.
//
// Tested by tests/host/config/config_test.cc.
#ifndef CALLOUT_HOST_CONFIG_EXTENSION_OPTIONS_H_
#define CALLOUT_HOST_CONFIG_EXTENSION_OPTIONS_H_

#include <string>
#include <vector>

#include "host/config/options.h"
#include "host/extensions/extensions.h"
#include "host/upstream/upstream_config.h"

namespace callout::host {

// --upstreams, which reads the file into `upstreams`.
OptionSet::Option UpstreamsOption(std::string group, std::string help,
                                  std::vector<UpstreamConfig>* upstreams);

// `config` has the defaults, and outlives the parsing.
void AddExtensionOptions(ExtensionOptions* config, OptionSet* options);

}  // namespace callout::host

#endif  // CALLOUT_HOST_CONFIG_EXTENSION_OPTIONS_H_
