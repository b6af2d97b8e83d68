// Reads a file that an option names.
#ifndef CALLOUT_HOST_BASE_TEXT_FILE_H_
#define CALLOUT_HOST_BASE_TEXT_FILE_H_

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"

namespace callout::host {

// INVALID_ARGUMENT, with the path, if it cannot be read or has more than
// `bytes_max` bytes. Any thread.
absl::StatusOr<std::string> ReadTextFile(const std::string& path, size_t bytes_max);

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_TEXT_FILE_H_
