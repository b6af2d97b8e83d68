// SPDX-License-Identifier: Apache-2.0

// Replaces a file by other contents, or not at all: whoever reads it, also after a power failure,
// sees the old contents or the new ones.
//
//   absl::Status status = WriteAtomically("/var/lib/callout-host/withdrawn.json", text);
//
// The new contents are first in the file PATH.new, which is of mode 0600. Its directory must be
// writable. An error's message has the reason only; the caller puts the path and the purpose before
// it.
//
// A plain function; any thread, but one at a time for each path.
//
// Tested by tests/host/base/atomic_write_test.cc.
#ifndef CALLOUT_HOST_BASE_ATOMIC_WRITE_H_
#define CALLOUT_HOST_BASE_ATOMIC_WRITE_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace callout::host {

absl::Status WriteAtomically(const std::string& path, std::string_view contents);

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_ATOMIC_WRITE_H_
