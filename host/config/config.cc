#include "host/config/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <climits>
#include <functional>
#include <map>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "host/config/option_kinds.h"
#include "host/config/plugin_options.h"

namespace callout::host {
namespace {

constexpr char kDescription[] =
    "Serves Envoy's external processing protocol (ext_proc v3) and runs plugins for it.\n"
    "Each option may also come from the environment, --log_level as CALLOUT_LOG_LEVEL, or from\n"
    "the --config file as log_level = info. Dashes may stand for underscores.";

constexpr char kPlugins[] = "Plugins";
constexpr char kListeners[] = "Listeners";
constexpr char kTls[] = "TLS";
constexpr char kHealth[] = "Health";
constexpr char kCalls[] = "Calls";
constexpr char kConnections[] = "Connections";
constexpr char kProcess[] = "Process";

constexpr uint64_t kMsMax = INT_MAX;

// Values that need others before they can be judged.
struct Draft {
  Config config;
  PluginOptions plugins;
  std::string secure_address, plaintext_address, health_check_address;  // "": by default_ip
  std::string admin_address = "127.0.0.1:9902";
  std::string default_ip = "0.0.0.0";
  bool disable_tls = false, disable_plaintext = false, combined_health_check = false;
  bool check = false, help = false, version = false;
};

using Set = std::function<absl::Status(const std::string&)>;

Set ToAddress(std::string* target) {
  return [target](const std::string& text) {
    *target = text;
    return ParseAddress(text).status();
  };
}

absl::Status SetLevel(const std::string& text, LogLevel* level) {
  const std::string name = absl::AsciiStrToLower(text);
  if (name == "debug") {
    *level = LogLevel::kDebug;
  } else if (name == "info") {
    *level = LogLevel::kInfo;
  } else if (name == "warning" || name == "warn") {
    *level = LogLevel::kWarning;
  } else if (name == "error") {
    *level = LogLevel::kError;
  } else {
    return Expected("debug, info, warning or error");
  }
  return absl::OkStatus();
}

absl::Status SetFormat(const std::string& text, LogFormat* format) {
  if (text != "text" && text != "json") return Expected("text or json");
  *format = text == "json" ? LogFormat::kJson : LogFormat::kText;
  return absl::OkStatus();
}

// "Authorization, x-tenant"; "none": no header.
absl::Status SetRedacted(const std::string& text, std::vector<std::string>* names) {
  names->clear();
  if (text == "none") return absl::OkStatus();
  const std::vector<std::string> parts = absl::StrSplit(text, ',');
  for (const std::string& part : parts) {
    const absl::string_view name = absl::StripAsciiWhitespace(part);
    const bool legal = !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
      return absl::ascii_isgraph(static_cast<unsigned char>(c));
    });
    if (!legal) {
      return Expected(
          "names of headers with commas between them, such as authorization,cookie, "
          "or none");
    }
    names->push_back(absl::AsciiStrToLower(name));
  }
  return absl::OkStatus();
}

// An IPv6 address may stand without brackets here: no port follows.
absl::Status SetDefaultIp(const std::string& text, std::string* ip) {
  const bool bare_ipv6 = text.find(':') != std::string::npos && !text.starts_with('[');
  *ip = bare_ipv6 ? fmt::format("[{}]", text) : text;
  const bool is_ip = !text.starts_with("unix:") && ParseAddress(*ip + ":0").ok();
  return is_ip ? absl::OkStatus() : Expected("an IP address such as 0.0.0.0, 127.0.0.1 or ::");
}

// Makes the process do something else than serve.
OptionSet::Option CommandSwitch(const char* name, bool* target, const char* help) {
  OptionSet::Option option = Switch(name, kProcess, target, help);
  option.command_line_only = true;
  return option;
}

void AddPluginOptions(Draft* draft, OptionSet* options) {
  PluginOptions* plugins = &draft->plugins;
  const auto add = [&](const char* name, const char* value, const char* help, auto method) {
    options->Add({.name = name,
                  .group = kPlugins,
                  .value = value,
                  .default_text = "",
                  .help = help,
                  .repeatable = true,
                  .supervisor_only = true,
                  .set = [=](const std::string& text) { return (plugins->*method)(text); }});
  };
  add("plugin", "[NAME=]PATH", "A plugin to run; repeat it for a chain, in request order",
      &PluginOptions::AddPlugin);
  add("plugin_config", "NAME=TEXT|@FILE", "The configuration text of a plugin",
      &PluginOptions::AddConfig);
  add("plugin_settings", "NAME=@FILE",
      "JSON with policy, too_large, match, whole_body_bytes_max, blocking, disabled",
      &PluginOptions::AddSettings);
  add("on_plugin_error", "NAME=POLICY",
      "What a plugin's fault does to its stream: fail, continue or deny[:STATUS]",
      &PluginOptions::AddErrorPolicy);
}

