// SPDX-License-Identifier: Apache-2.0

#include "host/trace/sampler.h"

#include <fmt/format.h>

#include <cmath>

#include "absl/strings/numbers.h"

namespace callout::host {

absl::StatusOr<Sampler> Sampler::Parse(std::string_view name, std::string_view argument) {
  constexpr std::string_view kParentBased = "parentbased_";
  Sampler sampler;
  sampler.obeys_parent_ = name.starts_with(kParentBased);
  if (sampler.obeys_parent_) name.remove_prefix(kParentBased.size());
  if (name == "always_on") return sampler;
  if (name == "always_off") {
    sampler.ids_below_ = 0;
    return sampler;
  }
  if (name != "traceidratio") {
    return absl::InvalidArgumentError(
        "expected always_on, always_off, traceidratio, parentbased_always_on, "
        "parentbased_always_off or parentbased_traceidratio");
  }
  double ratio = 1;
  const bool is_number =
      argument.empty() || absl::SimpleAtod({argument.data(), argument.size()}, &ratio);
  if (!is_number || !(ratio >= 0 && ratio <= 1)) {
    return absl::InvalidArgumentError("expected a ratio from 0 to 1 in OTEL_TRACES_SAMPLER_ARG");
  }
  sampler.ids_below_ = static_cast<uint64_t>(std::ldexp(ratio, 63));
  return sampler;
}

}  // namespace callout::host
