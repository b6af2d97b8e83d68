// Memory of answers that have been sent, for the next answers on the same thread:
// in steady state an answer needs no new memory.
//
//   std::string answer = TakeSpareBytes();   …   KeepSpareBytes(std::move(answer));
//
// Any thread; each has its own.
//
// Tested by tests/host/stream/allocation_test.cc.
#ifndef CALLOUT_HOST_BASE_SPARE_BYTES_H_
#define CALLOUT_HOST_BASE_SPARE_BYTES_H_

#include <string>

namespace callout::host {

// Empty, with the memory of an earlier one if there is one left.
std::string TakeSpareBytes();

// What is larger than 4 KiB, or more than 64 strings, is freed.
void KeepSpareBytes(std::string bytes);

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_SPARE_BYTES_H_
