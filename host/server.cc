// SPDX-License-Identifier: Apache-2.0

#include "host/server.h"
#include "host/base/clock.h"
#include "host/base/health_asked.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "absl/strings/str_join.h"
#include "host/base/log.h"
#include "host/base/status_text.h"
#include "host/metrics/open_metrics.h"
#include "host/plugin/services.h"
#include "host/reload/withdrawn_versions.h"
#include "host/telemetry/http_post.h"
#include "host/telemetry/otlp_config.h"
#include "host/unary/check_service.h"
#include "host/wire/rpc_service.h"

namespace callout::host {
namespace {

// The drain delay applies if health was asked for within this time.
constexpr uint64_t kHealthAskedSeconds = 60;
// Time for the current reload to finish after live streams have ended.
constexpr uint64_t kReloadEndMs = 500;

void LogAcceptPause(const absl::Status& status) {
  Log(LogLevel::kWarning, "{}", MessageOf(status));
}

CertificateStore::Paths CertificatePaths(const Config& config) {
  return {config.cert_chain_path, config.private_key_path, config.client_ca_path};
}

bool NeedsCertificate(const Config& config) {
  return config.secure_address.has_value() ||
         (config.secure_health_check && config.health_check_address.has_value());
}

absl::Status OfListener(const std::string& name, const absl::Status& status) {
  return absl::Status(status.code(), fmt::format("{} listener: {}", name, MessageOf(status)));
}

HttpResponse Later(std::function<HttpResponse()> page) {
  HttpResponse response;
  response.later = std::move(page);
  return response;
}

std::vector<std::string> NamesOf(RpcServices services) {
  std::vector<std::string> names;
  for (const RpcServiceInfo& info : kRpcServices) {
    if (services.Has(info.service)) names.emplace_back(info.name);
  }
  return names;
}

// What is wrong with --services and these plugins together, a line for each.
struct ServiceProblems {
  std::vector<std::string> errors;    // requests of the service would be refused for it
  std::vector<std::string> warnings;  // nobody answers the service
};
ServiceProblems CheckServices(RpcServices wanted,
                              const std::vector<Reloader::PluginStatus>& plugins) {
  ServiceProblems problems;
  if (wanted.empty()) return problems;
  RpcServices answered;
  if (plugins.empty()) answered.Add(RpcService::kExtProc);
  for (const Reloader::PluginStatus& plugin : plugins) {
    if (plugin.generations.empty()) continue;
    const GenerationFacts& facts = plugin.generations.front().facts;
    answered.Add(RpcServices::FromBits(facts.services));
    if (!wanted.Has(RpcService::kExtAuthz) ||
        RpcServices::FromBits(facts.services).Has(RpcService::kExtAuthz)) {
      continue;
    }
    if (IsBridgeable(facts.phases)) answered.Add(RpcService::kExtAuthz);
    if (const std::string why = WhyNoBridge(facts.phases); !why.empty()) {
      problems.errors.push_back(
          fmt::format("plugin {} cannot answer ext_authz (--services): {}", plugin.name, why));
    }
  }
  for (const RpcServiceInfo& info : kRpcServices) {
    if (!wanted.Has(info.service) || answered.Has(info.service)) continue;
    problems.warnings.push_back(
        fmt::format("--services names {}, and no plugin has a hook for it", info.name));
  }
  return problems;
}

std::string DescribePlugin(const Reloader::PluginStatus& plugin) {
  if (plugin.state == Reloader::State::kDisabled) {
    return fmt::format("plugin {}\n  disabled\n", plugin.name);
  }
  if (plugin.generations.empty()) return "";
  const Reloader::GenerationStatus& generation = plugin.generations.front();
  const GenerationFacts& facts = generation.facts;
  std::string text = fmt::format("plugin {}\n  path         {}\n", plugin.name, plugin.path);
  const auto line = [&text](const char* label, const std::string& value) {
    if (!value.empty()) text += fmt::format("  {:<12} {}\n", label, value);
  };
  line("name", facts.name);
  line("version", facts.version);
  line("description", facts.description);
  line("ABI", fmt::format("{}", facts.abi_version));
  line("hooks", absl::StrJoin(facts.hooks, ", "));
  line("extensions", absl::StrJoin(facts.extensions, ", "));
  line("services", absl::StrJoin(NamesOf(RpcServices::FromBits(facts.services)), ", "));
  line("schema", facts.config_schema);
  line("signed by", generation.signer);
  for (const std::string& warning : facts.warnings) line("warning", warning);
  return text;
}

// What the exporter would find wrong when it starts.
absl::Status CheckTraces(const OtlpConfig& config) {
  if (!config.enabled || !config.endpoint.tls) return absl::OkStatus();
  return MakeClientTlsContext(config.ca_path, config.client_cert_path, config.client_key_path)
      .status();
}

}  // namespace

absl::StatusOr<CheckReport> CheckConfig(const Config& config) {
  const uint64_t logged_before = CountWarnings();
  CheckReport report;
  const auto warn = [&report](const std::string& warning) {
    report.text += fmt::format("warning: {}\n", warning);
    ++report.warnings;
  };
  for (const std::string& warning : config.warnings) warn(warning);
  if (NeedsCertificate(config)) {
    auto certificates = CertificateStore::Open(CertificatePaths(config));
    if (!certificates.ok()) return certificates.status();
    for (const std::string& warning : (*certificates)->current()->warnings) warn(warning);
  }
  if (absl::Status traces = CheckTraces(config.traces); !traces.ok()) {
    warn(fmt::format("no traces are sent: {}", MessageOf(traces)));
  }
  if (!config.reload.state_dir.empty()) {
    const absl::Status writable = WithdrawnVersions::CheckDirectory(config.reload.state_dir);
    if (!writable.ok()) return writable;
  }
  Metrics metrics;
  Config strict = config;
  strict.reload.require_plugins = RequirePlugins::kAll;
  strict.reload.extensions.run_timers = false;
  strict.reload.state_dir.clear();  // a host may be using what is in it
  PluginSet set(PluginSetOptions(strict.reload, strict.limits.message_bytes_max, &metrics), [] {});
  absl::StatusOr<std::unique_ptr<PluginManager>> plugins = PluginManager::Load(
      {strict.plugins, strict.reload}, &metrics, &set, std::make_shared<Wake>());
  if (!plugins.ok()) return plugins.status();
  const Reloader::Snapshot snapshot = (*plugins)->Status();
  for (const std::string& problem : snapshot.problems) warn(problem);
  for (const Reloader::PluginStatus& plugin : snapshot.plugins) {
    report.text += DescribePlugin(plugin);
    if (!plugin.generations.empty()) {
      report.warnings += plugin.generations.front().facts.warnings.size();
    }
  }
  const ServiceProblems services = CheckServices(config.stream_limits.services, snapshot.plugins);
  if (!services.errors.empty()) {
    return absl::FailedPreconditionError(absl::StrJoin(services.errors, "; "));
  }
  for (const std::string& warning : services.warnings) warn(warning);
  if (snapshot.plugins.empty()) report.text += "no plugins: all messages pass unchanged\n";
  report.text += "the configuration is good\n";
  // The log already has what plugins logged while they were created.
  report.warnings += static_cast<size_t>(CountWarnings() - logged_before);
  return report;
}

Server::Server(const Config& config, PassedSockets passed, std::function<void()> drain)
    : config_(config),
      passed_(std::move(passed)),
      admin_pages_(&health_, &metrics_, config.admin_hosts, config.admin_writes),
      admin_site_(SiteParts(std::move(drain))),
      notes_(config.warnings),
      health_side_(&metrics_),
      admin_side_(&metrics_) {
  process_metrics_.DefineBuild(kHostVersion, CALLOUT_ABI_VERSION);
  // Both may wait for workers.
  admin_pages_.Add(
      "/plugins", "plugins and their versions, as JSON",
      [this](const HttpRequestView&) { return Later([this] { return PluginsPage(); }); });
  admin_pages_.Add("/explain", "exchanges that were explained, as JSON; ?request_id= chooses one",
                   [this](const HttpRequestView& request) {
                     constexpr std::string_view kKey = "?request_id=";
                     const size_t at = request.target.find(kKey);
                     std::string request_id;
                     if (at != request.target.npos)
                       request_id = request.target.substr(at + kKey.size());
                     return Later([this, request_id] { return ExplainPage(request_id); });
                   });
  admin_pages_.Add(
      "/shadow", "what plugins in shadow would have done otherwise, as JSON",
      [this](const HttpRequestView&) { return Later([this] { return ShadowPage(); }); });
  admin_pages_.Add(
      "/metrics", "metrics in the text format of Prometheus, or of OpenMetrics if that is accepted",
      [this](const HttpRequestView& request) {
        const bool open_metrics = WantsOpenMetrics(request.accept);
        return Later([this, open_metrics] { return MetricsPage(open_metrics); });
      });
  admin_site_.AddTo(&admin_pages_);
}

AdminSite::Parts Server::SiteParts(std::function<void()> drain) {
  return {.config = &config_,
          .health = &health_,
          .collect_metrics = [this] { return CollectMetrics(); },
          .plugins = [this] { return published_plugins_.load(std::memory_order_acquire); },
          .traffic = [this] { return published_traffic_.load(std::memory_order_acquire); },
          .watch = [this]() -> WatchControl* {
            // There is one before there is traffic.
            const bool serves = published_traffic_.load(std::memory_order_acquire) != nullptr;
            return serves ? watch_control_.get() : nullptr;
          },
          .certificates = [this] { return certificates_.get(); },
          .drain = std::move(drain)};
}

Server::HttpSide::HttpSide(Metrics* metrics) : accept_loop(metrics, LogAcceptPause) {}

void Server::HttpSide::Stop() {
  accept_loop.Stop();
  if (server != nullptr) server->Stop();
}

Server::~Server() {
  if (certificates_ != nullptr) certificates_->StopWatching();
  health_side_.Stop();
  admin_side_.Stop();
}

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const Config& config, PassedSockets passed,
                                                      std::function<void()> drain) {
  std::unique_ptr<Server> server(new Server(config, std::move(passed), std::move(drain)));
  if (absl::Status status = server->Prepare(); !status.ok()) return status;
  if (absl::Status status = server->WatchHooks(); !status.ok()) return status;
  server->health_.FollowTraffic([traffic = server->traffic_, plugins = server->plugins_.get()] {
    return traffic->serving() && plugins->complete();
  });
  server->health_.Set(Health::State::kReady);
  if (absl::Status status = server->WatchReadiness(); !status.ok()) return status;
  return server;
}

