// SPDX-License-Identifier: Apache-2.0

#include "host/config/config.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <climits>
#include <functional>
#include <map>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "host/base/file.h"
#include "host/base/file_trust.h"
#include "host/base/log.h"
#include "host/config/extension_options.h"
#include "host/config/option_kinds.h"
#include "host/config/plugin_options.h"
#include "host/config/record_options.h"
#include "host/config/shadow_options.h"
#include "host/net/address.h"

namespace callout::host {
namespace {

constexpr char kDescription[] =
    "Serves Envoy's external processing protocol (ext_proc v3) with plugins.\n"
    "Each option can also be set in the environment (CALLOUT_LOG_LEVEL=info for --log_level) or\n"
    "in the --config file (log_level = info). Precedence: command line, environment, file.\n"
    "Dashes work in place of underscores.";

constexpr char kPlugins[] = "Plugins";
constexpr char kListeners[] = "Listeners";
constexpr char kTls[] = "TLS";
constexpr char kHealth[] = "Health";
constexpr char kCalls[] = "Calls";
constexpr char kConnections[] = "Connections";
constexpr char kProcess[] = "Process";

constexpr uint64_t kMsMax = INT_MAX;

// Values that are checked together, once all are known.
struct Draft {
  Config config;
  PluginOptions plugins;
  std::string secure_address, plaintext_address, health_check_address;  // "": by default_ip
  std::string admin_address = "127.0.0.1:9902";
  std::string default_ip = "0.0.0.0";
  std::optional<bool> core_dumps;  // unset: unless there is a private key
  bool disable_tls = false, disable_plaintext = false, combined_health_check = false;
  bool probe = false, check = false, manifest = false, help = false, version = false;
};

using Set = std::function<absl::Status(const std::string&)>;

Set ToAddress(std::string* target) {
  return [target](const std::string& text) {
    *target = text;
    return ParseAddress(text).status();
  };
}

absl::Status SetLevel(const std::string& text, LogLevel* level) {
  const std::optional<LogLevel> parsed = ParseLogLevel(text);
  if (!parsed.has_value()) return Expected("debug, info, warning or error");
  *level = *parsed;
  return absl::OkStatus();
}

absl::Status SetFormat(const std::string& text, LogFormat* format) {
  if (text != "text" && text != "json") return Expected("text or json");
  *format = text == "json" ? LogFormat::kJson : LogFormat::kText;
  return absl::OkStatus();
}

absl::Status SetOnOff(const std::string& text, bool* on) {
  if (text != "on" && text != "off") return Expected("on or off");
  *on = text == "on";
  return absl::OkStatus();
}

absl::Status SetExplainKey(const std::string& text, std::string* key) {
  constexpr size_t kBytesMin = 16;
  constexpr size_t kBytesMax = 256;
  if (!text.starts_with('@')) return Expected("@FILE: others can read the command line");
  const absl::StatusOr<std::string> file = ReadFile(text.substr(1), 4 * kBytesMax);
  if (!file.ok()) return file.status();
  *key = std::string(absl::StripAsciiWhitespace(*file));
  const bool visible = std::all_of(key->begin(), key->end(), [](char c) {
    return absl::ascii_isgraph(static_cast<unsigned char>(c));
  });
  if (visible && key->size() >= kBytesMin && key->size() <= kBytesMax) return absl::OkStatus();
  return Expected(fmt::format("a file with {} to {} visible characters", kBytesMin, kBytesMax));
}

// "ext_proc,ext_authz"
absl::Status SetServices(const std::string& text, RpcServices* services) {
  *services = {};
  const std::vector<std::string> parts = absl::StrSplit(text, ',');
  for (const std::string& part : parts) {
    const absl::string_view name = absl::StripAsciiWhitespace(part);
    const auto found =
        std::find_if(kRpcServices.begin(), kRpcServices.end(), [&](const RpcServiceInfo& info) {
          return info.name == std::string_view(name.data(), name.size());
        });
    if (found == kRpcServices.end()) {
      return Expected(
          "ext_proc, ext_authz, ratelimit or network_ext_proc, or several with commas between "
          "them");
    }
    services->Add(found->service);
  }
  return absl::OkStatus();
}

// "0660"
absl::Status SetSocketMode(const std::string& text, std::optional<unsigned>* mode) {
  unsigned value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 8);
  if (error != std::errc() || end != text.data() + text.size() || value > 0777) {
    return Expected("permissions in octal from 0 to 0777, such as 0660");
  }
  *mode = value;
  return absl::OkStatus();
}

// An IPv6 address needs no brackets here, since no port follows.
absl::Status SetDefaultIp(const std::string& text, std::string* ip) {
  const bool bare_ipv6 = text.find(':') != std::string::npos && !text.starts_with('[');
  *ip = bare_ipv6 ? fmt::format("[{}]", text) : text;
  const bool is_ip = !text.starts_with("unix:") && ParseAddress(*ip + ":0").ok();
  return is_ip ? absl::OkStatus() : Expected("an IP address such as 0.0.0.0, 127.0.0.1 or ::");
}

// A switch for a command other than serving.
OptionSet::Option CommandSwitch(const char* name, bool* target, const char* help) {
  OptionSet::Option option = Switch(name, kProcess, target, help);
  option.command_line_only = true;
  return option;
}

bool IsIpV6Address(std::string_view text) {
  in6_addr address = {};
  return inet_pton(AF_INET6, std::string(text).c_str(), &address) == 1;
}

// What a Host header may be: "admin.example", "10.0.0.1", "[::1]:9902".
bool IsHost(std::string_view text) {
  if (text.starts_with('[')) {
    const size_t end = std::min(text.find(']'), text.size());
    const std::string_view port = text.substr(std::min(end + 1, text.size()));
    return IsIpV6Address(text.substr(1, end - 1)) && end < text.size() &&
           (port.empty() || (port.front() == ':' && ParsePort(port.substr(1)).has_value()));
  }
  const size_t colon = text.find(':');
  if (colon != text.npos && colon != text.rfind(':')) return IsIpV6Address(text);
  if (colon != text.npos && !ParsePort(text.substr(colon + 1)).has_value()) return false;
  const std::string_view name = text.substr(0, colon);
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '.' || c == '_';
  });
}

