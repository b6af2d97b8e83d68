// What the operator sets for one instance beside its configuration text: how its
// faults are answered, which streams it serves, what bodies it is given.
//
// Written as JSON (--plugin_settings=NAME=@FILE, or NAME.settings beside a
// plugin in a directory); every key is optional, and an unknown one is an error:
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
//     "whole_body_bytes_max": 1048576,    0: chunks
//     "blocking": true,                 or the phases in which it is:
//                                       ["request_headers", "request_body"]
//     "disabled": false
//   }
//
// Plain values without threads or lifetimes of their own.
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

// Which streams an instance serves: those that satisfy every list that is not
// empty. Decided on a stream's first message.
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

struct InstanceSettings {
  // Unset: an answer of a wrong form is replaced by the phase's empty one, every
  // other fault fails the stream.
  std::optional<ErrorPolicy> policy;
  // A whole body over its limit.
  ErrorPolicy too_large = {ErrorPolicy::Action::kDeny, 413};
  StreamMatch match;
  // Override what the plugin's create asked for.
  std::optional<uint64_t> whole_body_bytes_max;
  // CALLOUT_PHASE_BITs of the phases in which its hooks may wait.
  std::optional<uint64_t> blocking;
  bool disabled = false;
};

// The status a denied stream gets unless another is written.
inline constexpr int kDenyStatusDefault = 500;
inline constexpr int kTooLargeStatusDefault = 413;

// "fail", "continue", "deny" or "deny:STATUS" with a status from 200 to 599.
absl::StatusOr<ErrorPolicy> ParseErrorPolicy(std::string_view text,
                                             int status_default = kDenyStatusDefault);

// INVALID_ARGUMENT naming the key, what was found and what is expected.
absl::StatusOr<InstanceSettings> ParseInstanceSettings(std::string_view json);

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_SETTINGS_H_
