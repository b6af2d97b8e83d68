// SPDX-License-Identifier: Apache-2.0

// The name that a misspelled one was most likely meant to be, for "did you mean …?".
//
// A plain function; any thread.
#ifndef CALLOUT_HOST_BASE_NEAREST_NAME_H_
#define CALLOUT_HOST_BASE_NEAREST_NAME_H_

#include <cstddef>
#include <string_view>
#include <vector>

namespace callout::host {

// The member of `known` with the smallest edit distance to `name`, the first one if
// several have it; "" if the distance is more than `letters_max`. Only the first 64
// letters of a long name count.
std::string_view NearestName(std::string_view name, const std::vector<std::string_view>& known,
                             size_t letters_max);

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_NEAREST_NAME_H_
