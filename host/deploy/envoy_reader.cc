// SPDX-License-Identifier: Apache-2.0

#include "host/deploy/envoy_reader.h"

#include <fmt/format.h>

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_split.h"

namespace callout::host {
namespace {

constexpr std::string_view kExtProc = "filters.http.ext_proc.v3.ExternalProcessor";
constexpr std::string_view kExtProcPerRoute = "filters.http.ext_proc.v3.ExtProcPerRoute";
constexpr std::string_view kManager = "http_connection_manager.v3.HttpConnectionManager";
constexpr char kHttpOptions[] = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

// Envoy's defaults.
constexpr uint64_t kHeaderKb = 60;
constexpr uint64_t kHeaderCount = 100;
constexpr uint64_t kHealthThreshold = 2;
constexpr uint64_t kNoTrafficMs = 60000;

using Clusters = std::map<std::string, Place>;

// What stands around a filter; a Place that is not there where there is none.
struct Surroundings {
  Place listener, manager;
};

std::string TypeOf(const Place& place) { return place.At("@type").Text(); }

// The message of an Any: itself, or what a TypedStruct wraps.
struct Typed {
  std::string type;
  Place message;
};

Typed TypedOf(const Place& place) {
  const std::string type = TypeOf(place);
  if (!type.ends_with(".TypedStruct")) return {type, place};
  return {place.Get("type_url").Text(), place.Get("value")};
}

constexpr std::string_view kSendForm = "SEND, SKIP or DEFAULT";
constexpr std::string_view kBodyForm =
    "NONE, STREAMED, BUFFERED, BUFFERED_PARTIAL or FULL_DUPLEX_STREAMED";

std::optional<bool> SendModeOf(const Place& mode, bool by_default) {
  const std::string text = mode.Text();
  if (text == "SEND" || text == "1") return true;
  if (text == "SKIP" || text == "2") return false;
  if (text == "DEFAULT" || text == "0") return by_default;
  return std::nullopt;
}

std::optional<BodyMode> BodyModeOf(const Place& mode) {
  static const auto* const kModes =
      new std::map<std::string, BodyMode>{{"NONE", BodyMode::kNone},
                                          {"0", BodyMode::kNone},
                                          {"STREAMED", BodyMode::kStreamed},
                                          {"1", BodyMode::kStreamed},
                                          {"BUFFERED", BodyMode::kBuffered},
                                          {"2", BodyMode::kBuffered},
                                          {"BUFFERED_PARTIAL", BodyMode::kBufferedPartial},
                                          {"3", BodyMode::kBufferedPartial},
                                          {"FULL_DUPLEX_STREAMED", BodyMode::kFullDuplex},
                                          {"4", BodyMode::kFullDuplex}};
  const auto found = kModes->find(mode.Text());
  if (found == kModes->end()) return std::nullopt;
  return found->second;
}

void ReadDirection(const Place& modes, const std::string& direction, ProxyDirection* read,
                   std::vector<ConfigFinding>* findings) {
  const Place headers = modes.Get(direction + "_header_mode");
  const Place body = modes.Get(direction + "_body_mode");
  const Place trailers = modes.Get(direction + "_trailer_mode");
  SetRead(headers, SendModeOf(headers, true), true, kSendForm, &read->headers, findings);
  SetRead(body, BodyModeOf(body), BodyMode::kNone, kBodyForm, &read->body, findings);
  SetRead(trailers, SendModeOf(trailers, false), false, kSendForm, &read->trailers, findings);
}

void ReadDirections(const Place& modes, ProxySettings* settings) {
  ReadDirection(modes, "request", &settings->request, &settings->findings);
  ReadDirection(modes, "response", &settings->response, &settings->findings);
}

void ReadBool(const Place& place, Known<bool>* known, ProxySettings* settings) {
  SetRead(place, place.Bool(), false, kBoolForm, known, &settings->findings);
}

void ReadDuration(const Place& place, uint64_t by_default, Known<uint64_t>* known,
                  ProxySettings* settings) {
  SetRead(place, place.DurationMs(), by_default, kDurationForm, known, &settings->findings);
}

void ReadNumber(const Place& place, uint64_t by_default, Known<uint64_t>* known,
                ProxySettings* settings) {
  SetRead(place, place.Number(), by_default, kNumberForm, known, &settings->findings);
}

// --- The cluster ---

bool SpeaksHttp2(const Place& cluster) {
  if (cluster.Get("http2_protocol_options").there()) return true;  // deprecated, and obeyed
  const Place options = cluster.Get("typed_extension_protocol_options").At(kHttpOptions);
  return options.Find("explicit_http_config.http2_protocol_options").there() ||
         options.Get("auto_config").there() ||
         options.Find("use_downstream_protocol_config.http2_protocol_options").there();
}

void CheckHttp2(const Place& cluster, ProxySettings* settings) {
  if (SpeaksHttp2(cluster)) return;
  const Place options = cluster.Get("typed_extension_protocol_options");
  settings->findings.push_back(
      {options.path(), options.Shown(),
       fmt::format("{}: {{\"@type\": type.googleapis.com/{}, explicit_http_config: "
                   "{{http2_protocol_options: {{}}}}}}",
                   kHttpOptions, kHttpOptions),
       "gRPC needs HTTP/2; over HTTP/1.1 every callout fails"});
}

void CheckHealth(const Place& check, const EnvoyNeeds& needs, ProxySettings* settings) {
  Known<uint64_t> interval, idle, timeout, failures;
  ReadDuration(check.Get("interval"), 0, &interval, settings);
  ReadDuration(check.Get("no_traffic_interval"), kNoTrafficMs, &idle, settings);
  ReadDuration(check.Get("timeout"), 0, &timeout, settings);
  ReadNumber(check.Get("unhealthy_threshold"), kHealthThreshold, &failures, settings);
  const uint64_t interval_ms = interval.value.value_or(0);
  const Place no_traffic = check.Get("no_traffic_interval");
  if (idle.value.value_or(0) > interval_ms && interval_ms > 0) {
    settings->findings.push_back(
        {no_traffic.path(), no_traffic.Shown(),
         fmt::format("no_traffic_interval: {}", check.Get("interval").Text()),
         "without it Envoy checks a cluster without traffic once a minute, and the first "
         "requests go to a replica that is gone"});
  }
  const uint64_t seen_ms =
      interval_ms * failures.value.value_or(kHealthThreshold) + timeout.value.value_or(0);
  if (needs.drain_delay_ms == 0 || seen_ms <= needs.drain_delay_ms) return;
  settings->findings.push_back(
      {check.Get("interval").path(), check.Get("interval").Shown(),
       fmt::format("interval: {}ms, or start the host with --drain_delay_ms={}",
                   HealthIntervalMs(needs), seen_ms + 1000),
       fmt::format("Envoy sees a drain after up to {} ms, and the host refuses connections after "
                   "--drain_delay_ms={}",
                   seen_ms, needs.drain_delay_ms)});
}

void CheckCluster(const Place& cluster, const EnvoyNeeds& needs, ProxySettings* settings) {
  CheckHttp2(cluster, settings);
  for (const Place& check : cluster.Get("health_checks").Children()) {
    CheckHealth(check, needs, settings);
  }
}

// --- The filter ---

void CheckRetries(const Place& service, ProxySettings* settings) {
  const Place retry_on = service.Find("retry_policy.retry_on");
  for (const std::string condition : {"reset", "5xx", "gateway-error", "unavailable"}) {
    const std::vector<std::string> given = absl::StrSplit(retry_on.Text(), ',');
    for (const std::string& one : given) {
      if (one != condition) continue;
      settings->findings.push_back(
          {retry_on.path(), retry_on.Shown(),
           "retry_on: \"connect-failure,reset-before-request,refused-stream\"",
           fmt::format("'{}' can show a message to the plugins of two replicas", condition)});
      return;
    }
  }
}

void ReadLimits(const Surroundings& around, ProxySettings* settings) {
  if (around.listener.there()) {
    const Place buffer = around.listener.Get("per_connection_buffer_limit_bytes");
    ReadNumber(buffer, kEnvoyBufferBytesDefault, &settings->buffer_bytes, settings);
  }
  if (!around.manager.there()) return;
  const Place kb = around.manager.Get("max_request_headers_kb");
  ReadNumber(kb, kHeaderKb, &settings->header_bytes, settings);
  if (settings->header_bytes.value.has_value()) *settings->header_bytes.value *= 1024;
  const Place count = around.manager.Find("common_http_protocol_options.max_headers_count");
  ReadNumber(count, kHeaderCount, &settings->header_count, settings);
}

ProxySettings ReadFilter(const Place& filter, const Surroundings& around) {
  ProxySettings settings;
  settings.path = filter.path();
  ReadDirections(filter.Get("processing_mode"), &settings);
  ReadBool(filter.Get("failure_mode_allow"), &settings.fail_open, &settings);
  ReadBool(filter.Get("observability_mode"), &settings.observability, &settings);
  ReadBool(filter.Get("allow_mode_override"), &settings.overrides, &settings);
  ReadDuration(filter.Get("message_timeout"), kMessageTimeoutMs, &settings.timeout_ms, &settings);
  ReadDuration(filter.Get("max_message_timeout"), 0, &settings.max_timeout_ms, &settings);
  // Rules that are there, and say nothing of routing, are somebody's decision.
  const Place rules = filter.Get("mutation_rules");
  settings.routing.Set(rules.there(), rules);
  const Place attributes = filter.Get("request_attributes");
  settings.attributes.Set(attributes.Texts(), attributes);
  ReadLimits(around, &settings);
  CheckRetries(filter.Get("grpc_service"), &settings);
  return settings;
}

// A route's overrides of a filter that may stand anywhere: only what they say is judged.
ProxySettings ReadPerRoute(const Place& route) {
  const Place overrides = route.Get("overrides");
  ProxySettings settings;
  settings.path = route.path();
  const Place modes = overrides.Get("processing_mode");
  if (modes.there()) ReadDirections(modes, &settings);
  const Place fail_open = overrides.Get("failure_mode_allow");
  if (fail_open.there()) ReadBool(fail_open, &settings.fail_open, &settings);
  return settings;
}

void FindClusters(const Place& place, Clusters* clusters) {
  const Place name = place.At("name");
  const bool is_cluster = TypeOf(place).ends_with(".Cluster") ||
                          place.Get("load_assignment").there() ||
                          place.Get("eds_cluster_config").there();
  if (is_cluster && name.there()) clusters->emplace(name.Text(), place);
  for (const Place& child : place.Children()) FindClusters(child, clusters);
}

class Walk {
 public:
  Walk(const Clusters& clusters, const EnvoyNeeds& needs, std::vector<ProxySettings>* found)
      : clusters_(clusters), needs_(needs), found_(found) {}