// An entry that no Host header can be is refused: it would let nobody in, and nobody would know
// why.
absl::Status SetAdminHosts(const std::string& text, std::vector<std::string>* hosts) {
  hosts->clear();
  if (absl::StripAsciiWhitespace(text).empty()) return absl::OkStatus();
  for (const absl::string_view entry : absl::StrSplit(text, ',')) {
    const std::string host(absl::StripAsciiWhitespace(entry));
    if (!IsHost(host)) {
      return absl::InvalidArgumentError(
          fmt::format("'{}' is no host; expected names or IP addresses, separated by commas, "
                      "without a scheme, a path or *",
                      EscapeControls(host)));
    }
    hosts->push_back(host);
  }
  return absl::OkStatus();
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
                  .secret = std::string_view(name) == "plugin_config",
                  .set = [=](const std::string& text) { return (plugins->*method)(text); }});
  };
  add("plugin", "[NAME=]PATH", "A plugin to run. Repeat the option for a chain, in request order",
      &PluginOptions::AddPlugin);
  add("plugin_config", "NAME=TEXT|@FILE",
      "A plugin's configuration: text, or the content of a file. Use NAME=@FILE for secrets, since "
      "other users can read the command line",
      &PluginOptions::AddConfig);
  add("plugin_settings", "NAME=@FILE",
      "The operator's settings for a plugin, a JSON object: policy, too_large, match, "
      "max_whole_body_bytes, blocking, disabled, watch and others",
      &PluginOptions::AddSettings);
  add("on_plugin_error", "NAME=POLICY",
      "What the host does when a plugin fails: fail (fail the exchange), continue (pass the "
      "message unchanged) or deny[:STATUS] (respond with STATUS, 500 by default). Default: the "
      "plugin's settings, else fail",
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
      "ext_proc over TLS: IPV4:PORT, [IPV6]:PORT or unix:PATH. 0.0.0.0 is every IPv4 address, [::] "
      "is every IPv4 and IPv6 address, port 0 is any free port",
      ToAddress(&draft->secure_address));
  add("plaintext_address", "0.0.0.0:8080", "ext_proc without TLS",
      ToAddress(&draft->plaintext_address));
  add("health_check_address", "0.0.0.0:8000",
      "HTTP health checks: 200, or 503 while the host starts or drains",
      ToAddress(&draft->health_check_address));
  add("admin_address", "127.0.0.1:9902",
      "/metrics and other pages; off: no admin listener. If the port of the default address is in "
      "use, the host logs a warning and runs without",
      [draft](const std::string& text) {
        draft->admin_address = text;
        draft->config.admin_address_is_default = false;
        return text == "off" ? absl::OkStatus() : ParseAddress(text).status();
      });
  options->Add(
      {.name = "admin_hosts",
       .group = kListeners,
       .value = "NAMES",
       .default_text = "",
       .help = "Host names, separated by commas, that requests for admin pages may use in their "
               "Host header. IP addresses, localhost and this machine's name are always accepted",
       .set = [draft](const std::string& text) {
         return SetAdminHosts(text, &draft->config.admin_hosts);
       }});
  options->Add(ChoiceOption(
      "admin_writes", kListeners, "on|off", {"off", "on"}, 0,
      [draft](size_t choice) { draft->config.admin_writes = choice == 1; },
      "Whether requests to the admin listener may change something: log level, drain, quarantine, "
      "version of a plugin. Anybody who reaches the listener may then do so"));
  options->Add(NumberOption("max_admin_pages", kListeners, "COUNT", 1, 10000,
                            &draft->config.admin_pages_max,
                            "Admin pages that are being made or wait for it. Those that only read "
                            "the host's memory do not count. Further ones get 503. As many actions "
                            "may be under way beside them"));
  options->Add({.name = "unix_socket_mode",
                .group = kListeners,
                .value = "MODE",
                .default_text = "",
                .help = "Permissions of unix sockets, in octal, such as 0660. Clients need write "
                        "permission. Default: by the umask",
                .set = [draft](const std::string& text) {
                  return SetSocketMode(text, &draft->config.unix_socket_mode);
                }});
  options->Add(
      {.name = "default_ip",
       .group = kListeners,
       .value = "IP",
       .default_text = "0.0.0.0",
       .help =
           "IP address of those secure, plaintext and health listeners that have no address option",
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
      "Certificate chain, PEM. The host reloads it when the file changes. Default: a self-signed "
      "certificate");
  add("private_key_path", &draft->config.private_key_path,
      "Private key of the certificate, PEM; needed with --cert_chain_path");
  add("client_ca_path", &draft->config.client_ca_path,
      "Require client certificates issued by one of these CAs, PEM (mutual TLS)");
}