void AddListenerOptions(Draft* draft, OptionSet* options) {
  const auto add = [&](const char* name, const char* default_text, const char* help, Set set) {
    options->Add({.name = name,
                  .group = kListeners,
                  .value = "ADDRESS",
                  .default_text = default_text,
                  .help = help,
                  .set = std::move(set)});
  };
  add("secure_address", "0.0.0.0:8443",
      "ext_proc over TLS. IPV4:PORT, [IPV6]:PORT, unix:PATH; port 0 is any free one, 0.0.0.0 all "
      "of IPv4, [::] all of both",
      ToAddress(&draft->secure_address));
  add("plaintext_address", "0.0.0.0:8080", "ext_proc without TLS",
      ToAddress(&draft->plaintext_address));
  add("health_check_address", "0.0.0.0:8000", "GET: 200, or 503 while starting or draining",
      ToAddress(&draft->health_check_address));
  add("admin_address", "127.0.0.1:9902",
      "/metrics and other pages; off: none. The default's port being taken is a warning",
      [draft](const std::string& text) {
        draft->admin_address = text;
        draft->config.admin_address_is_default = false;
        return text == "off" ? absl::OkStatus() : ParseAddress(text).status();
      });
  options->Add(
      {.name = "default_ip",
       .group = kListeners,
       .value = "IP",
       .default_text = "0.0.0.0",
       .help = "The IP of the secure, plaintext and health listeners without an address",
       .set = [draft](const std::string& text) { return SetDefaultIp(text, &draft->default_ip); }});
  options->Add(Switch("disable_tls", kListeners, &draft->disable_tls, "No secure listener"));
  options->Add(
      Switch("disable_plaintext", kListeners, &draft->disable_plaintext, "No plaintext listener"));
}

void AddTlsOptions(Draft* draft, OptionSet* options) {
  const auto add = [&](const char* name, std::string* target, const char* help) {
    options->Add(TextOption(name, kTls, "FILE", target, help));
  };
  add("cert_chain_path", &draft->config.cert_chain_path,
      "Certificate chain, PEM; without one it is self-signed. Read again when it changes");
  add("private_key_path", &draft->config.private_key_path, "The chain's private key, PEM");
  add("client_ca_path", &draft->config.client_ca_path,
      "Mutual TLS: clients need a certificate of one of these CAs, PEM");
}

void AddHealthOptions(Draft* draft, OptionSet* options) {
  options->Add(Switch("secure_health_check", kHealth, &draft->config.secure_health_check,
                      "The health listener speaks HTTPS, with the same certificate"));
  options->Add(Switch("combined_health_check", kHealth, &draft->combined_health_check,
                      "No health listener: only grpc.health.v1, beside ext_proc"));
}

void AddCallOptions(Config* config, OptionSet* options) {
  StreamLimits* limits = &config->stream_limits;
  const auto add = [&](const char* name, const char* value, uint64_t min, uint64_t max,
                       auto* target, const char* help) {
    options->Add(NumberOption(name, kCalls, value, min, max, target, help));
  };
  add("hook_deadline_ms", "MS", 1, kMsMax, &limits->hook_deadline_ms,
      "How long a call may take before the plugin's policy answers for it");
  add("defer_budget_ms", "MS", 0, kMsMax, &limits->defer_budget_ms,
      "Asked of Envoy on top (override_message_timeout) when a call is deferred");
  add("max_deferred", "CALLS", 0, INT_MAX, &limits->deferred_max,
      "Deferred calls outstanding in the whole process");
  add("blocking_threads", "THREADS", 1, 1024, &limits->blocking_threads_max,
      "Threads for plugins that say that they block");
  add("max_message_bytes", "BYTES", 1024, INT_MAX, &config->limits.message_bytes_max,
      "The largest message taken from Envoy, and from a plugin");
  add("stream_memory_bytes_max", "BYTES", 1024, uint64_t{1} << 40, &limits->stream_memory_bytes_max,
      "What is kept in memory for one stream");
  add("max_header_count", "COUNT", 1, INT_MAX, &limits->header_count_max,
      "Envoy's limit on the headers that a chain's mutations result in");
  add("max_header_bytes", "BYTES", 1024, INT_MAX, &limits->header_bytes_max,
      "The same in bytes (max_request_headers_kb)");
}

