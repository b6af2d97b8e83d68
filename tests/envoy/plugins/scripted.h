// SPDX-License-Identifier: Apache-2.0

// What the plugin scripted.cc and its tests agree on.
#ifndef CALLOUT_TESTS_ENVOY_PLUGINS_SCRIPTED_H_
#define CALLOUT_TESTS_ENVOY_PLUGINS_SCRIPTED_H_

#include <string_view>

namespace callout::tests {

inline constexpr std::string_view kShorter = "!";         // in place of a body message
inline constexpr std::string_view kLonger = "(+longer)";  // after a body message
inline constexpr std::string_view kDenied = "denied by the plugin";
inline constexpr int kDeniedStatus = 403;
inline constexpr std::string_view kChangedHeader = "x-changed";  // its value is the phase

}  // namespace callout::tests

#endif  // CALLOUT_TESTS_ENVOY_PLUGINS_SCRIPTED_H_
