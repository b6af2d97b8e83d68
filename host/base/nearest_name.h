// What a name that nobody knows was most likely meant to be, for "did you mean …?".
//
// A plain function; any thread.
#ifndef CALLOUT_HOST_BASE_NEAREST_NAME_H_
#define CALLOUT_HOST_BASE_NEAREST_NAME_H_

#include <cstddef>
#include <string_view>
#include <vector>

namespace callout::host {

// The one of `known` that the fewest letters, added, left out or changed, make of
// `name`, the first of them if several do; "" if more than `letters_max` would. Of a
// long name the first 64 letters are looked at.
std::string_view NearestName(std::string_view name, const std::vector<std::string_view>& known,
                             size_t letters_max);

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_NEAREST_NAME_H_
