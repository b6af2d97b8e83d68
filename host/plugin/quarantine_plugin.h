// SPDX-License-Identifier: Apache-2.0

// The stand-in for a plugin that has crashed too often or did not load. All its calls fail, so the
// operator's error policy decides: `continue` passes the message, `deny` responds to the client,
// and `fail`, the default, responds with 503 or, where a stream takes no response, ends it with
// UNAVAILABLE. The instance's configuration is the text of the status.
//
// It is asked on the services that the plugin has hooks for: on others nobody would have asked the
// plugin. Of a plugin that did not load they are not known. Its stand-in is asked on every service,
// and is nobody there who has let a request pass (Plugin::stands_in_for_unknown).
//
// Any thread.
//
// Tested by tests/host/workers/quarantine_test.cc.
#ifndef CALLOUT_HOST_PLUGIN_QUARANTINE_PLUGIN_H_
#define CALLOUT_HOST_PLUGIN_QUARANTINE_PLUGIN_H_

#include <cstdint>
#include <memory>
#include <optional>

#include "host/plugin/plugin.h"

namespace callout::host {

// `phases`: CALLOUT_PHASE_BIT of each that the plugin wants; none: not known.
std::shared_ptr<const Plugin> QuarantinePlugin(std::optional<uint64_t> phases);

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_QUARANTINE_PLUGIN_H_