  void Visit(const Place& place, Surroundings around) {
    const Typed typed = TypedOf(place);
    // In a dump all that the bootstrap holds comes once more, as what was made of it.
    if (typed.type.ends_with(".BootstrapConfigDump")) return;
    if (place.Get("filter_chains").there()) around.listener = place;
    if (typed.type.ends_with(kManager)) around.manager = typed.message;
    if (typed.type.ends_with(kExtProcPerRoute)) {
      found_->push_back(ReadPerRoute(typed.message));
    } else if (typed.type.ends_with(kExtProc)) {
      found_->push_back(ReadFilter(typed.message, around));
      const std::string name = typed.message.Find("grpc_service.envoy_grpc.cluster_name").Text();
      const auto cluster = clusters_.find(name);
      if (cluster != clusters_.end()) CheckCluster(cluster->second, needs_, &found_->back());
    }
    for (const Place& child : place.Children()) Visit(child, around);
  }

 private:
  const Clusters& clusters_;
  const EnvoyNeeds& needs_;
  std::vector<ProxySettings>* const found_;
};

}  // namespace

void ReadEnvoyFilters(const Place& document, const EnvoyNeeds& needs,
                      std::vector<ProxySettings>* found) {
  Clusters clusters;
  FindClusters(document, &clusters);
  const Place none = document.At("@none");
  Walk(clusters, needs, found).Visit(document, {none, none});
}

}  // namespace callout::host
