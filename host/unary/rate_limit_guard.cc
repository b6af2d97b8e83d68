// SPDX-License-Identifier: Apache-2.0

#include "host/unary/rate_limit_guard.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "host/base/ascii.h"
#include "host/unary/check_guard.h"

namespace callout::host {

namespace {

constexpr uint64_t kCodeMax = static_cast<uint64_t>(RateLimitCode::kOverLimit);

Finding CheckCodes(const RateLimitResponseView& view) {
  uint64_t highest = view.overall_code;
  bool is_over = false;
  for (const RateLimitStatusView& status : view.statuses) {
    highest = std::max(highest, status.code);
    is_over = is_over || IsOverLimit(status.code);
  }
  if (highest > kCodeMax) {
    return {Violation::kMalformed, fmt::format("the code {}, expected 0 to {}", highest, kCodeMax)};
  }
  if (is_over && !IsOverLimit(view.overall_code)) {
    return {Violation::kWrongType,
            "overall_code is not OVER_LIMIT and a status is: Envoy would go by the first"};
  }
  return {};
}

Finding CheckStatuses(const RateLimitResponseView& view, size_t descriptors) {
  if (!view.statuses.empty() && view.statuses.size() != descriptors) {
    return {Violation::kMalformed,
            fmt::format("{} statuses for {} descriptors; give none, or one for each",
                        view.statuses.size(), descriptors)};
  }
  for (const RateLimitStatusView& status : view.statuses) {
    // It stands in x-ratelimit-limit as ;name="…".
    const bool legal = std::all_of(status.limit_name.begin(), status.limit_name.end(), [](char c) {
      const auto byte = static_cast<unsigned char>(c);
      return byte >= ' ' && byte != 0x7f && c != '"' && c != '\\';
    });
    if (!legal) {
      return {Violation::kIllegalHeader,
              "a control character, a quote or a backslash in the name of a limit, which Envoy "
              "writes into x-ratelimit-limit"};
    }
  }
  return {};
}

Finding CheckAdded(const std::vector<RateLimitHeader>& headers, std::string_view list) {
  std::vector<CheckHeaderOption> options;
  for (const RateLimitHeader& header : headers) {
    // Envoy would add the one to the ":authority" that the request has; for the other see
    // IsUpgrade.
    if (EqualsIgnoreCase(header.name, "host") || IsUpgrade(header.name)) {
      return {Violation::kIllegalHeader, fmt::format("'{}' in {}", header.name, list)};
    }
    options.push_back({header.name, header.value, HeaderAction::kAppend, true});
  }
  return CheckAddedHeaders(options, list);
}

}  // namespace

Finding CheckRateLimitResponse(const RateLimitResponseView& view, size_t descriptors) {
  if (Finding found = CheckCodes(view); !found.ok()) return found;
  if (Finding found = CheckStatuses(view, descriptors); !found.ok()) return found;
  Finding found = CheckAdded(view.response_headers, "response_headers_to_add");
  return found.ok() ? CheckAdded(view.request_headers, "request_headers_to_add") : found;
}

}  // namespace callout::host
