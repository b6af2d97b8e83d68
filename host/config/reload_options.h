// SPDX-License-Identifier: Apache-2.0

// The options that say which plugin files the host watches, and when a new version is
// rolled back.
//
// Plain values; AddReloadOptions is for the start of the process.
//
// Tested by tests/host/config/config_test.cc.
#ifndef CALLOUT_HOST_CONFIG_RELOAD_OPTIONS_H_
#define CALLOUT_HOST_CONFIG_RELOAD_OPTIONS_H_

#include "host/config/options.h"
#include "host/reload/plugin_config.h"

namespace callout::host {

// `config` outlives the parsing of `options`.
void AddReloadOptions(ReloadConfig* config, OptionSet* options);

}  // namespace callout::host

#endif  // CALLOUT_HOST_CONFIG_RELOAD_OPTIONS_H_
