// SPDX-License-Identifier: Apache-2.0

#include "host/admin/admin_site.h"

#include <fmt/format.h>
#include <limits.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_split.h"
#include "host/base/clock.h"
#include "host/base/log.h"
#include "host/base/percent.h"
#include "host/base/status_text.h"
#include "host/config/record_options.h"
#include "host/explain/exchange_rule.h"
#include "host/plugin/shown_redaction.h"
#include "host/record/record_rule.h"
#include "host/record/recorder.h"

namespace callout::host {
namespace {

// How long an action waits for the thread that loads plugins.
constexpr uint64_t kActionMs = 10000;

std::string HostName() {
  char name[HOST_NAME_MAX + 1] = {};
  return gethostname(name, sizeof(name) - 1) == 0 ? name : "";
}

HttpResponse TextPage(unsigned status, std::string text) {
  HttpResponse response;
  response.status = status;
  response.body = std::move(text);
  return response;
}

unsigned HttpStatusOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return 200;
    case absl::StatusCode::kInvalidArgument:
      return 400;
    case absl::StatusCode::kNotFound:
      return 404;
    case absl::StatusCode::kFailedPrecondition:
      return 409;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
      return 503;
    default:
      return 500;
  }
}

absl::StatusOr<std::string> FieldOf(const std::map<std::string, std::string, std::less<>>& form,
                                    std::string_view name) {
  const auto found = form.find(name);
  if (found == form.end() || found->second.empty()) {
    return absl::InvalidArgumentError(fmt::format("the form has no field {}", name));
  }
  return found->second;
}

}  // namespace

absl::StatusOr<std::map<std::string, std::string, std::less<>>> ParseForm(std::string_view body) {
  std::map<std::string, std::string, std::less<>> form;
  for (FormPair& pair : FormPairs(body)) {
    if (!pair.key.has_value() || !pair.value.has_value()) {
      return absl::InvalidArgumentError("the body is no form: a % has no two digits behind it");
    }
    form[*std::move(pair.key)] = *std::move(pair.value);
  }
  return form;
}

AdminSite::AdminSite(Parts parts) : parts_(std::move(parts)), start_ns_(MonotonicNs()) {}

void AdminSite::AddTo(AdminPages* pages) {
  pages->SetFrontPage([this](const HttpRequestView&) {
    HttpResponse response;
    response.later = [this] { return FrontPage(); };
    return response;
  });
  AddAction(pages, "/actions/log_level", "level=LEVEL, and plugin=NAME for one plugin's lines",
            &AdminSite::SetLevel);
  AddAction(pages, "/actions/explain", "path_prefix=, header=NAME:VALUE, …: explain such requests",
            &AdminSite::Explain);
  AddAction(pages, "/actions/explain_off", "explain no more", &AdminSite::EndExplaining);
  AddAction(pages, "/actions/drain", "drain and stop, as SIGTERM", &AdminSite::Drain);
  AddAction(pages, "/actions/release", "plugin=NAME: end its quarantine, or its withdrawal",
            &AdminSite::Release);
  AddAction(pages, "/actions/go_back", "plugin=NAME: back to the generation before",
            &AdminSite::GoBack);
  AddAction(pages, "/tap", "percent=, path_prefix=, seconds=, …: record exchanges; stop=1 ends it",
            &AdminSite::Tap);
  AddAction(pages, "/actions/promote", "plugin=NAME: its canary serves all new streams",
            &AdminSite::Promote);
}

// --- Actions ---------------------------------------------------------------------

void AdminSite::AddAction(AdminPages* pages, const std::string& path, const std::string& summary,
                          Action action) {
  pages->AddAction(path, summary, [this, action](const HttpRequestView& request) {
    const bool wants_html = request.accept.find("text/html") != request.accept.npos;
    HttpResponse response;
    response.later = [this, action, body = std::string(request.body), wants_html] {
      return Act(action, body, wants_html);
    };
    return response;
  });
}

HttpResponse AdminSite::Act(Action action, const std::string& body, bool wants_html) {
  auto fields = ParseForm(body);
  std::string what = "unknown change";
  const absl::Status status =
      fields.ok() ? (this->*action)({body, *std::move(fields)}, &what) : fields.status();
  const std::string result = status.ok() ? "done" : std::string(MessageOf(status));
  // Whatever the level: who has changed something must be able to see it.
  LogText(status.ok() ? LogLevel::kInfo : LogLevel::kWarning,
          fmt::format("admin: {}: {}", what, result));
  changes_.push_front({MonotonicNs(), what, result});
  if (changes_.size() > kChangesMax) changes_.pop_back();
  if (!wants_html) return TextPage(HttpStatusOf(status), fmt::format("{}: {}\n", what, result));
  // So that a reload of the page does not send the form again.
  HttpResponse response = TextPage(303, "see /\n");
  response.headers.emplace_back("Location", "/#actions");
  return response;
}

