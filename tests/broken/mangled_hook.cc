// SPDX-License-Identifier: Apache-2.0

// A hook written without the header, and so with a C++ name.
#include <cstdint>

extern "C" __attribute__((visibility("default"))) const uint32_t callout_abi_version = 1;

struct Call;
__attribute__((visibility("default"))) int32_t callout_on_request_headers(Call* call) {
  return call == nullptr;
}