HttpResponse Server::PluginsPage() const {
  HttpResponse response;
  const PluginManager* plugins = published_plugins_.load(std::memory_order_acquire);
  if (plugins == nullptr) {
    response.status = 503;
    response.body = "starting\n";
    return response;
  }
  response.content_type = "application/json";
  response.body = plugins->StatusJson(CollectMetrics());
  return response;
}

// Everything that can fail because of the machine comes before the plugins, since creating them may
// have effects elsewhere and may take long. Until then health reports "not ready", and connections
// are refused instead of kept waiting.
absl::Status Server::Prepare() {
  if (NeedsCertificate(config_)) {
    auto certificates = CertificateStore::Open(CertificatePaths(config_));
    if (!certificates.ok()) return certificates.status();
    certificates_ = *std::move(certificates);
  }
  if (absl::Status status = BindSockets(); !status.ok()) return status;
  if (absl::Status status = StartHttp(); !status.ok()) return status;
  absl::StatusOr<GenerationTarget*> target = MakeTarget();
  if (!target.ok()) return target.status();
  absl::StatusOr<std::unique_ptr<PluginManager>> plugins =
      PluginManager::Load({config_.plugins, config_.reload}, &metrics_, *target, wake_);
  if (!plugins.ok()) return plugins.status();
  plugins_ = *std::move(plugins);
  published_plugins_.store(plugins_.get(), std::memory_order_release);
  return StartTraffic();
}

