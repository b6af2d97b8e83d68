// SPDX-License-Identifier: Apache-2.0

// Shared objects that the build creates beside the test program.
#ifndef CALLOUT_TESTS_HOST_SAMPLES_H_
#define CALLOUT_TESTS_HOST_SAMPLES_H_

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace callout::host {

inline std::string SamplePath(const std::string& file) {
  return (std::filesystem::read_symlink("/proc/self/exe").parent_path() / "samples" / file)
      .string();
}

inline std::string ReadSample(const std::string& file) {
  std::ifstream stream(SamplePath(file), std::ios::binary);
  std::ostringstream bytes;
  bytes << stream.rdbuf();
  EXPECT_TRUE(stream.good()) << SamplePath(file);
  return bytes.str();
}

}  // namespace callout::host

#endif  // CALLOUT_TESTS_HOST_SAMPLES_H_