void AddHealthOptions(Draft* draft, OptionSet* options) {
  options->Add(Switch("secure_health_check", kHealth, &draft->config.secure_health_check,
                      "Serve health checks over HTTPS, with the same certificate"));
  options->Add(Switch("combined_health_check", kHealth, &draft->combined_health_check,
                      "No health listener; only grpc.health.v1 on the ext_proc listeners"));
}

void AddCallOptions(Config* config, OptionSet* options) {
  StreamLimits* limits = &config->stream_limits;
  const auto add = [&](const char* name, const char* value, uint64_t min, uint64_t max,
                       auto* target, const char* help) {
    options->Add(NumberOption(name, kCalls, value, min, max, target, help));
  };
  add("hook_deadline_ms", "MS", 1, kMsMax, &limits->hook_deadline_ms,
      "Time limit of a deferred call and of a hook on the blocking pool. Then the plugin's error "
      "policy answers. A hook that holds a serving thread is not interrupted: --watchdog_ms");
  add("defer_budget_ms", "MS", 0, kMsMax, &limits->defer_budget_ms,
      "Time to request from Envoy (override_message_timeout) when a call is deferred. Envoy "
      "ignores it unless its max_message_timeout is at least as long. 0: none");
  add("max_deferred", "CALLS", 0, INT_MAX, &limits->deferred_max,
      "Deferred calls that may be outstanding in the process. A call beyond that is a fault "
      "(defer_limit)");
  add("blocking_threads", "THREADS", 1, 1024, &limits->blocking_threads_max,
      "Threads that run the hooks of plugins with the setting or declaration `blocking`");
  add("max_message_bytes", "BYTES", 1024, INT_MAX, &config->limits.message_bytes_max,
      "Largest message that the host accepts from Envoy or from a plugin");
  add("max_message_fields", "COUNT", 100, INT_MAX, &limits->message_fields_max,
      "Headers, and attributes, that a message from Envoy may have. If a message has more, the "
      "host responds with 431");
  options->Add(
      Renamed("stream_memory_bytes_max",
              NumberOption("max_stream_memory_bytes", kCalls, "BYTES", 1024, uint64_t{1} << 40,
                           &limits->stream_memory_bytes_max,
                           "Memory for one stream: attributes, metadata, and bodies that plugins "
                           "take whole. A body beyond that is a fault (body_too_large)")));
  add("max_header_count", "COUNT", 1, INT_MAX, &limits->header_count_max,
      "Headers that a message may have after the plugins' mutations. Set it as Envoy's "
      "max_headers_count, which is 100 by default");
  add("max_header_bytes", "BYTES", 1024, INT_MAX, &limits->header_bytes_max,
      "Bytes of headers that a message may have after the plugins' mutations. Set it as Envoy's "
      "max_request_headers_kb, which is 60 by default");
  add("body_wait_ms", "MS", 1, kMsMax, &limits->body_wait_ms,
      "Time that a stream waits for Envoy to send the rest of a body that a plugin takes whole. "
      "Then it is refused: 408 for a request, 500 for a response, and a fault (deadline)");
  add("max_queued_bytes", "BYTES", 1, uint64_t{1} << 40, &limits->queued_bytes_max,
      "Bytes of messages that may wait in one stream behind a call that is not finished. At the "
      "limit the host stops reading the stream");
  add("max_queued_messages", "COUNT", 1, INT_MAX, &limits->queued_messages_max,
      "Messages that may wait in one stream behind a call that is not finished. At the limit the "
      "host stops reading the stream");
  add("max_sent_bytes", "BYTES", 1024, uint64_t{1} << 40, &limits->sent_bytes_max,
      "Bytes that a plugin may send ahead (send()) in one stream before the client takes them. "
      "Beyond that, send() is refused");
  options->Add(ChoiceOption(
      "envoy_mode_override", kCalls, "unknown|allowed|ignored", {"unknown", "allowed", "ignored"},
      static_cast<size_t>(limits->mode_override),
      [limits](size_t index) { limits->mode_override = static_cast<EnvoyModeOverride>(index); },
      "Whether Envoy obeys the mode_override of a plugin (its allow_mode_override). unknown: the "
      "host assumes neither until a message from Envoy shows it"));
  options->Add(ChoiceOption(
      "metadata_controls", kCalls, "refuse|pass", {"refuse", "pass"}, 0,
      [limits](size_t index) { limits->metadata_controls = index == 1; },
      "Dynamic metadata of a plugin with CR, LF or NUL in a string. Envoy writes it unchanged into "
      "a "
      "header that its configuration makes of metadata. refuse: it is a fault of the plugin"));
  options->Add(
      {.name = "services",
       .group = kCalls,
       .value = "LIST",
       .default_text = "",
       .help =
           "Services to answer: ext_proc, ext_authz, ratelimit, network_ext_proc. With ext_authz "
           "named here, a plugin that has only callout_on_request_headers answers a Check, "
           "too. Default: those that some plugin has hooks for",
       .set = [limits](const std::string& text) { return SetServices(text, &limits->services); }});
  limits->early_end = true;
  options->Add(ChoiceOption(
      "early_end", kCalls, "on|off", {"on", "off"}, 0,
      [limits](size_t index) { limits->early_end = index == 0; },
      "End a stream as soon as no plugin wants any of its further messages; Envoy then passes the "
      "rest unchanged"));
  limits->phase_pruning = true;
  options->Add(ChoiceOption(
      "phase_pruning", kCalls, "on|off", {"on", "off"}, 0,
      [limits](size_t index) { limits->phase_pruning = index == 0; },
      "With --envoy_mode_override=allowed: ask Envoy, in the response to the request's headers, to "
      "leave out the phases of the exchange that no plugin wants"));
}