absl::StatusOr<GenerationTarget*> Server::MakeTarget() {
  const auto wake = [wake = wake_] { wake->Set(); };
  if (config_.containment.workers == 0) {
    plugin_set_ = std::make_unique<PluginSet>(
        PluginSetOptions(config_.reload, config_.limits.message_bytes_max, &metrics_), wake);
    return plugin_set_.get();
  }
  auto workers = WorkerGroup::Start({.containment = config_.containment,
                                     .create_timeout_ms = config_.reload.create_timeout_ms,
                                     .worker_options = config_.worker_options,
                                     .drain_timeout_ms = config_.drain_timeout_ms,
                                     .sockets = TrafficSockets(),
                                     .certificates = certificates_.get(),
                                     .metrics = &metrics_,
                                     .wake = wake,
                                     .explained_max = config_.explained_max});
  if (!workers.ok()) return workers.status();
  workers_ = *std::move(workers);
  return workers_.get();
}

std::vector<TrafficSocket> Server::TrafficSockets() const {
  std::vector<TrafficSocket> sockets;
  for (const OpenSocket& open : traffic_sockets_) sockets.push_back({open.name, open.socket.fd()});
  return sockets;
}

absl::Status Server::BindSocket(const std::string& name, const std::optional<Address>& address,
                                std::vector<OpenSocket>* sockets) {
  if (!address.has_value()) return absl::OkStatus();
  const auto passed = passed_.find(name);
  absl::StatusOr<ListenSocket> socket = passed == passed_.end()
                                            ? ListenSocket::Bind(*address, config_.unix_socket_mode)
                                            : ListenSocket::Adopt(passed->second.Release());
  if (passed != passed_.end()) passed_.erase(passed);
  if (!socket.ok()) return OfListener(name, socket.status());
  sockets->push_back({name, *std::move(socket)});
  return absl::OkStatus();
}

