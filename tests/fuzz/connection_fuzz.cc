// SPDX-License-Identifier: Apache-2.0

// libFuzzer's entry: any bytes are decisions of the driver.
#include <cstdio>
#include <cstdlib>

#include "host/base/log.h"
#include "tests/fuzz/connection_driver.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace callout::host;
  SetLogLevel(LogLevel::kError);
  const std::string error = DriveConnection(data, size);
  if (!error.empty()) {
    fprintf(stderr, "%s\n", error.c_str());
    abort();
  }
  return 0;
}
