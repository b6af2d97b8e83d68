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
//     "disabled": false
//   }
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