absl::Status Server::BindSockets() {
  absl::Status status = BindSocket("secure", config_.secure_address, &traffic_sockets_);
  if (status.ok()) status = BindSocket("plaintext", config_.plaintext_address, &traffic_sockets_);
  if (status.ok())
    status = BindSocket("health", config_.health_check_address, &health_side_.sockets);
  if (status.ok()) status = BindAdminSocket();
  if (!status.ok() || passed_.empty()) return status;
  return absl::InvalidArgumentError(
      fmt::format("a socket named '{}' was passed to this process, and no listener has the name; "
                  "set FileDescriptorName= to secure, plaintext, health or admin, and do not turn "
                  "that listener off",
                  passed_.begin()->first));
}

absl::Status Server::BindAdminSocket() {
  absl::Status status = BindSocket("admin", config_.admin_address, &admin_side_.sockets);
  if (status.ok() || !config_.admin_address_is_default) return status;
  notes_.push_back(
      fmt::format("{}; running without the admin pages; set --admin_address", MessageOf(status)));
  return absl::OkStatus();
}

std::vector<prometheus::MetricFamily> Server::CollectMetrics() const {
  process_metrics_.Update();
  Traffic* traffic = published_traffic_.load(std::memory_order_acquire);
  return traffic == nullptr ? metrics_.Collect() : traffic->CollectMetrics();
}

HttpResponse Server::MetricsPage(bool open_metrics) const {
  HttpResponse response;
  if (open_metrics) {
    Traffic* const traffic = published_traffic_.load(std::memory_order_acquire);
    response.body =
        OpenMetricsText(CollectMetrics(),
                        traffic == nullptr ? std::vector<Exemplar>() : traffic->CollectExemplars());
    response.content_type = kOpenMetricsContentType;
    return response;
  }
  response.body = MetricsText(CollectMetrics());
  response.content_type = Metrics::kTextContentType;
  return response;
}

HttpResponse Server::ShadowPage() const {
  HttpResponse response;
  Traffic* const traffic = published_traffic_.load(std::memory_order_acquire);
  if (traffic == nullptr) {
    response.status = 503;
    response.body = "starting\n";
    return response;
  }
  response.content_type = "application/json";
  response.body = ShadowsJson(traffic->CollectShadows());
  return response;
}

