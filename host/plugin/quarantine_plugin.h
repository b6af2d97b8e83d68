// SPDX-License-Identifier: Apache-2.0

// What stands in the chain for a plugin that has crashed too often: a plugin of
// the host's own, all of whose calls fail, so that the operator's policy for the
// instance decides: `continue` serves without it, `deny` answers in its place, and
// `fail`, or none, ends the stream with UNAVAILABLE. The text of the status is the
// instance's configuration.
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
