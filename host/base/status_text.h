// SPDX-License-Identifier: Apache-2.0

// The message of a status as std::string_view, for fmt. Debian builds Abseil for C++14, where
// absl::string_view is another type.
//
// Tested by tests/host/config/config_test.cc.
#ifndef CALLOUT_HOST_BASE_STATUS_TEXT_H_
#define CALLOUT_HOST_BASE_STATUS_TEXT_H_

#include <string_view>

#include "absl/status/status.h"

namespace callout::host {

// Valid as long as `status`.
inline std::string_view MessageOf(const absl::Status& status) {
  return {status.message().data(), status.message().size()};
}

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_STATUS_TEXT_H_
