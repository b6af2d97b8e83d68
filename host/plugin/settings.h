// SPDX-License-Identifier: Apache-2.0

// The operator's settings for one instance, beside its configuration text: what happens when it
// fails, which streams it serves, which bodies it gets.
//
// JSON (--plugin_settings=NAME=@FILE, or NAME.settings beside a plugin in a
// directory). Every key is optional; an unknown key is an error:
//
//   {
//     "policy": "fail" | "continue" | "deny[:STATUS]",
//     "too_large": "fail" | "continue" | "deny[:STATUS]",
//     "match": {
//       "path_prefixes": ["/api/"],       any of them
//       "hosts": ["example.com"],         any of them, without port and case
//       "methods": ["GET"],               any of them
//       "headers": ["x-tenant"],          all present
//       "attributes": {"request.id": "7"} all equal, as text
//     },
//     "max_whole_body_bytes": 1048576,    0: chunks
//     "endless_body": "refuse" | "pass" | "chunks",
//     "leave_responses": {"content_types": […], "statuses": […], "headers": […]},
//     "drain": "pass" | "fail",
//     "blocking": true,                   or a list of phases: ["request_headers"]
//     "watch": ["/etc/keys.json"],        absolute paths of files that the plugin reads: a change
//                                         of one creates the plugin anew
//     "mode": "live" | "shadow",
//     "instead_of": "auth",               shadow: the instance that it is compared with
//     "percent": 5,                       of the streams; 0, 0.01 to 99.99, or 100
//     "by_header": "x-user",              by this request header, not at random
//     "canary": {"percent": 5, "by_header": "x-user", "max_fault_percent": 1,
//                "max_latency_ratio": 2, "max_p99_ms": 50, "min_calls": 100,
//                "for_seconds": 600, "promote": "manual" | "auto"},
//     "disabled": false
//   }
//
// docs/shadow_and_canary.md describes those from `mode` to `canary`.
//
// Names of headers are tokens (RFC 9110), or pseudo-headers such as ":authority".
//
// The key max_whole_body_bytes is also read by its old name, whole_body_bytes_max.
//
// Plain values.
#ifndef CALLOUT_HOST_PLUGIN_SETTINGS_H_
#define CALLOUT_HOST_PLUGIN_SETTINGS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace callout::host {

inline constexpr uint64_t kAllPhases = ~uint64_t{0};

struct ErrorPolicy {
  enum class Action : uint8_t { kFail, kContinue, kDeny };
  Action action = Action::kFail;
  int http_status = 500;  // of the immediate response; kDeny only
};

// The streams that an instance serves: those that match every list that is not empty. The first
// message of a stream decides.
struct StreamMatch {
  std::vector<std::string> path_prefixes;
  std::vector<std::string> hosts;  // lower case
  std::vector<std::string> methods;
  std::vector<std::string> headers;  // lower case
  std::map<std::string, std::string> attributes;

  bool empty() const {
    return path_prefixes.empty() && hosts.empty() && methods.empty() && headers.empty() &&
           attributes.empty();
  }
};

// The responses that an instance with whole bodies does not get: those that match one of the lists.
// Only responses, since a client must not decide what a plugin sees.
struct ResponseMatch {
  std::vector<std::string> content_types;  // "text/event-stream"; "image/*"
  std::vector<std::string> statuses;       // "206"; "3xx"
  std::vector<std::string> headers;        // lower case; present

  bool empty() const { return content_types.empty() && statuses.empty() && headers.empty(); }
};

// What happens to a body that an instance takes whole, but that has no end (upgrades, CONNECT,
// text/event-stream) or none that the host can see (trailers in STREAMED).
enum class EndlessBody : uint8_t {
  kRefuse,  // a fault, at the headers
  kPass,    // it passes unseen
  kChunks,  // the hook gets it chunk by chunk, without CALLOUT_CALL_WHOLE_BODY
};

// Whether an instance decides about streams, or only watches copies of them.
enum class InstanceMode : uint8_t { kLive, kShadow };

// How a new version serves beside the old one, until it is promoted or rolled back.
struct CanarySettings {
  double percent = 5;     // of new streams; above 0, at most 100
  std::string by_header;  // lower case; "": at random
  // Roll back if more than so many percent of its calls, but at least of `min_calls`, are faults.
  double max_fault_percent = 1;
  // Roll back if its mean time of a call is more than so many times the old version's; 0: never.
  double max_latency_ratio = 0;
  // Roll back if the 99th percentile of its times is above this; 0: never.
  double max_p99_ms = 0;
  // Calls that the two limits on times, and a promotion, need at least.
  uint32_t min_calls = 100;
  // Promote it after this time, if it has had min_calls.
  uint32_t for_seconds = 600;
  bool promotes_itself = false;  // "promote": "auto"

  bool operator==(const CanarySettings&) const = default;
};

struct InstanceSettings {
  // Unset: every fault fails the exchange.
  std::optional<ErrorPolicy> policy;
  EndlessBody endless_body = EndlessBody::kRefuse;
  ResponseMatch leave_responses;
  // Whether the rest of an exchange may pass without this instance at the end of a drain. Unset:
  // yes if the policy is `continue`.
  std::optional<bool> drain_passes;
  // For a whole body over its limit.
  ErrorPolicy too_large = {ErrorPolicy::Action::kDeny, 413};
  StreamMatch match;
  // These override what the plugin's create asked for.
  std::optional<uint64_t> whole_body_bytes_max;
  // CALLOUT_PHASE_BITs of the phases in which its hooks may block.
  std::optional<uint64_t> blocking;
  bool disabled = false;
  InstanceMode mode = InstanceMode::kLive;
  std::string instead_of;  // of a shadow; "": it comes in addition
  double percent = 100;    // of streams, in hundredths
  std::string by_header;   // lower case; "": at random
  std::optional<CanarySettings> canary;
  // Absolute; at most kWatchedFilesMax.
  std::vector<std::string> watch;
};

inline constexpr size_t kWatchedFilesMax = 64;

inline bool MayPassAtDrain(const InstanceSettings& settings) {
  const bool continues =
      settings.policy.has_value() && settings.policy->action == ErrorPolicy::Action::kContinue;
  return settings.drain_passes.value_or(continues);
}

// The HTTP status of `deny` without a STATUS.
inline constexpr int kDenyStatusDefault = 500;
inline constexpr int kTooLargeStatusDefault = 413;

// "fail", "continue", "deny" or "deny:STATUS" with a status from 200 to 599.
absl::StatusOr<ErrorPolicy> ParseErrorPolicy(std::string_view text,
                                             int status_default = kDenyStatusDefault);

// INVALID_ARGUMENT naming the key, what was found and what is expected.
absl::StatusOr<InstanceSettings> ParseInstanceSettings(std::string_view json);

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_SETTINGS_H_
