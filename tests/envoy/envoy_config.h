// SPDX-License-Identifier: Apache-2.0

// The configuration of the Envoy under test: listeners, each with ext_proc filters, in front of one
// backend.
//
//   EnvoyConfig config;
//   config.hosts["host"] = {.port = host.plaintext_port()};
//   config.backend_port = backend.port();
//   config.listeners.push_back({.name = "buffered", .filters = {ExtProc(
//       {{"processing_mode", {{"request_body_mode", "BUFFERED"}}}})}});
//   nlohmann::json bootstrap = MakeBootstrap(config);
//
// All listen on free ports of 127.0.0.1; EnvoyProcess finds out which.
#ifndef CALLOUT_TESTS_ENVOY_ENVOY_CONFIG_H_
#define CALLOUT_TESTS_ENVOY_ENVOY_CONFIG_H_

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace callout::tests {

struct EnvoyListener {
  std::string name;  // its counters are http.NAME.…
  // In Envoy's order: the first one sees requests first and responses last. Each is a result of
  // ExtProc, or another HTTP filter with name and typed_config.
  std::vector<nlohmann::json> filters = {};
  // Ahead of HTTP, with name and typed_config.
  std::vector<nlohmann::json> network_filters = {};
  // Bytes go to the backend as they are, without HTTP: tcp_proxy.
  bool is_tcp = false;
  // Further fields of the connection manager, or of tcp_proxy.
  nlohmann::json proxy = nlohmann::json::object();
  // Further fields of the route that matches everything.
  nlohmann::json route = nlohmann::json::object();
  // Fields of DownstreamTlsContext; null: without TLS.
  nlohmann::json tls = nullptr;
  uint32_t buffer_bytes_max = 0;  // 0: Envoy's own 1 MiB
  // Routes (config.route.v3.Route) ahead of the one that matches everything.
  nlohmann::json routes = nlohmann::json::array();
};

// A callout host that is reached over gRPC without TLS.
struct EnvoyHost {
  uint16_t port = 0;
};

struct EnvoyConfig {
  std::vector<EnvoyListener> listeners;
  std::map<std::string, EnvoyHost> hosts;  // by the name that ExtProc gets
  uint16_t backend_port = 0;
};

// The configuration of an ext_proc filter that calls `host`: `settings` are
// fields of ExternalProcessor (processing_mode, failure_mode_allow,
// mutation_rules, …) by Envoy's own names. Messages may take 20 s unless
// `settings` says otherwise, so that a slow machine fails no test.
nlohmann::json ExtProc(const nlohmann::json& settings, const std::string& host = "host");

// An ext_authz filter that asks `host`, for EnvoyListener::filters; the name is the filter's.
nlohmann::json ExtAuthz(const nlohmann::json& settings, const std::string& host = "host",
                        const std::string& name = "envoy.filters.http.ext_authz");
// The same for EnvoyListener::network_filters.
nlohmann::json NetworkExtAuthz(const std::string& host = "host");

// A network ext_proc filter that calls `host`, for EnvoyListener::network_filters. It sends
// source.address, and takes metadata of the namespace "ns".
nlohmann::json NetworkExtProc(const std::string& host = "host");
// For EnvoyListener::proxy: a line of this format in Envoy's log (EnvoyProcess::Output) for each
// request or connection.
nlohmann::json AccessLog(const std::string& format);

// A rate limit filter that asks `host`, for EnvoyListener::filters; the name is the filter's.
nlohmann::json RateLimit(const nlohmann::json& settings, const std::string& host = "host",
                         const std::string& name = "envoy.filters.http.ratelimit");
// A route to the backend, with a descriptor for each of these request headers: its name is the
// entry's key. A header that a request does not have makes no descriptor.
nlohmann::json RateLimitedRoute(const std::vector<std::string>& headers);

// A filter that gives each request the metadata `value` of `name`, for EnvoyListener::filters.
nlohmann::json SetMetadata(const std::string& name, const nlohmann::json& value);

// A route (config.route.v3.Route) of paths with `prefix` to a local answer.
nlohmann::json DirectResponse(const std::string& prefix, int status, const std::string& body);

nlohmann::json MakeBootstrap(const EnvoyConfig& config);

}  // namespace callout::tests

#endif  // CALLOUT_TESTS_ENVOY_ENVOY_CONFIG_H_
