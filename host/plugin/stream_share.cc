// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/stream_share.h"

#include <cmath>
#include <utility>

#include "host/base/fnv.h"

namespace callout::host {
namespace {

// SplitMix64's last step: every bit of the result depends on every bit of the number.
uint64_t Mix(uint64_t number) {
  number = (number ^ (number >> 30)) * 0xbf58476d1ce4e5b9;
  number = (number ^ (number >> 27)) * 0x94d049bb133111eb;
  return number ^ (number >> 31);
}

}  // namespace

StreamShare::StreamShare(double percent, std::string by_header, std::string_view name)
    : hundredths_(static_cast<uint32_t>(std::lround(percent * 100))),
      salt_(Fnv1a(name)),
      by_header_(std::move(by_header)) {}

bool StreamShare::Takes(std::string_view value, uint64_t stream_id) const {
  const uint64_t drawn =
      value.empty() ? Mix(salt_ + stream_id * 0x9e3779b97f4a7c15) : Mix(Fnv1a(value, salt_));
  return (drawn % kAll < hundredths_) != rest_;
}

StreamShare StreamShare::Rest() const {
  StreamShare rest = *this;
  rest.rest_ = !rest_;
  return rest;
}

}  // namespace callout::host
