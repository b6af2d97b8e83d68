// SPDX-License-Identifier: Apache-2.0

#include "host/base/spare_bytes.h"

#include <utility>
#include <vector>

namespace callout::host {
namespace {

constexpr size_t kSpareMax = 64;
constexpr size_t kSpareBytesMax = 4096;

std::vector<std::string>& Spare() {
  thread_local std::vector<std::string> spare;
  return spare;
}

}  // namespace

void TakeSpareBytes(std::string* bytes) {
  std::vector<std::string>& spare = Spare();
  if (spare.empty()) return;
  *bytes = std::move(spare.back());
  spare.pop_back();
  bytes->clear();
}

void KeepSpareBytes(std::string* bytes) {
  // A short string is inside the object and has no memory to keep.
  if (bytes->capacity() <= std::string().capacity()) return bytes->clear();
  std::vector<std::string>& spare = Spare();
  if (bytes->capacity() <= kSpareBytesMax && spare.size() < kSpareMax) {
    spare.push_back(std::move(*bytes));
  } else {
    std::string().swap(*bytes);
  }
}

}  // namespace callout::host
