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

struct ProxyDirection {
  Known<bool> headers;
  Known<BodyMode> body;
  Known<bool> trailers;
};

// A finding that a reader can tell by itself.
struct ConfigFinding {
  std::string path;
  std::string found;
  std::string write;  // what to write instead
  std::string why;
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
