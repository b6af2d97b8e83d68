// SPDX-License-Identifier: Apache-2.0

// Decisions out of any bytes: what a fuzz target does is what its input says. Once the
// bytes are used up, every decision is 0, and so is the end of it.
//
// Views into the input, which outlives it.
#ifndef CALLOUT_TESTS_FUZZ_CHOICES_H_
#define CALLOUT_TESTS_FUZZ_CHOICES_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace callout::host {

class Choices {
 public:
  Choices(const uint8_t* data, size_t size) : data_(data), end_(data + size) {}

  bool empty() const { return data_ == end_; }
  // Below `count`, which is at most 256.
  unsigned Next(unsigned count) { return empty() ? 0 : *data_++ % count; }
  bool OneIn(unsigned count) { return Next(count) == count - 1; }
  // As many bytes as the next one says, `most` (up to 255) or fewer.
  std::string Bytes(size_t most) { return Take(Next(256) % (most + 1)); }
  // All that is left.
  std::string Rest() { return Take(static_cast<size_t>(end_ - data_)); }

 private:
  std::string Take(size_t wanted) {
    const size_t size = std::min(wanted, static_cast<size_t>(end_ - data_));
    // A copy of its own, so that AddressSanitizer sees every byte beyond.
    std::string bytes(reinterpret_cast<const char*>(data_), size);
    data_ += size;
    return bytes;
  }

  const uint8_t* data_;
  const uint8_t* const end_;
};

}  // namespace callout::host

#endif  // CALLOUT_TESTS_FUZZ_CHOICES_H_
