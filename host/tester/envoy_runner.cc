// SPDX-License-Identifier: Apache-2.0

#include "host/tester/envoy_runner.h"

#include <fmt/format.h>
#include <stdlib.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "absl/strings/str_replace.h"
#include "host/base/log.h"
#include "host/tester/http1.h"

namespace callout::host {
namespace {

using nlohmann::json;
using ProcessingMode = envoy::extensions::filters::http::ext_proc::v3::ProcessingMode;

constexpr std::chrono::milliseconds kPause{10};
constexpr int kPausesMax = 2000;
constexpr char kHttpOptions[] = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

json Any(const std::string& type, json message) {
  message["@type"] = "type.googleapis.com/" + type;
  return message;
}

json Named(const std::string& name, const std::string& type, const json& config) {
  return {{"name", name}, {"typed_config", Any(type, config)}};
}

json PipeAddress(const std::string& path) { return {{"pipe", {{"path", path}}}}; }

json Cluster(const std::string& name, const std::string& path, const json& http_options) {
  const json endpoint = {{"endpoint", {{"address", PipeAddress(path)}}}};
  return {{"name", name},
          {"type", "STATIC"},
          {"connect_timeout", "10s"},
          {"typed_extension_protocol_options",
           {{kHttpOptions, Any(kHttpOptions, {{"explicit_http_config", http_options}})}}},
          {"load_assignment",
           {{"cluster_name", name},
            {"endpoints", json::array({{{"lb_endpoints", json::array({endpoint})}}})}}}};
}

json RouteConfig() {
  const json route = {{"match", {{"prefix", "/"}}},
                      {"route", {{"cluster", "backend"}, {"timeout", "0s"}}}};
  const json host = {
      {"name", "all"}, {"domains", json::array({"*"})}, {"routes", json::array({route})}};
  return {{"virtual_hosts", json::array({host})}};
}

}  // namespace

EnvoyRunner::EnvoyRunner(const CaseFile& file, const Options& options) : options_(options) {
  for (const Case& tested : file.cases) {
    modes_.emplace(tested.request_body_mode, tested.response_body_mode);
  }
}

EnvoyRunner::~EnvoyRunner() {
  envoy_.reset();
  host_.reset();
  backend_.reset();
  std::error_code ignored;
  if (!directory_.empty()) std::filesystem::remove_all(directory_, ignored);
}

absl::StatusOr<std::unique_ptr<EnvoyRunner>> EnvoyRunner::Start(const CaseFile& file,
                                                                const Options& options) {
  std::unique_ptr<EnvoyRunner> runner(new EnvoyRunner(file, options));
  if (absl::Status status = runner->MakeDirectory(); !status.ok()) return status;
  absl::StatusOr<std::unique_ptr<Backend>> backend = Backend::Start(runner->Path("backend.sock"));
  if (!backend.ok()) return backend.status();
  runner->backend_ = *std::move(backend);
  if (absl::Status status = runner->StartHost(file); !status.ok()) return status;
  if (absl::Status status = runner->StartEnvoy(); !status.ok()) return status;
  return runner;
}

// Not by TMPDIR, since the path of a Unix socket has to be short.
absl::Status EnvoyRunner::MakeDirectory() {
  std::string path = "/tmp/callout-test-XXXXXX";
  if (mkdtemp(path.data()) == nullptr) {
    return absl::UnavailableError("cannot make a directory in /tmp");
  }
  directory_ = path;
  return absl::OkStatus();
}

absl::Status EnvoyRunner::WriteFile(const std::string& name, const std::string& text) const {
  std::ofstream file(Path(name), std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  if (file) return absl::OkStatus();
  return absl::UnavailableError(fmt::format("cannot write {}", Path(name)));
}

absl::Status EnvoyRunner::AwaitSocket(Child* child, const std::string& program,
                                      const std::string& path) const {
  for (int i = 0; i < kPausesMax && child->IsRunning(); ++i) {
    if (ConnectUnix(path).ok()) return absl::OkStatus();
    std::this_thread::sleep_for(kPause);
  }
  return absl::UnavailableError(fmt::format("{} does not serve: {}", program, child->LastLines()));
}

absl::Status EnvoyRunner::StartHost(const CaseFile& file) {
  std::vector<std::string> command = {
      options_.host,
      "--plaintext_address=unix:" + Path("host.sock"),
      "--disable_tls",
      "--combined_health_check",
      "--admin_address=off",
      "--envoy_mode_override=ignored",
      "--plugin_permissions=warn",
      "--drain_delay_ms=0",
      fmt::format("--hook_deadline_ms={}", options_.hook_deadline_ms)};
  if (!options_.upstreams.empty()) {
    command.push_back("--upstreams=" + Path("upstreams.json"));
    absl::Status status = WriteFile("upstreams.json", options_.upstreams);
    if (!status.ok()) return status;
  }
  for (const ChainPlugin& plugin : file.chain) {
    command.push_back(fmt::format("--plugin={}={}", plugin.name, plugin.path));
    const auto add = [&](const char* option, const std::string& text) {
      if (text.empty()) return absl::OkStatus();
      const std::string name = fmt::format("{}.{}", plugin.name, option);
      command.push_back(fmt::format("--{}={}=@{}", option, plugin.name, Path(name)));
      return WriteFile(name, text);
    };
    if (absl::Status status = add("plugin_config", plugin.config); !status.ok()) return status;
    if (absl::Status status = add("plugin_settings", plugin.settings); !status.ok()) return status;
  }
  absl::StatusOr<std::unique_ptr<Child>> host = Child::Start(command, Path("host.log"));
  if (!host.ok()) return host.status();
  host_ = *std::move(host);
  return AwaitSocket(host_.get(), "callout-host", Path("host.sock"));
}

absl::Status EnvoyRunner::StartEnvoy() {
  if (absl::Status status = WriteFile("envoy.json", Bootstrap().dump(2)); !status.ok()) {
    return status;
  }
  absl::StatusOr<std::unique_ptr<Child>> envoy = Child::Start(
      {options_.envoy, "--config-path", Path("envoy.json"), "--concurrency", "1",
       "--disable-hot-restart", "--log-level", "warning", "--file-flush-interval-msec", "10"},
      Path("envoy.log"));
  if (!envoy.ok()) {
    return absl::UnavailableError(fmt::format("{}; name one by --envoy_path or CALLOUT_ENVOY",
                                              std::string(envoy.status().message())));
  }
  envoy_ = *std::move(envoy);
  for (const Modes& modes : modes_) {
    if (absl::Status status = AwaitSocket(envoy_.get(), "Envoy", ListenerPath(modes));
        !status.ok()) {
      return status;
    }
  }
  return absl::OkStatus();
}

std::string EnvoyRunner::ListenerPath(const Modes& modes) const {
  return Path(
      fmt::format("{}-{}.sock", static_cast<int>(modes.first), static_cast<int>(modes.second)));
}

json EnvoyRunner::Filter(const Modes& modes) const {
  const json mode = {{"request_header_mode", "SEND"},
                     {"response_header_mode", "SEND"},
                     {"request_body_mode", ProcessingMode::BodySendMode_Name(modes.first)},
                     {"response_body_mode", ProcessingMode::BodySendMode_Name(modes.second)},
                     {"request_trailer_mode", "SEND"},
                     {"response_trailer_mode", "SEND"}};
  json filter = {
      {"grpc_service", {{"envoy_grpc", {{"cluster_name", "host"}}}, {"timeout", "30s"}}},
      {"message_timeout", "30s"},
      {"processing_mode", mode},
      {"mutation_rules", {{"allow_all_routing", true}, {"allow_envoy", true}}},
  };
  if (!options_.namespaces.empty()) {
    filter["metadata_options"] = {{"receiving_namespaces", {{"untyped", options_.namespaces}}}};
  }
  return Named("envoy.filters.http.ext_proc",
               "envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor", filter);
}

// What Envoy adds by itself is turned off as far as it can be.
json EnvoyRunner::Listener(const Modes& modes) const {
  json shown = json::object();
  for (const std::string& name : options_.namespaces) {
    shown[name] = fmt::format("%DYNAMIC_METADATA({})%", name);
  }
  const json log =
      Named("envoy.access_loggers.file", "envoy.extensions.access_loggers.file.v3.FileAccessLog",
            {{"path", Path("access.log")}, {"log_format", {{"json_format", shown}}}});
  const json router =
      Named("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router",
            {{"suppress_envoy_headers", true}});
  json manager = {{"stat_prefix", "cases"},
                  {"http_protocol_options", {{"enable_trailers", true}}},
                  {"generate_request_id", false},
                  {"skip_xff_append", true},
                  {"server_header_transformation", "PASS_THROUGH"},
                  {"http_filters", json::array({Filter(modes), router})},
                  {"route_config", RouteConfig()}};
  if (!options_.namespaces.empty()) manager["access_log"] = json::array({log});
  const json chain = Named(
      "envoy.filters.network.http_connection_manager",
      "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", manager);
  return {{"address", PipeAddress(ListenerPath(modes))},
          {"filter_chains", json::array({{{"filters", json::array({chain})}}})}};
}

json EnvoyRunner::Bootstrap() const {
  json listeners = json::array();
  for (const Modes& modes : modes_) listeners.push_back(Listener(modes));
  const json clusters = json::array(
      {Cluster("backend", Path("backend.sock"),
               {{"http_protocol_options", {{"enable_trailers", true}}}}),
       Cluster("host", Path("host.sock"), {{"http2_protocol_options", json::object()}})});
  return {{"static_resources", {{"listeners", listeners}, {"clusters", clusters}}}};
}

// The line of the access log that the exchange has added.
absl::Status EnvoyRunner::ReadMetadata(json* metadata) {
  for (int i = 0; i < kPausesMax && envoy_->IsRunning(); ++i) {
    std::ifstream file(Path("access.log"));
    std::vector<std::string> lines;
    for (std::string line; std::getline(file, line);) lines.push_back(std::move(line));
    const bool is_whole = file.eof() && lines.size() >= exchanges_;
    const json found = is_whole ? json::parse(lines[exchanges_ - 1], nullptr, false) : json();
    if (found.is_object()) {
      for (const auto& [name, value] : found.items()) {
        if (value.is_object() && !value.empty()) (*metadata)[name] = value;
      }
      return absl::OkStatus();
    }
    std::this_thread::sleep_for(kPause);
  }
  return absl::UnavailableError("Envoy did not log the exchange: " + envoy_->LastLines());
}

absl::StatusOr<Outcome> EnvoyRunner::Run(const Case& tested) {
  backend_->SetResponse(tested.http->response);
  absl::StatusOr<OwnedFd> socket =
      ConnectUnix(ListenerPath({tested.request_body_mode, tested.response_body_mode}));
  if (!socket.ok()) return socket.status();
  Http1Connection connection(*std::move(socket));
  ++exchanges_;
  // Envoy may answer before it has read all of a request: what it says then counts.
  const absl::Status sent = connection.Write(tested.http->request);
  absl::StatusOr<HttpMessage> response =
      connection.ReadResponse(ValuesOf(tested.http->request.headers, ":method").at(0));
  if (!response.ok()) return sent.ok() ? response.status() : sent;
  Outcome outcome;
  outcome.knows_error = false;
  outcome.response = *std::move(response);
  if (!options_.namespaces.empty()) {
    if (absl::Status status = ReadMetadata(&outcome.metadata); !status.ok()) return status;
  }
  outcome.request = backend_->TakeRequest();
  Normalize(&outcome);
  return outcome;
}

}  // namespace callout::host