absl::Status AdminSite::SetLevel(const Form& form, std::string* what) {
  const absl::StatusOr<std::string> level = FieldOf(form.fields, "level");
  if (!level.ok()) return level.status();
  const auto named = form.fields.find("plugin");
  const std::string plugin = named == form.fields.end() ? "" : named->second;
  *what = plugin.empty() ? fmt::format("log level {}", *level)
                         : fmt::format("log level {} for plugin {}", *level, plugin);
  WatchControl* const watch = parts_.watch();
  if (watch == nullptr) return absl::UnavailableError("the host is starting");
  return watch->SetLogLevel(plugin, *level);
}

absl::Status AdminSite::Explain(const Form& form, std::string* what) {
  // Of the page's form, the fields that somebody has filled in.
  const std::vector<std::string> entries = absl::StrSplit(form.text, '&');
  std::string rule;
  for (const std::string& entry : entries) {
    if (entry.empty() || entry.ends_with('=')) continue;
    rule += (rule.empty() ? "" : "&") + entry;
  }
  *what = fmt::format("explain {}", ShownRule(rule, ShownRedaction()));
  WatchControl* const watch = parts_.watch();
  if (watch == nullptr) return absl::UnavailableError("the host is starting");
  return watch->AddRule(rule);
}

absl::Status AdminSite::EndExplaining(const Form&, std::string* what) {
  *what = "end all rules for explanations";
  WatchControl* const watch = parts_.watch();
  if (watch == nullptr) return absl::UnavailableError("the host is starting");
  watch->ClearRules();
  return absl::OkStatus();
}

absl::Status AdminSite::Drain(const Form&, std::string* what) {
  *what = "drain";
  parts_.drain();
  return absl::OkStatus();
}

absl::Status AdminSite::Release(const Form& form, std::string* what) {
  const absl::StatusOr<std::string> plugin = FieldOf(form.fields, "plugin");
  if (!plugin.ok()) return plugin.status();
  *what = fmt::format("release {}", *plugin);
  PluginManager* const plugins = parts_.plugins();
  if (plugins == nullptr) return absl::UnavailableError("the host is starting");
  return plugins->Release(*plugin, kActionMs);
}

absl::Status AdminSite::GoBack(const Form& form, std::string* what) {
  const absl::StatusOr<std::string> plugin = FieldOf(form.fields, "plugin");
  if (!plugin.ok()) return plugin.status();
  *what = fmt::format("take {} back one generation", *plugin);
  PluginManager* const plugins = parts_.plugins();
  if (plugins == nullptr) return absl::UnavailableError("the host is starting");
  return plugins->GoBack(*plugin, kActionMs);
}

absl::Status AdminSite::Tap(const Form& form, std::string* what) {
  const RecordConfig& record = parts_.config->record;
  *what = "tap";
  absl::StatusOr<TapForm> tap = ParseTapForm(form.text, record.file_bytes_max);
  if (!tap.ok()) return tap.status();
  WatchControl* const watch = parts_.watch();
  if (watch == nullptr) return absl::UnavailableError("the host is starting");
  if (tap->stop) {
    *what = "end the tap";
    return watch->StopTap() ? absl::OkStatus()
                            : absl::FailedPreconditionError("no tap is in progress");
  }
  if (record.tap_directory.empty()) {
    return absl::FailedPreconditionError("this host has no directory for it; set --record_dir");
  }
  if (absl::Status status = CheckTapDirectory(record); !status.ok()) {
    return absl::FailedPreconditionError(status.message());
  }
  const std::string path = TapPath(record.tap_directory);
  const size_t workers = parts_.config->containment.workers;
  *what = fmt::format("tap {} for {} s to {}{}", tap->rule.text, tap->seconds, path,
                      workers == 0 ? "" : fmt::format(".w1 to .w{}", workers));
  watch->StartTap({.id = 0,
                   .path = path,
                   .percent = tap->rule.percent,
                   .match = tap->rule.match.has_value() ? tap->rule.match->text : "",
                   .until_ns = MonotonicNs() + tap->seconds * 1'000'000'000,
                   .count = tap->count,
                   .bytes = tap->bytes});
  return absl::OkStatus();
}

absl::Status AdminSite::Promote(const Form& form, std::string* what) {
  const absl::StatusOr<std::string> plugin = FieldOf(form.fields, "plugin");
  if (!plugin.ok()) return plugin.status();
  *what = fmt::format("promote the canary of {}", *plugin);
  PluginManager* const plugins = parts_.plugins();
  if (plugins == nullptr) return absl::UnavailableError("the host is starting");
  return plugins->Promote(*plugin, kActionMs);
}

// --- The page ---------------------------------------------------------------------

