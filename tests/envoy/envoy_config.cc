// SPDX-License-Identifier: Apache-2.0

#include "envoy_config.h"

namespace callout::tests {
namespace {

using nlohmann::json;

constexpr char kBackend[] = "backend";
constexpr char kHttpOptions[] = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

json Any(const char* type, json message) {
  message["@type"] = std::string("type.googleapis.com/") + type;
  return message;
}

json SocketAddress(uint16_t port) {
  return {{"socket_address", {{"address", "127.0.0.1"}, {"port_value", port}}}};
}

json Cluster(const std::string& name, uint16_t port, const json& http_options) {
  const json endpoint = {{"endpoint", {{"address", SocketAddress(port)}}}};
  return {
      {"name", name},
      {"type", "STATIC"},
      {"connect_timeout", "5s"},
      {"typed_extension_protocol_options",
       {{kHttpOptions, Any(kHttpOptions, {{"explicit_http_config", http_options}})}}},
      {"load_assignment",
       {{"cluster_name", name},
        {"endpoints", json::array({{{"lb_endpoints", json::array({endpoint})}}})}}},
  };
}

json Filter(const std::string& name, const char* type, const json& config) {
  return {{"name", name}, {"typed_config", Any(type, config)}};
}

json HttpFilters(const EnvoyListener& listener) {
  json filters = json::array();
  for (size_t i = 0; i < listener.filters.size(); ++i) {
    if (listener.filters[i].contains("typed_config")) {
      filters.push_back(listener.filters[i]);
      continue;
    }
    // The first is called what Envoy's own examples call it: its attributes come under that name.
    const std::string name = "envoy.filters.http.ext_proc" + (i == 0 ? "" : std::to_string(i + 1));
    filters.push_back(Filter(name, "envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor",
                             listener.filters[i]));
  }
  filters.push_back(
      Filter("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router", {}));
  return filters;
}

json Routes(const EnvoyListener& listener) {
  json routes = listener.routes;
  json all = {{"match", {{"prefix", "/"}}}, {"route", {{"cluster", kBackend}, {"timeout", "60s"}}}};
  all.update(listener.route);
  routes.push_back(all);
  return {{"virtual_hosts",
           json::array({{{"name", "all"}, {"domains", json::array({"*"})}, {"routes", routes}}})}};
}

json Listener(const EnvoyListener& listener) {
  json manager = {
      {"stat_prefix", listener.name},
      {"http_protocol_options", {{"enable_trailers", true}}},
      {"http_filters", HttpFilters(listener)},
      {"route_config", Routes(listener)},
  };
  manager.update(listener.proxy);
  json filters = json::array();
  for (const json& filter : listener.network_filters) filters.push_back(filter);
  if (listener.is_tcp) {
    json proxy = {{"stat_prefix", listener.name}, {"cluster", kBackend}};
    proxy.update(listener.proxy);
    filters.push_back(Filter("envoy.filters.network.tcp_proxy",
                             "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", proxy));
  } else {
    filters.push_back(
        Filter("envoy.filters.network.http_connection_manager",
               "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
               manager));
  }
  json chain = {{"filters", filters}};
  if (!listener.tls.is_null()) {
    chain["transport_socket"] =
        Filter("envoy.transport_sockets.tls",
               "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext", listener.tls);
  }
  json result = {
      {"name", listener.name},
      {"address", SocketAddress(0)},
      {"filter_chains", json::array({chain})},
  };
  if (listener.buffer_bytes_max > 0) {
    result["per_connection_buffer_limit_bytes"] = listener.buffer_bytes_max;
  }
  return result;
}

}  // namespace

json ExtProc(const json& settings, const std::string& host) {
  json filter = {
      {"grpc_service", {{"envoy_grpc", {{"cluster_name", host}}}, {"timeout", "20s"}}},
      {"message_timeout", "20s"},
  };
  filter.update(settings);
  return filter;
}

json ExtAuthz(const json& settings, const std::string& host, const std::string& name) {
  json filter = {
      {"transport_api_version", "V3"},
      {"grpc_service", {{"envoy_grpc", {{"cluster_name", host}}}, {"timeout", "20s"}}},
  };
  filter.update(settings);
  return Filter(name, "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz", filter);
}

json NetworkExtAuthz(const std::string& host) {
  return Filter("envoy.filters.network.ext_authz",
                "envoy.extensions.filters.network.ext_authz.v3.ExtAuthz",
                {{"stat_prefix", "network"},
                 {"transport_api_version", "V3"},
                 {"grpc_service", {{"envoy_grpc", {{"cluster_name", host}}}, {"timeout", "20s"}}}});
}

json NetworkExtProc(const std::string& host) {
  return Filter(
      "envoy.filters.network.ext_proc",
      "envoy.extensions.filters.network.ext_proc.v3.NetworkExternalProcessor",
      {{"stat_prefix", host},
       {"message_timeout", "20s"},
       {"connection_attributes", json::array({"source.address"})},
       {"metadata_options", {{"receiving_namespaces", {{"untyped", json::array({"ns"})}}}}},
       {"grpc_service", {{"envoy_grpc", {{"cluster_name", host}}}, {"timeout", "20s"}}}});
}

json AccessLog(const std::string& format) {
  const json line = {{"text_format_source", {{"inline_string", format + "\n"}}}};
  return {{"access_log",
           json::array({Filter("envoy.access_loggers.stderr",
                               "envoy.extensions.access_loggers.stream.v3.StderrAccessLog",
                               {{"log_format", line}})})}};
}

json RateLimit(const json& settings, const std::string& host, const std::string& name) {
  json filter = {
      {"domain", "test"},
      {"timeout", "20s"},
      {"rate_limit_service",
       {{"transport_api_version", "V3"},
        {"grpc_service", {{"envoy_grpc", {{"cluster_name", host}}}, {"timeout", "20s"}}}}},
  };
  filter.update(settings);
  return Filter(name, "envoy.extensions.filters.http.ratelimit.v3.RateLimit", filter);
}

json RateLimitedRoute(const std::vector<std::string>& headers) {
  json limits = json::array();
  for (const std::string& header : headers) {
    const json action = {
        {"request_headers", {{"header_name", header}, {"descriptor_key", header}}}};
    limits.push_back({{"actions", json::array({action})}});
  }
  return {{"match", {{"prefix", "/"}}},
          {"route", {{"cluster", kBackend}, {"timeout", "60s"}, {"rate_limits", limits}}}};
}

json SetMetadata(const std::string& name, const json& value) {
  const json entry = {{"metadata_namespace", name}, {"value", value}};
  return Filter("envoy.filters.http.set_metadata",
                "envoy.extensions.filters.http.set_metadata.v3.Config",
                {{"metadata", json::array({entry})}});
}

json DirectResponse(const std::string& prefix, int status, const std::string& body) {
  return {{"match", {{"prefix", prefix}}},
          {"direct_response", {{"status", status}, {"body", {{"inline_string", body}}}}}};
}

json MakeBootstrap(const EnvoyConfig& config) {
  json clusters = json::array();
  clusters.push_back(Cluster(kBackend, config.backend_port,
                             {{"http_protocol_options", {{"enable_trailers", true}}}}));
  for (const auto& [name, host] : config.hosts) {
    clusters.push_back(Cluster(name, host.port, {{"http2_protocol_options", json::object()}}));
  }
  json listeners = json::array();
  for (const EnvoyListener& listener : config.listeners) listeners.push_back(Listener(listener));
  return {
      {"admin", {{"address", SocketAddress(0)}}},
      {"static_resources", {{"clusters", clusters}, {"listeners", listeners}}},
  };
}

}  // namespace callout::tests