void AddConnectionOptions(Config* config, OptionSet* options) {
  const auto add = [&](const char* name, const char* value, uint64_t min, uint64_t max,
                       auto* target, const char* help) {
    options->Add(NumberOption(name, kConnections, value, min, max, target, help));
  };
  const auto add_renamed = [&](const char* old_name, const char* name, uint64_t* target,
                               const char* help) {
    options->Add(
        Renamed(old_name, NumberOption(name, kConnections, "MS", 0, kMsMax, target, help)));
  };
  add("max_connections", "COUNT", 0, INT_MAX, &config->connections_max,
      "Open ext_proc connections of a process. The host closes further ones at once. 0: no limit");
  add("max_concurrent_streams", "COUNT", 1, INT_MAX, &config->limits.concurrent_streams_max,
      "Concurrent streams on one connection (SETTINGS_MAX_CONCURRENT_STREAMS)");
  add("max_live_streams", "COUNT", 1, INT_MAX, &config->stream_limits.live_max,
      "Concurrent streams in the process. A stream that has ended counts while a plugin holds one "
      "of its calls. The host refuses further ones");
  add("max_live_streams_per_peer", "COUNT", 0, INT_MAX, &config->limits.live_per_peer_max,
      "nghttp2: streams of one IP address, once more than half of --max_live_streams are in use. "
      "0: an eighth of --max_live_streams");
  add("max_live_streams_per_connection", "COUNT", 0, INT_MAX,
      &config->limits.live_per_connection_max,
      "nghttp2: streams of one connection, once more than half of --max_live_streams are in use. "
      "0: a 128th of --max_live_streams");
  add("first_message_timeout_ms", "MS", 0, kMsMax, &config->limits.first_message_timeout_ms,
      "Time from the start of a stream to its first message. Then the stream ends with "
      "DEADLINE_EXCEEDED. 0: no limit");
  add("stream_idle_timeout_ms", "MS", 0, kMsMax, &config->limits.stream_idle_timeout_ms,
      "Time from one message of a stream to the next. Then the stream ends with DEADLINE_EXCEEDED. "
      "0: no limit");
  add("max_stream_duration_ms", "MS", 0, kMsMax, &config->limits.stream_duration_ms_max,
      "Lifetime of a stream. Then it ends with DEADLINE_EXCEEDED. 0: no limit");
  add("max_metadata_bytes", "BYTES", 1024, INT_MAX, &config->limits.metadata_bytes_max,
      "Bytes of gRPC metadata (request headers of the RPC) that a stream may have");
  add("handshake_timeout_ms", "MS", 1, kMsMax, &config->limits.handshake_timeout_ms,
      "Time from accepting a connection to its HTTP/2 SETTINGS, including the TLS handshake. Then "
      "the host closes it");
  add_renamed("connection_idle_ms", "max_connection_idle_ms", &config->limits.connection_idle_ms,
              "Close a connection that has had no stream for this long. 0: never");
  add_renamed(
      "connection_age_ms", "max_connection_age_ms", &config->limits.connection_age_ms,
      "Send GOAWAY on a connection of this age, so that the client opens a new one. 0: never");
  add_renamed("connection_age_grace_ms", "max_connection_age_grace_ms",
              &config->limits.connection_age_grace_ms,
              "Time that the streams of such a connection have to end after the GOAWAY");
  options->Add(
      {.name = "reflection",
       .group = kConnections,
       .value = "on|off",
       .default_text = "on",
       .help = "Serve gRPC server reflection, which lists the services of the host",
       .set = [=](const std::string& text) { return SetOnOff(text, &config->limits.reflection); }});
}

