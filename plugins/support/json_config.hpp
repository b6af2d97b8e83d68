// SPDX-License-Identifier: Apache-2.0

// The configuration of the plugins here: callout::JsonConfig by the name they use.
#ifndef CALLOUT_PLUGINS_SUPPORT_JSON_CONFIG_HPP_
#define CALLOUT_PLUGINS_SUPPORT_JSON_CONFIG_HPP_

#include <callout/json_config.hpp>

namespace callout::plugins {
using callout::JsonConfig;
}  // namespace callout::plugins

#endif  // CALLOUT_PLUGINS_SUPPORT_JSON_CONFIG_HPP_
