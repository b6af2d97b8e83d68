// SPDX-License-Identifier: Apache-2.0

// Keeps the memory of sent responses for later ones on the same thread, so that in steady state a
// response allocates nothing.
//
//   std::string response;
//   TakeSpareBytes(&response);   …   KeepSpareBytes(&response);
//
// Any thread; each has its own.
//
// Tested by tests/host/stream/allocation_test.cc.
#ifndef CALLOUT_HOST_BASE_SPARE_BYTES_H_
#define CALLOUT_HOST_BASE_SPARE_BYTES_H_

#include <string>

namespace callout::host {

// Gives an empty string the memory of an earlier one, if there is any.
void TakeSpareBytes(std::string* bytes);

// Empties the string of its memory, which is kept; or freed, if it is over 4 KiB or the 65th.
void KeepSpareBytes(std::string* bytes);

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_SPARE_BYTES_H_
