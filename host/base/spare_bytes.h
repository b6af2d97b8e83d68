// SPDX-License-Identifier: Apache-2.0

// Keeps the memory of sent responses for later ones on the same thread, so that in steady state a
// response allocates nothing.
//
//   std::string response = TakeSpareBytes();   …   KeepSpareBytes(std::move(response));
//
// Any thread; each has its own.
//
// Tested by tests/host/stream/allocation_test.cc.
#ifndef CALLOUT_HOST_BASE_SPARE_BYTES_H_
#define CALLOUT_HOST_BASE_SPARE_BYTES_H_

#include <string>

namespace callout::host {

// An empty string, with the memory of an earlier one if there is any.
std::string TakeSpareBytes();

// Frees strings over 4 KiB, and those beyond 64.
void KeepSpareBytes(std::string bytes);

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_SPARE_BYTES_H_
