// SPDX-License-Identifier: Apache-2.0

// The stand-in for a plugin that has crashed too often or did not load. All its calls fail, so the
// operator's error policy decides: `continue` passes the message, `deny` responds to the client,
// and `fail`, the default, responds with 503 or, where a stream takes no response, ends it with
// UNAVAILABLE. The instance's configuration is the
// text of the status.
//
// Any thread.
//
// Tested by tests/host/workers/quarantine_test.cc.
#ifndef CALLOUT_HOST_PLUGIN_QUARANTINE_PLUGIN_H_
#define CALLOUT_HOST_PLUGIN_QUARANTINE_PLUGIN_H_

#include <memory>

#include "host/plugin/plugin.h"

namespace callout::host {

std::shared_ptr<const Plugin> QuarantinePlugin();

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_QUARANTINE_PLUGIN_H_