void AddProcessOptions(Draft* draft, OptionSet* options) {
  Config* config = &draft->config;
  options->Add(Renamed(
      "server_thread_count",
      NumberOption("server_threads", kProcess, "THREADS", 0, 1024, &config->limits.thread_count,
                   "Threads that serve streams. 0: one for each core that the process may use")));
  options->Add(NumberOption(
      "drain_delay_ms", kProcess, "MS", 0, kMsMax, &config->drain_delay_ms,
      "On SIGTERM: time from the moment health reports 503 until the host stops accepting "
      "connections. It applies only if health was asked for within the last 60 s"));
  options->Add(NumberOption("drain_timeout_ms", kProcess, "MS", 0, kMsMax,
                            &config->drain_timeout_ms,
                            "On SIGTERM: time that streams have to end after the host has stopped "
                            "accepting connections"));
  options->Add(
      {.name = "log_level",
       .group = kProcess,
       .value = "LEVEL",
       .default_text = "info",
       .help = "Least severe lines that are logged: debug, info, warning or error",
       .set = [=](const std::string& text) { return SetLevel(text, &config->log_level); }});
  options->Add(
      {.name = "log_format",
       .group = kProcess,
       .value = "FORMAT",
       .default_text = "text",
       .help = "Format of the log on standard error: text or json, one entry per line",
       .set = [=](const std::string& text) { return SetFormat(text, &config->log_format); }});
  options->Add(NumberOption("max_log_queue_bytes", kProcess, "BYTES", 65536, INT_MAX,
                            &config->log_queue_bytes_max,
                            "Bytes of log lines that may wait to be written. Further lines are "
                            "dropped and counted (callout_log_dropped_lines_total)"));
  options->Add({.name = "log_redacted_headers",
                .group = kProcess,
                .value = "NAMES",
                .default_text = absl::StrJoin(config->redacted_headers, ","),
                .help = "Names of headers whose values the debug log leaves out, separated by "
                        "commas. * at either end of a name matches anything; ?query is the query "
                        "in :path and in other URLs; none: log all values",
                .set = [=](const std::string& text) {
                  return SetHeaderPatterns(text, &config->redacted_headers);
                }});
  options->Add(
      {.name = "explain_key",
       .group = kProcess,
       .value = "@FILE",
       .default_text = "",
       .help = "File with the key that marks a request to be explained (/explain) if it is "
               "the value of its header x-callout-debug: 16 to 256 visible characters. "
               "Plugins and the upstream see the header, too. Default: no header marks any",
       .supervisor_only = true,
       .secret = true,
       .set = [=](const std::string& text) { return SetExplainKey(text, &config->explain_key); }});
  options->Add(NumberOption("max_explained", kProcess, "COUNT", 1, 10000, &config->explained_max,
                            "Explanations that each process keeps, of at most 64 KiB each; the "
                            "oldest goes first"));
  options->Add(ChoiceOption(
      "core_dumps", kProcess, "auto|on|off", {"auto", "on", "off"}, 0,
      [=](size_t choice) {
        draft->core_dumps = choice == 0 ? std::nullopt : std::optional(choice == 1);
      },
      "Whether a crash may leave a core dump and users without privileges may attach a debugger. "
      "auto: not with --private_key_path, since the key is in memory"));
  options->Add({.name = "config",
                .group = kProcess,
                .value = "FILE",
                .default_text = "",
                .help = "File of options, one `name = value` per line; # or ; begins a comment",
                .set = [](const std::string&) { return absl::OkStatus(); }});
  options->Add(CommandSwitch(
      "check", &draft->check,
      "Load and check everything, print the result and exit: 0, or 2 if something is wrong. "
      "Requires every plugin, whatever --require_plugins says"));
  options->Add(CommandSwitch("strict", &draft->config.strict_check,
                             "With --check: exit with 2 on a warning, too"));
  options->Add(CommandSwitch("list_plugins", &draft->check, "Alias of --check"));
  options->Add(CommandSwitch("probe", &draft->probe,
                             "Ask the health listener of a running host, and exit: 0 if it is "
                             "ready, 1 if it is not or does not respond"));
  AddDeployOptions(&config->deploy, kProcess, options);
  options->Add(CommandSwitch("print_manifest", &draft->manifest,
                             "Print what the files of --plugin are, as a JSON array: name, "
                             "version, ABI, hooks, SHA-256 and the schema of the configuration; "
                             "and exit"));
  options->Add(CommandSwitch("version", &draft->version, "Print the version and exit"));
  options->Add(CommandSwitch("help", &draft->help, "Print this help and exit"));
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
        fmt::format("--{} and --{} are both {}; give each listener its own address", other->second,
                    name, other->first));
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
        fmt::format("--client_ca_path={} has no effect with --disable_tls; give only one of "
                    "them",
                    config.client_ca_path));
  }
  if (draft.combined_health_check && config.secure_health_check) {
    return absl::InvalidArgumentError(
        "--secure_health_check and --combined_health_check: there is no health listener to secure; "
        "give only one of them");
  }
  return absl::OkStatus();
}

