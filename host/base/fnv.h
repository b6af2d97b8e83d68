// SPDX-License-Identifier: Apache-2.0

// FNV-1a of 64 bits: a sum of bytes that is the same in every process, host and version, unlike
// std::hash. Not against bytes that somebody makes to collide.
//
//   uint64_t sum = Fnv1a("ab");
//   sum = Fnv1a("cd", sum);      // of "abcd"
//
// Any thread.
//
// Tested by tests/host/diff/outcome_test.cc.
#ifndef CALLOUT_HOST_BASE_FNV_H_
#define CALLOUT_HOST_BASE_FNV_H_

#include <cstdint>
#include <string_view>

namespace callout::host {

inline constexpr uint64_t kFnv1aOfNothing = 0xcbf29ce484222325;

// Of the bytes whose sum is `sum`, and `text` behind them.
inline uint64_t Fnv1a(std::string_view text, uint64_t sum = kFnv1aOfNothing) {
  constexpr uint64_t kPrime = 0x100000001b3;
  for (const char byte : text) sum = (sum ^ static_cast<unsigned char>(byte)) * kPrime;
  return sum;
}

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_FNV_H_
