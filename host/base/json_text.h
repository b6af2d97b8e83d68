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

// Lists and objects within each other. nlohmann::json writes and copies them by recursion: 200,000
// were too many for a stack of 8 MiB.
inline constexpr int kJsonDepthMax = 100;

// INVALID_ARGUMENT says why it is none, and where; it quotes nothing of the text, which may hold
// secrets.
absl::StatusOr<nlohmann::json> ParseJsonText(std::string_view text);

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_JSON_TEXT_H_