HttpResponse Server::ExplainPage(const std::string& request_id) const {
  HttpResponse response;
  Traffic* const traffic = published_traffic_.load(std::memory_order_acquire);
  if (traffic == nullptr) {
    response.status = 503;
    response.body = "starting\n";
    return response;
  }
  response.content_type = "application/json";
  response.body = ExplainedJson(traffic->CollectExplained(), watch_control_->settings().rules,
                                config_.explained_max, request_id, MonotonicNs());
  return response;
}

absl::Status Server::StartHttp() {
  std::function<TlsContext()> tls;
  Http2Taker on_http2;
  if (config_.secure_health_check) {
    tls = [store = certificates_.get()] { return store->current()->tls; };
  } else {
    grpc_health_ = std::make_unique<H2Health>([this] { return health_.ready(); }, &metrics_);
    on_http2 = [grpc_health = grpc_health_.get()](int fd, std::string bytes) {
      return grpc_health->Take(fd, std::move(bytes));
    };
  }
  absl::Status status = StartHttpSide(&health_side_, {}, MakeHealthHandler(&health_),
                                      std::move(tls), std::move(on_http2));
  if (!status.ok()) return status;
  HttpLimits limits;
  limits.pages_max = config_.admin_pages_max;
  return StartHttpSide(&admin_side_, limits, admin_pages_.MakeHandler());
}

absl::Status Server::StartHttpSide(HttpSide* side, const HttpLimits& limits, HttpHandler handler,
                                   std::function<TlsContext()> tls, Http2Taker on_http2) {
  if (side->sockets.empty()) return absl::OkStatus();
  OpenSocket& open = side->sockets.front();
  if (absl::Status status = open.socket.Listen(); !status.ok()) {
    return OfListener(open.name, status);
  }
  absl::StatusOr<std::unique_ptr<HttpServer>> server = HttpServer::Create(&metrics_, limits);
  if (!server.ok()) return server.status();
  side->server = *std::move(server);
  absl::StatusOr<std::function<void(int)>> serve =
      side->server->AddListener(open.name, std::move(handler), std::move(tls), std::move(on_http2));
  if (!serve.ok()) return serve.status();
  return side->accept_loop.Start({{.name = open.name,
                                   .fd = open.socket.fd(),
                                   .on_connection = *std::move(serve),
                                   .may_accept = nullptr,
                                   .descriptors_left = 0}});
}

absl::Status Server::StartTraffic() {
  for (OpenSocket& open : traffic_sockets_) {
    if (absl::Status status = open.socket.Listen(); !status.ok()) {
      return OfListener(open.name, status);
    }
  }
  traffic_ = workers_.get();
  if (workers_ == nullptr) {
    traffic_server_ = std::make_unique<TrafficServer>(config_, certificates_.get(),
                                                      &plugin_set_->chains(), &metrics_);
    traffic_ = traffic_server_.get();
  }
  traffic_->SetServing(plugins_->complete());
  WatchSettings watch;
  watch.explain_key = config_.explain_key;
  watch.log_level = config_.log_level;
  watch_control_ =
      std::make_unique<WatchControl>(std::move(watch), [this](const WatchSettings& settings) {
        // The supervisor's own lines, too.
        SetLogLevel(settings.log_level);
        traffic_->SetWatch(settings);
      });
  if (absl::Status status = traffic_->Serve(TrafficSockets()); !status.ok()) return status;
  published_traffic_.store(traffic_, std::memory_order_release);
  return absl::OkStatus();
}

// Without a supervisor a hanging hook is only logged. The supervisor watches workers. The reloader
// tells of creates.
absl::Status Server::WatchHooks() {
  if (workers_ != nullptr) return absl::OkStatus();
  const HangLimits limits = {.serving_ms = config_.containment.watchdog_ms,
                             .destroy_ms = config_.reload.create_timeout_ms};
  auto watchdog = Watchdog::Start(limits, HookTable::InUse(), [](const HookTable::Running& hung) {
    Log(LogLevel::kError, "{}; {}", DescribeHung(*HookTable::InUse(), hung, MonotonicNs()),
        hung.place.hook == Hook::kDestroy
            ? "until it returns, no plugin is loaded or rolled back (--plugin_create_timeout_ms); "
              "if it never does, restart the host"
            : "the streams of this thread wait; new ones go to other threads");
  });
  if (!watchdog.ok()) return watchdog.status();
  watchdog_ = *std::move(watchdog);
  return absl::OkStatus();
}

