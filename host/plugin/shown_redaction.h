// SPDX-License-Identifier: Apache-2.0

// Which values people are not to see: the rule behind ShownHeaderValue (call_log.h), for what shows
// more of an exchange than headers one by one: explanations, and reports of differences.
//
//   MessageRedactor secrets(ShownRedaction());
//
// Any thread, once SetRedactedHeaders was called.
//
// Tested by tests/host/diff/difference_test.cc.
#ifndef CALLOUT_HOST_PLUGIN_SHOWN_REDACTION_H_
#define CALLOUT_HOST_PLUGIN_SHOWN_REDACTION_H_

#include "host/base/redaction.h"

namespace callout::host {

// By --log_redacted_headers. Stays as long as the process.
const Redaction& ShownRedaction();

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_SHOWN_REDACTION_H_
