// SPDX-License-Identifier: Apache-2.0

#include "host/deploy/print_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "absl/strings/str_join.h"
#include "host/deploy/body_modes.h"
#include "host/deploy/templates.h"
#include "host/deploy/yaml_template.h"

namespace callout::host {
namespace {

constexpr uint64_t kMaxMessageTimeoutMs = 10000;
constexpr uint64_t kGoogleTimeoutMsMax = 10000;
constexpr char kHostService[] = "outbound|{}||callout-host.callout.svc.cluster.local";

// Google's load balancers want TLS; others take it only where there is nothing else.
bool UsesTls(DeployTarget target, const EnvoyNeeds& needs) {
  return needs.secure.has_value() && (IsGoogle(target) || !needs.plaintext.has_value());
}

CalloutEndpoint EndpointFor(DeployTarget target, const EnvoyNeeds& needs) {
  if (UsesTls(target, needs)) return *needs.secure;
  return needs.plaintext.value_or(CalloutEndpoint{});
}

// "0.35s": protobuf's form, which is the only one that Envoy reads.
std::string ProtoSeconds(uint64_t ms) {
  if (ms % 1000 == 0) return fmt::format("{}s", ms / 1000);
  std::string text = fmt::format("{}.{:03}", ms / 1000, ms % 1000);
  text.erase(text.find_last_not_of('0') + 1);
  return text + "s";
}

// "350ms": Kubernetes' form.
std::string KubernetesTime(uint64_t ms) {
  return ms % 1000 == 0 ? fmt::format("{}s", ms / 1000) : fmt::format("{}ms", ms);
}

std::string Because(std::string_view value, const std::string& plugin, std::string_view why) {
  return plugin.empty() ? fmt::format("{}  # no plugin wants it", value)
                        : fmt::format("{}  # plugin {} {}", value, plugin, why);
}

// --- The modes of one direction, in the words of each kind of proxy. ---

std::string BodyWhy(const DirectionNeeds& needs, BodyMode mode, uint64_t whole_body_bytes_max) {
  if (!needs.whole_body_for.empty()) {
    return fmt::format("plugin {} takes whole bodies, up to {} bytes", needs.whole_body_for,
                       whole_body_bytes_max);
  }
  if (!needs.body_for.empty()) return fmt::format("plugin {} takes chunks", needs.body_for);
  if (mode != BodyMode::kNone) {
    return fmt::format("plugin {} wants trailers, which come in this mode only",
                       needs.trailers_for);
  }
  return "no plugin wants it";
}

void AddModes(const std::string& direction, DeployTarget target, const DirectionNeeds& needs,
              uint64_t whole_body_bytes_max, TemplateValues* values) {
  const DirectionModes modes = ModesFor(target, needs);
  const bool camel = target == DeployTarget::kAgentgateway;
  const std::string_view send = camel ? "Send" : "SEND", skip = camel ? "Skip" : "SKIP";
  const std::string_view body = camel ? BodyModeCamelName(modes.body) : BodyModeName(modes.body);
  (*values)[direction + "_headers"] =
      Because(modes.headers ? send : skip, needs.headers_for, "needs them");
  (*values)[direction + "_body"] =
      fmt::format("{}  # {}", body, BodyWhy(needs, modes.body, whole_body_bytes_max));
  (*values)[direction + "_trailers"] =
      modes.trailers && !needs.trailers()
          ? fmt::format("{}  # the body mode needs them", send)
          : Because(modes.trailers ? send : skip, needs.trailers_for, "has a hook for them");
}

// "request: {body: Buffered}  # …"; "" where nothing is to be sent.
std::string GatewayMode(const std::string& direction, const DirectionNeeds& needs,
                        const EnvoyNeeds& all) {
  if (!needs.any()) return "";
  std::vector<std::string> fields;
  const BodyMode body = ModesFor(DeployTarget::kEnvoyGateway, needs).body;
  if (body != BodyMode::kNone) fields.push_back(fmt::format("body: {}", BodyModeCamelName(body)));
  if (direction == "request" && !all.attributes.empty()) {
    std::vector<std::string> names;
    for (const std::string& name : all.attributes) names.push_back(YamlScalar(name));
    fields.push_back(fmt::format("attributes: [{}]", absl::StrJoin(names, ", ")));
  }
  const std::string why =
      body == BodyMode::kNone
          ? fmt::format("headers, which plugin {} needs, and no body", needs.headers_for)
          : BodyWhy(needs, body, all.whole_body_bytes_max);
  return fmt::format("{}: {{{}}}  # {}", direction, absl::StrJoin(fields, ", "), why);
}

void AddGoogleEvents(const EnvoyNeeds& needs, DeployTarget target, TemplateValues* values) {
  const bool camel = target == DeployTarget::kGke;
  std::vector<std::string> events;
  const auto add = [&](bool wanted, const char* name, const char* camel_name) {
    if (wanted) events.emplace_back(camel ? camel_name : name);
  };
  const DirectionModes request = ModesFor(target, needs.request);
  const DirectionModes response = ModesFor(target, needs.response);
  add(request.headers, "REQUEST_HEADERS", "RequestHeaders");
  add(request.body != BodyMode::kNone, "REQUEST_BODY", "RequestBody");
  add(request.trailers, "REQUEST_TRAILERS", "RequestTrailers");
  add(response.headers, "RESPONSE_HEADERS", "ResponseHeaders");
  add(response.body != BodyMode::kNone, "RESPONSE_BODY", "ResponseBody");
  add(response.trailers, "RESPONSE_TRAILERS", "ResponseTrailers");
  (*values)["events"] = fmt::format("[{}]", absl::StrJoin(events, ", "));
  const std::string duplex = camel ? "FullDuplexStreamed" : "BODY_SEND_MODE_FULL_DUPLEX_STREAMED";
  if (request.body == BodyMode::kFullDuplex) (*values)["request_send_mode"] = duplex;
  if (response.body == BodyMode::kFullDuplex) (*values)["response_send_mode"] = duplex;
  (*values)["send_mode_why"] = "a whole body's end only shows in this mode";
}

// --- What all targets share. ---

void AddTimes(DeployTarget target, const EnvoyNeeds& needs, TemplateValues* values) {
  const uint64_t wanted_ms = MessageTimeoutMs(needs);
  const uint64_t timeout_ms =
      IsGoogle(target) ? std::min(wanted_ms, kGoogleTimeoutMsMax) : wanted_ms;
  (*values)["message_timeout"] = ProtoSeconds(timeout_ms);
  (*values)["message_timeout_go"] = KubernetesTime(timeout_ms);
  (*values)["message_timeout_why"] =
      timeout_ms < wanted_ms
          ? fmt::format("the most there is; the host may take {} ms: lower --hook_deadline_ms={}",
                        needs.answer_ms_max, needs.hook_deadline_ms)
          : fmt::format("the host answers within {} ms: --hook_deadline_ms={} for each plugin",
                        needs.answer_ms_max, needs.hook_deadline_ms);
  const uint64_t extended_ms = std::max(kMaxMessageTimeoutMs, needs.extra_ms + timeout_ms);
  (*values)["max_message_timeout"] =
      target == DeployTarget::kKgateway ? KubernetesTime(extended_ms) : ProtoSeconds(extended_ms);
  const uint64_t interval_ms = HealthIntervalMs(needs);
  (*values)["health_interval"] = target == DeployTarget::kEnvoyGateway ? KubernetesTime(interval_ms)
                                                                       : ProtoSeconds(interval_ms);
  (*values)["health_interval_s"] = fmt::format("{}", std::max<uint64_t>(interval_ms / 1000, 1));
  if (needs.drain_delay_ms > 0) {
    (*values)["drain_delay_ms"] = fmt::format("{}", needs.drain_delay_ms);
  }
}

void AddFailureMode(const EnvoyNeeds& needs, TemplateValues* values) {
  (*values)["fail_open"] = "false";
  (*values)["failure_mode"] = "FailClosed";
  (*values)["fail_open_why"] =
      needs.denying.empty()
          ? "a request passes unchecked only where a plugin's own policy says so"
          : fmt::format("plugin {} refuses requests, also while the host cannot be reached",
                        needs.denying);
}

void AddAttributes(const EnvoyNeeds& needs, TemplateValues* values) {
  if (needs.attributes.empty()) return;
  std::vector<std::string> names, expressions;
  for (const std::string& name : needs.attributes) {
    names.push_back(YamlScalar(name));
    expressions.push_back(fmt::format("{0}: {0}", YamlScalar(name)));
  }
  (*values)["attributes"] = fmt::format("[{}]", absl::StrJoin(names, ", "));
  (*values)["attribute_expressions"] = fmt::format("{{{}}}", absl::StrJoin(expressions, ", "));
  (*values)["attributes_why"] = "the settings' match compares them";
}

void AddLimits(const EnvoyNeeds& needs, TemplateValues* values) {
  constexpr size_t kHeaderBytesDefault = 60 * 1024, kHeaderCountDefault = 100;
  const uint64_t buffer_bytes = BufferBytes(needs);
  if (buffer_bytes != kEnvoyBufferBytesDefault) {
    (*values)["buffer_bytes"] = fmt::format("{}", buffer_bytes);
    (*values)["buffer_why"] =
        buffer_bytes >= needs.whole_body_bytes_max
            ? "a plugin takes whole bodies of this size; Envoy's default is 1 MiB"
            : fmt::format("as much as fits in --max_message_bytes={}", needs.message_bytes_max);
  }
  if (needs.header_bytes_max != kHeaderBytesDefault) {
    (*values)["header_kb"] = fmt::format("{}", (needs.header_bytes_max + 1023) / 1024);
  }
  if (needs.header_count_max != kHeaderCountDefault) {
    (*values)["header_count"] = fmt::format("{}", needs.header_count_max);
  }
  (*values)["live_streams_max"] = fmt::format("{}", needs.live_streams_max);
  if (needs.request.trailers() || needs.response.trailers()) (*values)["enable_trailers"] = "true";
}

std::string Remarks(DeployTarget target, const EnvoyNeeds& needs) {
  std::string text;
  if (needs.plugins.empty()) text += "# No plugin is given, so nothing is sent to the host.\n";
  if (needs.drain_delay_ms == 0) {
    text +=
        "# With --drain_delay_ms=0 a restart of the host loses requests: give it more than three "
        "of the intervals\n# below.\n";
  }
  if (IsGoogle(target) && !needs.secure.has_value()) {
    text +=
        "# The host is given no TLS listener (--disable_tls); "
        "a load balancer then needs H2C, which GKE has not.\n";
  }
  return text;
}

TemplateValues CommonValues(DeployTarget target, const EnvoyNeeds& needs) {
  TemplateValues values;
  values["plugins"] =
      needs.plugins.empty()
          ? "no plugin"
          : fmt::format("{} {}", needs.plugins.size() == 1 ? "plugin" : "the plugins",
                        absl::StrJoin(needs.plugins, ", "));
  values["remarks"] = Remarks(target, needs);
  values["port"] = fmt::format("{}", EndpointFor(target, needs).port);
  values["health_port"] = fmt::format("{}", needs.health.has_value() ? needs.health->port : 8000);
  if (needs.mode_override != EnvoyModeOverride::kIgnored) values["mode_override"] = "true";
  if (needs.request.any()) values["mutation_rules"] = "{allow_all_routing: true}";
  AddModes("request", target, needs.request, needs.whole_body_bytes_max, &values);
  AddModes("response", target, needs.response, needs.whole_body_bytes_max, &values);
  AddTimes(target, needs, &values);
  AddFailureMode(needs, &values);
  AddAttributes(needs, &values);
  AddLimits(needs, &values);
  values["cluster_health"] = FillTemplate(kClusterHealthTemplate, values);
  return values;
}

// --- Each target's own. ---

std::string TransportSocket(const EnvoyNeeds& needs) {
  std::string text =
      "# The host serves TLS only. Add a validation_context with its CA, which nothing checks "
      "here.\ntransport_socket:\n  name: envoy.transport_sockets.tls\n  typed_config:\n"
      "    \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."
      "UpstreamTlsContext\n"
      "    common_tls_context:\n      alpn_protocols: [h2]\n";
  if (needs.requires_client_certificate) {
    text +=
        "      # --client_ca_path asks for a certificate of one of its CAs:\n"
        "      tls_certificates:\n      - certificate_chain: {filename: /etc/envoy/client.crt}\n"
        "        private_key: {filename: /etc/envoy/client.key}\n";
  }
  return text;
}

std::string PrintEnvoy(const EnvoyNeeds& needs) {
  TemplateValues values = CommonValues(DeployTarget::kEnvoy, needs);
  values["cluster"] = "callout-host";
  values["ext_proc"] = FillTemplate(kExtProcTemplate, values);
  const CalloutEndpoint endpoint = EndpointFor(DeployTarget::kEnvoy, needs);
  if (endpoint.unix_path.empty()) {
    values["cluster_type"] = "STRICT_DNS  # every address of a name is a replica";
    values["address"] =
        fmt::format("{{socket_address: {{address: {}, port_value: {}}}}}",
                    YamlScalar(endpoint.ip.empty() ? "127.0.0.1" : endpoint.ip), endpoint.port);
  } else {
    values["cluster_type"] = "STATIC";
    values["address"] = fmt::format("{{pipe: {{path: {}}}}}", YamlScalar(endpoint.unix_path));
  }
  if (UsesTls(DeployTarget::kEnvoy, needs)) values["transport_socket"] = TransportSocket(needs);
  return FillTemplate(kEnvoyTemplate, values);
}

// A part of an EnvoyFilter that sets fields of what the gateway makes itself.
std::string IstioPatch(std::string_view kind, std::string_view match, const std::string& value) {
  return fmt::format(
      "- applyTo: {}\n  match: {{context: GATEWAY{}}}\n  patch:\n    operation: MERGE\n    value:\n"
      "{}",
      kind, match, value);
}

std::string PrintIstio(const EnvoyNeeds& needs) {
  TemplateValues values = CommonValues(DeployTarget::kIstio, needs);
  values["cluster"] = YamlScalar(fmt::format(kHostService, values["port"]));
  values["ext_proc"] = FillTemplate(kExtProcTemplate, values);
  std::string manager = FillTemplate(
      "        max_request_headers_kb: {{header_kb}}\n"
      "        common_http_protocol_options: {max_headers_count: {{header_count}}}\n"
      "        http_protocol_options: {enable_trailers: {{enable_trailers}}}\n",
      values);
  if (manager.find_first_not_of('\n') != std::string::npos) {
    values["hcm_patch"] = IstioPatch(
        "NETWORK_FILTER",
        ", listener: {filterChain: {filter: {name: "
        "envoy.filters.network.http_connection_manager}}}",
        "      typed_config:\n        \"@type\": type.googleapis.com/envoy.extensions.filters."
        "network.http_connection_manager.v3.HttpConnectionManager\n" +
            manager);
  }
  if (values.count("buffer_bytes") > 0) {
    values["listener_patch"] =
        IstioPatch("LISTENER", "",
                   FillTemplate("      per_connection_buffer_limit_bytes: {{buffer_bytes}}  # "
                                "{{buffer_why}}\n",
                                values));
  }
  values["tls"] = UsesTls(DeployTarget::kIstio, needs)
                      ? "{mode: SIMPLE, insecureSkipVerify: true}  # the host's own TLS; "
                        "name its CA with caCertificates"
                      : "{mode: ISTIO_MUTUAL}  # DISABLE if the host's pods have no sidecar";
  return FillTemplate(kIstioTemplate, values);
}

std::string PrintEnvoyGateway(const EnvoyNeeds& needs) {
  TemplateValues values = CommonValues(DeployTarget::kEnvoyGateway, needs);
  values["request_mode"] = GatewayMode("request", needs.request, needs);
  values["response_mode"] = GatewayMode("response", needs.response, needs);
  const CalloutEndpoint endpoint = EndpointFor(DeployTarget::kEnvoyGateway, needs);
  if (endpoint.unix_path.empty()) {
    values["backend_ref"] = fmt::format("{{name: callout-host, port: {}}}", endpoint.port);
  } else {
    values["backend_ref"] = "{group: gateway.envoyproxy.io, kind: Backend, name: callout-host}";
    values["backend"] = fmt::format(
        "# The host runs beside each Envoy, which share the socket's directory "
        "(docs/deploy.md).\napiVersion: gateway.envoyproxy.io/v1alpha1\nkind: Backend\n"
        "metadata: {{name: callout-host, namespace: callout}}\nspec:\n  endpoints:\n"
        "  - unix: {{path: {}}}\n---\n",
        YamlScalar(endpoint.unix_path));
  }
  if (needs.whole_body_bytes_max > 0) {
    values["client_traffic"] = fmt::format(
        "---\n# Envoy Gateway's own limit of a buffered body is 32 KiB.\n"
        "apiVersion: gateway.envoyproxy.io/v1alpha1\nkind: ClientTrafficPolicy\n"
        "metadata: {{name: callout-host, namespace: callout}}\nspec:\n  targetRefs:\n"
        "  - {{group: gateway.networking.k8s.io, kind: Gateway, name: gateway}}\n"
        "  connection: {{bufferLimit: \"{}\"}}\n",
        BufferBytes(needs));
  }
  return FillTemplate(kEnvoyGatewayTemplate, values);
}

std::string PrintGoogle(DeployTarget target, const EnvoyNeeds& needs) {
  TemplateValues values = CommonValues(target, needs);
  AddGoogleEvents(needs, target, &values);
  return FillTemplate(target == DeployTarget::kGke ? kGkeTemplate : kGcloudTemplate, values);
}

}  // namespace

std::string PrintConfig(DeployTarget target, const EnvoyNeeds& needs) {
  switch (target) {
    case DeployTarget::kEnvoy:
      return PrintEnvoy(needs);
    case DeployTarget::kEnvoyGateway:
      return PrintEnvoyGateway(needs);
    case DeployTarget::kIstio:
      return PrintIstio(needs);
    case DeployTarget::kKgateway:
      return FillTemplate(kKgatewayTemplate, CommonValues(target, needs));
    case DeployTarget::kAgentgateway:
      return FillTemplate(kAgentgatewayTemplate, CommonValues(target, needs));
    case DeployTarget::kGke:
    case DeployTarget::kGcloud:
      return PrintGoogle(target, needs);
  }
  return "";
}

}  // namespace callout::host
