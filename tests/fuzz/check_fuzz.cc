// SPDX-License-Identifier: Apache-2.0

// libFuzzer's entry: a CheckRequest and what a plugin says to it. The first two bytes say where
// one ends and the other begins.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "tests/fuzz/check_driver.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const size_t first = std::min<size_t>(size - 2, data[0] | data[1] << 8);
  // Copies of their own, so that AddressSanitizer sees every byte beyond.
  const std::string request(reinterpret_cast<const char*>(data) + 2, first);
  const std::string said(reinterpret_cast<const char*>(data) + 2 + first, size - 2 - first);
  const std::string problem = callout::host::RunCheck(request, said);
  if (problem.empty()) return 0;
  fprintf(stderr, "%s\n", problem.c_str());
  abort();
}