// A worker gets its key from its supervisor, and does not know of the file.
void FinishCoreDumps(const Draft& draft, Config* config) {
  config->core_dumps = draft.core_dumps.value_or(config->private_key_path.empty());
  if (!draft.core_dumps.has_value() && !config->core_dumps) {
    config->worker_options.push_back("--core_dumps=off");
  }
}

// Only the secure listener asks for client certificates.
absl::Status CheckPlaintext(const Draft& draft, Config* config) {
  if (config->client_ca_path.empty() || !config->plaintext_address.has_value()) {
    return absl::OkStatus();
  }
  const std::string address = config->plaintext_address->ToString();
  if (draft.plaintext_address.empty() && !config->plaintext_address->IsLoopback()) {
    return absl::InvalidArgumentError(fmt::format(
        "--client_ca_path={} checks the clients of the secure listener, and the plaintext listener "
        "on its default address {} serves anybody; give --disable_plaintext, or "
        "--plaintext_address if that is meant",
        config->client_ca_path, address));
  }
  config->warnings.push_back(fmt::format(
      "--client_ca_path does not apply to the plaintext listener on {}, which serves every client "
      "that reaches it; --disable_plaintext turns it off",
      address));
  return absl::OkStatus();
}

// Who can change a file of keys decides what is loaded, as with the plugins themselves.
absl::Status CheckKeyFiles(Config* config) {
  const PluginPermissions permissions = config->reload.file_rules.permissions;
  if (permissions == PluginPermissions::kOff) return absl::OkStatus();
  for (const std::string& path : config->reload.key_files) {
    FileTrust trust = CheckFileTrust(path);
    if (!trust.refusal.empty() && permissions == PluginPermissions::kStrict) {
      return absl::InvalidArgumentError(fmt::format(
          "--plugin_keys={}: {}, or give --plugin_permissions=warn", path, trust.refusal));
    }
    if (!trust.refusal.empty()) trust.warnings.push_back(std::move(trust.refusal));
    for (const std::string& warning : trust.warnings) {
      config->warnings.push_back(fmt::format("--plugin_keys={}: {}", path, warning));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckOneCommand(const Draft& draft, const DeployConfig& deploy) {
  std::vector<std::string> given;
  if (draft.check) given.emplace_back("--check");
  if (draft.probe) given.emplace_back("--probe");
  if (draft.manifest) given.emplace_back("--print_manifest");
  if (deploy.print.has_value()) given.emplace_back("--print_config");
  if (!deploy.doctor_file.empty()) given.emplace_back("--doctor");
  if (given.size() <= 1) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("{} are different commands; give only one of them", absl::StrJoin(given, ", ")));
}

absl::StatusOr<Config> Finish(Draft draft) {
  if (absl::Status status = CheckTls(draft); !status.ok()) return status;
  Config config = std::move(draft.config);
  if (absl::Status status = FinishAddresses(draft, &config); !status.ok()) return status;
  if (absl::Status status = CheckPlaintext(draft, &config); !status.ok()) return status;
  if (absl::Status status = CheckKeyFiles(&config); !status.ok()) return status;
  FinishCoreDumps(draft, &config);
  if (absl::Status status = FinishRecordOptions(config.redacted_headers, &config.record);
      !status.ok()) {
    return status;
  }
  absl::StatusOr<std::vector<PluginConfig>> plugins = draft.plugins.Finish();
  if (!plugins.ok()) return plugins.status();
  config.plugins = *std::move(plugins);
  if (draft.check) config.command = Config::Command::kCheck;
  if (draft.probe) config.command = Config::Command::kProbe;
  if (draft.manifest) config.command = Config::Command::kManifest;
  if (config.deploy.print.has_value()) config.command = Config::Command::kPrintConfig;
  if (!config.deploy.doctor_file.empty()) config.command = Config::Command::kDoctor;
  if (absl::Status status = CheckOneCommand(draft, config.deploy); !status.ok()) return status;
  if (draft.manifest && config.plugins.empty()) {
    return absl::InvalidArgumentError("--print_manifest: no plugin is given; give --plugin=PATH");
  }
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
  AddExtensionOptions(&draft.config.reload.extensions, &options);
  AddShadowOptions(&draft.config.shadow, &options);
  AddContainmentOptions(&draft.config.containment, &options);
  AddListenerOptions(&draft, &options);
  AddTlsOptions(&draft, &options);
  AddHealthOptions(&draft, &options);
  AddCallOptions(&draft.config, &options);
  AddTransportOptions(&draft.config.transport, &options);
  AddConnectionOptions(&draft.config, &options);
  AddRecordOptions(&draft.config.record, &options);
  AddProcessOptions(&draft, &options);
  const absl::Status status = options.Parse(argc, argv, environment);
  if (!status.ok()) return status;
  if (draft.help) return Print(options.Help());
  if (draft.version) return Print("callout-host " CALLOUT_HOST_VERSION "\n");
  draft.config.worker_options = options.Given();
  draft.config.warnings = options.Warnings();
  draft.config.in_force = options.InForce();
  if (options.IsOnCommandLine("plugin_config")) {
    draft.plugins.WarnOfSecrets(&draft.config.warnings);
  }
  return Finish(std::move(draft));
}

}  // namespace callout::host
