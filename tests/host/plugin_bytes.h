// SPDX-License-Identifier: Apache-2.0

// Text as plugins pass it to the host.
#ifndef CALLOUT_TESTS_HOST_PLUGIN_BYTES_H_
#define CALLOUT_TESTS_HOST_PLUGIN_BYTES_H_

#include <callout/plugin.h>

#include <string_view>

namespace callout::host {

inline callout_bytes_t Bytes(std::string_view text) { return {text.data(), text.size()}; }

}  // namespace callout::host

#endif  // CALLOUT_TESTS_HOST_PLUGIN_BYTES_H_
