// SPDX-License-Identifier: Apache-2.0

// JSON as people write it into files and on command lines.
//
// A plain function; any thread.
#ifndef CALLOUT_HOST_BASE_JSON_TEXT_H_
#define CALLOUT_HOST_BASE_JSON_TEXT_H_

#include <nlohmann/json.hpp>
#include <string_view>

#include "absl/status/statusor.h"

namespace callout::host {

// How deep lists and objects may be nested. nlohmann::json writes and copies them by recursion: a
// depth of 200,000 overflowed a stack of 8 MiB.
inline constexpr int kJsonDepthMax = 100;

// INVALID_ARGUMENT says what is wrong and where. It does not quote the text, which may have
// secrets, but for a key that an object has twice, which is an error.
absl::StatusOr<nlohmann::json> ParseJsonText(std::string_view text);

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_JSON_TEXT_H_
