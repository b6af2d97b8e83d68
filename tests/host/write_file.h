// SPDX-License-Identifier: Apache-2.0

// Makes a file of a text, or replaces it.
#ifndef CALLOUT_TESTS_HOST_WRITE_FILE_H_
#define CALLOUT_TESTS_HOST_WRITE_FILE_H_

#include <fstream>
#include <string>

namespace callout::host {

inline void WriteFile(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

}  // namespace callout::host

#endif  // CALLOUT_TESTS_HOST_WRITE_FILE_H_