void AddConnectionOptions(Config* config, OptionSet* options) {
  const auto add = [&](const char* name, const char* value, uint64_t min, uint64_t max,
                       auto* target, const char* help) {
    options->Add(NumberOption(name, kConnections, value, min, max, target, help));
  };
  add("max_connections", "COUNT", 0, INT_MAX, &config->connections_max,
      "Open ext_proc connections; more are closed at once. 0: any number");
  add("max_concurrent_streams", "COUNT", 1, INT_MAX, &config->limits.concurrent_streams_max,
      "Streams at a time on one connection");
  add("max_live_streams", "COUNT", 1, INT_MAX, &config->stream_limits.live_max,
      "Streams at a time in the whole process, those that only plugins still hold included; more "
      "are refused");
  add("max_metadata_bytes", "BYTES", 1024, INT_MAX, &config->limits.metadata_bytes_max,
      "gRPC metadata of one stream");
  add("handshake_timeout_ms", "MS", 1, kMsMax, &config->limits.handshake_timeout_ms,
      "From the connection to HTTP/2 settings, TLS included");
  add("connection_idle_ms", "MS", 0, kMsMax, &config->limits.connection_idle_ms,
      "Close a connection without streams after this time. 0: never");
  add("connection_age_ms", "MS", 0, kMsMax, &config->limits.connection_age_ms,
      "Ask a client to connect anew after this time. 0: never");
  add("connection_age_grace_ms", "MS", 0, kMsMax, &config->limits.connection_age_grace_ms,
      "What live streams get after that");
}

void AddProcessOptions(Draft* draft, OptionSet* options) {
  Config* config = &draft->config;
  options->Add(NumberOption("server_thread_count", kProcess, "THREADS", 0, 1024,
                            &config->limits.thread_count,
                            "Threads that serve streams. 0: one for each core it may use"));
  options->Add(NumberOption("drain_delay_ms", kProcess, "MS", 0, kMsMax, &config->drain_delay_ms,
                            "On SIGTERM: how long health says 503 before connections are refused"));
  options->Add(NumberOption("drain_timeout_ms", kProcess, "MS", 0, kMsMax,
                            &config->drain_timeout_ms,
                            "On SIGTERM: how long live streams may go on after that"));
  options->Add(
      {.name = "log_level",
       .group = kProcess,
       .value = "LEVEL",
       .default_text = "info",
       .help = "debug, info, warning or error",
       .set = [=](const std::string& text) { return SetLevel(text, &config->log_level); }});
  options->Add(
      {.name = "log_format",
       .group = kProcess,
       .value = "FORMAT",
       .default_text = "text",
       .help = "text or json, a line each on standard error",
       .set = [=](const std::string& text) { return SetFormat(text, &config->log_format); }});
  options->Add({.name = "log_redacted_headers",
                .group = kProcess,
                .value = "NAMES",
                .default_text = absl::StrJoin(config->redacted_headers, ","),
                .help = "Headers whose values are left out of the debug log, with commas between "
                        "them; none: no header",
                .set = [=](const std::string& text) {
                  return SetRedacted(text, &config->redacted_headers);
                }});
  options->Add({.name = "config",
                .group = kProcess,
                .value = "FILE",
                .default_text = "",
                .help = "Options, one name = value a line; # begins a comment",
                .set = [](const std::string&) { return absl::OkStatus(); }});
  options->Add(CommandSwitch("check", &draft->check,
                             "Load and check everything, print it, serve nothing; exit 0 or 2"));
  options->Add(CommandSwitch("strict", &draft->config.strict_check,
                             "With --check: exit 2 if there was any warning"));
  options->Add(CommandSwitch("list_plugins", &draft->check, "The same"));
  options->Add(CommandSwitch("version", &draft->version, "Print the version"));
  options->Add(CommandSwitch("help", &draft->help, "Print this"));
}