HttpResponse AdminSite::FrontPage() {
  const Config& config = *parts_.config;
  history_.Add(parts_.collect_metrics(), MonotonicNs());
  FrontPageData data;
  data.version = CALLOUT_HOST_VERSION;
  data.state = HealthStateName(parts_.health->state());
  data.host = HostName();
  data.pid = static_cast<uint64_t>(getpid());
  data.start_ns = start_ns_;
  data.transport = config.transport.kind == TransportConfig::Kind::kGrpc ? "grpc" : "nghttp2";
  data.log_level = LogLevelName(CurrentLogLevel());
  if (WatchControl* const watch = parts_.watch(); watch != nullptr) {
    const WatchSettings settings = watch->settings();
    data.explain_rules = settings.rules;
    for (const auto& [plugin, level] : settings.plugin_log_levels) {
      data.plugin_log_levels[plugin] = LogLevelName(level);
    }
  }
  data.workers = config.containment.workers;
  data.writes = config.admin_writes;
  data.history = &history_;
  size_t generations_max = 0;
  if (PluginManager* const plugins = parts_.plugins(); plugins != nullptr) {
    data.plugins = plugins->Status();
    data.usage = plugins->GetUsage();
    generations_max = plugins->generations_max();
  }
  data.limits = Limits(data.usage, generations_max);
  if (Traffic* const traffic = parts_.traffic(); traffic != nullptr) {
    TrafficSight sight = traffic->GetSight();
    data.live = std::move(sight.live);
    data.faults = std::move(sight.faults);
    data.shadows = JoinShadowReports(traffic->CollectShadows());
  }
  AddCertificates(&data);
  data.settings = config.in_force;
  data.changes.assign(changes_.begin(), changes_.end());
  data.now_ns = MonotonicNs();
  HttpResponse response;
  response.content_type = "text/html; charset=utf-8";
  response.headers = FrontPageHeaders();
  response.body = RenderFrontPage(data);
  return response;
}

std::vector<PageLimit> AdminSite::Limits(const GenerationTarget::Usage& usage,
                                         size_t generations_max) const {
  const Config& config = *parts_.config;
  // Each worker has a limit of its own, and connections are shared out evenly.
  const auto processes = static_cast<double>(std::max<size_t>(config.containment.workers, 1));
  const auto times = [processes](size_t limit) { return processes * static_cast<double>(limit); };
  std::vector<PageLimit> limits = {
      {"connections", history_.Value("callout_connections"), times(config.connections_max),
       "--max_connections"},
      {"live streams", history_.Value("callout_live_streams"), times(config.stream_limits.live_max),
       "--max_live_streams"},
      {"deferred calls", history_.Value("callout_deferred_calls"),
       times(config.stream_limits.deferred_max), "--max_deferred"},
      {"blocking calls", history_.Value("callout_blocking_jobs"),
       times(config.stream_limits.blocking_threads_max), "--blocking_threads"},
      {"exchanges for shadows", history_.Value("callout_shadow_exchanges"),
       times(config.shadow.exchanges_max), "--max_shadow_exchanges"},
      {"memory for shadows, bytes", history_.Value("callout_shadow_bytes"),
       times(config.shadow.bytes_max), "--max_shadow_bytes"},
      {"memory for clients, bytes", history_.Value("callout_memory_bytes"),
       history_.Value("callout_memory_budget_bytes"), "--memory_budget_bytes"},
      {"plugin files mapped", static_cast<double>(usage.mapped),
       static_cast<double>(generations_max), "--max_generations"},
  };
  if (config.traces.enabled) {
    limits.push_back({"spans that wait to be sent", history_.Value("callout_trace_queue_spans"),
                      times(config.traces.queue_spans_max), "OTEL_BSP_MAX_QUEUE_SIZE"});
  }
  return limits;
}

void AdminSite::AddCertificates(FrontPageData* data) const {
  const CertificateStore* const store = parts_.certificates();
  if (store == nullptr) return;
  const std::shared_ptr<const CertificateStore::Material> current = store->current();
  data->certificate_warnings = current->warnings;
  const auto add = [data](const char* what, const std::string& pem, const std::string& source) {
    for (CertificateFacts& facts : DescribeCertificates(pem)) {
      data->certificates.push_back({what, std::move(facts.subject), std::move(facts.issuer),
                                    facts.seconds_left, std::move(facts.not_after), source});
      what = "its chain";
    }
  };
  const Config& config = *parts_.config;
  add("server", current->pair.chain_pem,
      store->self_signed() ? "self-signed at the start" : config.cert_chain_path);
  for (CertificateFacts& facts : DescribeCertificates(current->client_ca_pem)) {
    data->certificates.push_back({"client CA", std::move(facts.subject), std::move(facts.issuer),
                                  facts.seconds_left, std::move(facts.not_after),
                                  config.client_ca_path});
  }
}

}  // namespace callout::host
