// SPDX-License-Identifier: Apache-2.0

// libFuzzer's entry, for the one target that is in the program.
#include <cstdio>
#include <cstdlib>

#include "host/base/log.h"
#include "tests/fuzz/target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace callout::host;
  static const bool begun = [] {
    SetLogLevel(LogLevel::kError);
    // Another one in the same file would never run.
    if (FuzzTargets().size() != 1) abort();
    return true;
  }();
  (void)begun;
  Choices choices(data, size);
  const std::string error = FuzzTargets().front().run(choices);
  if (!error.empty()) {
    fprintf(stderr, "%s\n", error.c_str());
    abort();
  }
  return 0;
}
