// SPDX-License-Identifier: Apache-2.0

// The options of recordings: --record, --record_percent, --record_dir and others.
//
// Single-threaded, for the start of the process; but CheckTapDirectory.
//
// Tested by tests/host/config/config_test.cc.
#ifndef CALLOUT_HOST_CONFIG_RECORD_OPTIONS_H_
#define CALLOUT_HOST_CONFIG_RECORD_OPTIONS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "host/config/options.h"
#include "host/record/recorder.h"

namespace callout::host {

void AddRecordOptions(RecordConfig* config, OptionSet* options);

// After parsing: checks the directories, and adds what recordings leave out by default: what the
// defaults name, and what `log_redacted` does.
absl::Status FinishRecordOptions(const std::vector<std::string>& log_redacted,
                                 RecordConfig* config);

// Whether files can be created in --record_dir, which may have gone since the start.
// INVALID_ARGUMENT if not. Any thread.
absl::Status CheckTapDirectory(const RecordConfig& config);

}  // namespace callout::host

#endif  // CALLOUT_HOST_CONFIG_RECORD_OPTIONS_H_
