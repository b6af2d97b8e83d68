// SPDX-License-Identifier: Apache-2.0

// What one proxy does with this host, as its configuration says: the same struct for
// every kind of proxy, filled by envoy_reader and resource_reader, judged by doctor.
//
// Plain values.
//
// Tested by tests/host/deploy/doctor_test.cc.
#ifndef CALLOUT_HOST_DEPLOY_PROXY_SETTINGS_H_
#define CALLOUT_HOST_DEPLOY_PROXY_SETTINGS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "host/config/deploy_options.h"
#include "host/deploy/config_document.h"
#include "host/deploy/envoy_needs.h"

namespace callout::host {

// Envoy's message_timeout where its configuration names none.
inline constexpr uint64_t kMessageTimeoutMs = 200;

// A setting, where it stands or would stand, and what stands there. Without a value the
// kind of proxy does not have it, or the file does not say.
template <class T>
struct Known {
  std::optional<T> value;
  std::string path;
  std::string found;

  void Set(T new_value, const Place& place) {
    value = std::move(new_value);
    path = place.path();
    found = place.Shown();
  }
};

// A finding that a reader can tell by itself.
struct ConfigFinding {
  std::string path;
  std::string found;
  std::string write;  // what to write instead
  std::string why;
};

inline constexpr std::string_view kBoolForm = "true or false";
inline constexpr std::string_view kDurationForm = "a duration, such as 0.5s";
inline constexpr std::string_view kNumberForm = "a number";

// Sets `known` to what `place` says, which is `read`, or to `by_default` if nothing is there. A
// value that is there and cannot be read is a finding and not the default: nobody knows what the
// proxy makes of it.
template <class T>
void SetRead(const Place& place, std::optional<T> read, std::type_identity_t<T> by_default,
             std::string_view form, Known<T>* known, std::vector<ConfigFinding>* findings) {
  if (read.has_value() || !place.there()) return known->Set(read.value_or(by_default), place);
  findings->push_back({place.path(), place.Shown(), std::string(form),
                       "this value cannot be read, so nobody knows what the proxy does"});
}

struct ProxyDirection {
  Known<bool> headers;
  Known<BodyMode> body;
  Known<bool> trailers;
};

struct ProxySettings {
  DeployTarget kind = DeployTarget::kEnvoy;
  std::string path;  // of all of it
  ProxyDirection request, response;
  Known<uint64_t> timeout_ms;
  Known<uint64_t> max_timeout_ms;  // to which a plugin can extend it
  Known<bool> fail_open;
  Known<bool> observability;
  Known<bool> overrides;  // a plugin's mode_override is obeyed
  Known<bool> routing;    // :authority, :method and :scheme can be changed
  Known<std::vector<std::string>> attributes;
  Known<uint64_t> buffer_bytes;
  Known<uint64_t> header_bytes;
  Known<uint64_t> header_count;
  std::vector<ConfigFinding> findings;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_DEPLOY_PROXY_SETTINGS_H_