// gRPC health says on each port what the health page says.
absl::Status Server::WatchReadiness() {
  auto watch = ReadinessWatch::Start([this] { return health_.ready(); },
                                     [this](bool ready) {
                                       traffic_->SetServing(ready);
                                       if (grpc_health_ != nullptr) grpc_health_->Update();
                                     });
  if (!watch.ok()) return watch.status();
  readiness_watch_ = *std::move(watch);
  return absl::OkStatus();
}

void Server::Announce() {
  for (const std::string& note : notes_) Log(LogLevel::kWarning, "{}", note);
  if (certificates_ != nullptr) {
    if (certificates_->self_signed()) {
      Log(LogLevel::kWarning,
          "TLS uses a self-signed certificate which clients do not trust by default; set "
          "--cert_chain_path and --private_key_path");
    }
    for (const std::string& warning : certificates_->current()->warnings) {
      Log(LogLevel::kWarning, "{}", warning);
    }
    certificates_->OnChange([this] { traffic_->ReloadCertificates(); });
    certificates_->Watch();
  }
  plugins_->Follow();
  for (const auto* sockets : {&traffic_sockets_, &health_side_.sockets, &admin_side_.sockets}) {
    for (const OpenSocket& open : *sockets) {
      Log(LogLevel::kInfo, "listening {} {}", open.name, open.socket.bound().ToString());
    }
  }
  const std::vector<Reloader::PluginStatus> plugins = plugins_->Status().plugins;
  const ServiceProblems services = CheckServices(config_.stream_limits.services, plugins);
  for (const auto* lines : {&services.errors, &services.warnings}) {
    for (const std::string& line : *lines) Log(LogLevel::kWarning, "{}", line);
  }
  const auto serving = std::count_if(plugins.begin(), plugins.end(), [](const auto& plugin) {
    return plugin.state == Reloader::State::kServing;
  });
  Log(LogLevel::kInfo, "serving with {} plugin{}{}", serving, serving == 1 ? "" : "s",
      workers_ == nullptr ? ""
                          : fmt::format(" in {} worker{}", config_.containment.workers,
                                        config_.containment.workers == 1 ? "" : "s"));
}

void Server::Reload() {
  if (certificates_ != nullptr) certificates_->Reload();
  plugins_->RescanAll();
}

bool Server::WantsDrainDelay() const {
  return config_.drain_delay_ms > 0 && (HealthAskedWithin(kHealthAskedSeconds) ||
                                        traffic_->HealthAskedWithin(kHealthAskedSeconds));
}

bool Server::Drain(bool may_delay) {
  const auto start = std::chrono::steady_clock::now();
  const uint64_t delay_ms = may_delay && WantsDrainDelay() ? config_.drain_delay_ms : 0;
  health_.Set(Health::State::kDraining);
  readiness_watch_.reset();
  if (grpc_health_ != nullptr) grpc_health_->Update();
  traffic_->BeginDrain();
  Log(LogLevel::kInfo, "draining: accepting new connections for {} ms, then {} ms for live streams",
      delay_ms, config_.drain_timeout_ms);
  plugins_->BeginStop();
  std::this_thread::sleep_for(std::chrono::milliseconds(delay_ms));
  traffic_->StopAccepting();
  traffic_sockets_.clear();
  bool closed = traffic_->Drain();
  const bool stopped = plugins_->AwaitStop(kReloadEndMs);
  const bool timers_ended = plugin_set_ == nullptr || plugin_set_->StopExtensions(kReloadEndMs);
  const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::steady_clock::now() - start);
  const bool waits = !stopped || plugins_->busy();
  Log(LogLevel::kInfo, "drain ends after {} ms{}{}{}", took.count(),
      closed ? "" : ": a plugin still holds a call, which is abandoned",
      waits ? ": loading or creating a plugin has not returned, and is abandoned" : "",
      timers_ended ? "" : ": a plugin's timer or call has not returned, and is abandoned");
  return closed && !waits && timers_ended;
}

}  // namespace callout::host