absl::Status CheckDistinct(const Config& config) {
  const std::pair<const char*, const std::optional<Address>*> listeners[] = {
      {"secure_address", &config.secure_address},
      {"plaintext_address", &config.plaintext_address},
      {"health_check_address", &config.health_check_address},
      {"admin_address", &config.admin_address}};
  std::map<std::string, std::string> names;
  for (const auto& [name, address] : listeners) {
    if (!address->has_value()) continue;
    if ((*address)->family() != AF_UNIX && (*address)->port() == 0) continue;
    const auto [other, is_new] = names.emplace((*address)->ToString(), name);
    if (is_new) continue;
    return absl::InvalidArgumentError(
        fmt::format("--{} and --{} are both {}; give each listener an address of its own",
                    other->second, name, other->first));
  }
  return absl::OkStatus();
}

absl::Status FinishAddresses(const Draft& draft, Config* config) {
  const auto listen = [&](bool disabled, const std::string& text, int default_port,
                          std::optional<Address>* target) {
    if (disabled) return;
    *target =
        *ParseAddress(text.empty() ? fmt::format("{}:{}", draft.default_ip, default_port) : text);
  };
  if (draft.disable_tls && draft.disable_plaintext) {
    return absl::InvalidArgumentError(
        "--disable_tls and --disable_plaintext leave nothing to listen on; give only one of them");
  }
  listen(draft.disable_tls, draft.secure_address, 8443, &config->secure_address);
  listen(draft.disable_plaintext, draft.plaintext_address, 8080, &config->plaintext_address);
  listen(draft.combined_health_check, draft.health_check_address, 8000,
         &config->health_check_address);
  listen(draft.admin_address == "off", draft.admin_address, 0, &config->admin_address);
  return CheckDistinct(*config);
}

absl::Status CheckTls(const Draft& draft) {
  const Config& config = draft.config;
  if (config.cert_chain_path.empty() != config.private_key_path.empty()) {
    const bool no_key = config.private_key_path.empty();
    return absl::InvalidArgumentError(fmt::format(
        "--{}={} without --{}; give both", no_key ? "cert_chain_path" : "private_key_path",
        no_key ? config.cert_chain_path : config.private_key_path,
        no_key ? "private_key_path" : "cert_chain_path"));
  }
  if (draft.disable_tls && !config.client_ca_path.empty()) {
    return absl::InvalidArgumentError(
        fmt::format("--client_ca_path={} with --disable_tls would check no client; give only one "
                    "of them",
                    config.client_ca_path));
  }
  if (draft.combined_health_check && config.secure_health_check) {
    return absl::InvalidArgumentError(
        "--secure_health_check and --combined_health_check: there is no health listener to secure; "
        "give only one of them");
  }
  return absl::OkStatus();
}

absl::StatusOr<Config> Finish(Draft draft) {
  if (absl::Status status = CheckTls(draft); !status.ok()) return status;
  Config config = std::move(draft.config);
  if (absl::Status status = FinishAddresses(draft, &config); !status.ok()) return status;
  absl::StatusOr<std::vector<PluginConfig>> plugins = draft.plugins.Finish();
  if (!plugins.ok()) return plugins.status();
  config.plugins = *std::move(plugins);
  if (draft.check) config.command = Config::Command::kCheck;
  if (config.strict_check && !draft.check) {
    return absl::InvalidArgumentError(
        "--strict belongs to --check; give both, or --strict_plugins");
  }
  return config;
}

Config Print(std::string text) {
  Config config;
  config.command = Config::Command::kPrint;
  config.text = std::move(text);
  return config;
}

}  // namespace

absl::StatusOr<Config> ParseConfig(int argc, const char* const* argv,
                                   OptionSet::Environment environment) {
  Draft draft;
  OptionSet options("callout-host", kDescription, "CALLOUT_");
  AddPluginOptions(&draft, &options);
  AddReloadOptions(&draft.config.reload, &options);
  AddContainmentOptions(&draft.config.containment, &options);
  AddListenerOptions(&draft, &options);
  AddTlsOptions(&draft, &options);
  AddHealthOptions(&draft, &options);
  AddCallOptions(&draft.config, &options);
  AddTransportOptions(&draft.config.transport, &options);
  AddConnectionOptions(&draft.config, &options);
  AddProcessOptions(&draft, &options);
  const absl::Status status = options.Parse(argc, argv, environment);
  if (!status.ok()) return status;
  if (draft.help) return Print(options.Help());
  if (draft.version) return Print("callout-host " CALLOUT_HOST_VERSION "\n");
  draft.config.worker_options = options.Given();
  draft.config.warnings = options.Warnings();
  return Finish(std::move(draft));
}

}  // namespace callout::host
