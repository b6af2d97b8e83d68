// SPDX-License-Identifier: Apache-2.0

// What containers take in memory beside themselves: of what is kept for a client all is counted,
// and some views weigh more than the bytes they show.
//
// Tested by tests/host/base/heap_bytes_test.cc.
#ifndef CALLOUT_HOST_BASE_HEAP_BYTES_H_
#define CALLOUT_HOST_BASE_HEAP_BYTES_H_

#include <cstddef>
#include <vector>

#include "absl/container/fixed_array.h"

namespace callout::host {

// Without what the elements themselves keep.
template <class T>
size_t HeapBytes(const std::vector<T>& vector) {
  return vector.capacity() * sizeof(T);
}

// Up to `kInlined` elements lie in the array itself.
template <class T, size_t kInlined>
size_t HeapBytes(const absl::FixedArray<T, kInlined>& array) {
  return array.size() > kInlined ? array.size() * sizeof(T) : 0;
}

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_HEAP_BYTES_H_
