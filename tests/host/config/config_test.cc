// SPDX-License-Identifier: Apache-2.0

#include "host/config/config.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "host/config/transport_options.h"
#include "tests/host/sockets.h"

namespace callout::host {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

using Variables = std::map<std::string, std::string>;

absl::StatusOr<Config> Parse(const std::vector<std::string>& arguments,
                             const Variables& variables = {}) {
  std::vector<const char*> argv = {"callout-host"};
  for (const std::string& argument : arguments) argv.push_back(argument.c_str());
  std::vector<std::string> assignments;
  for (const auto& [name, value] : variables) assignments.push_back(name + "=" + value);
  std::vector<const char*> environment;
  for (const std::string& assignment : assignments) environment.push_back(assignment.c_str());
  environment.push_back(nullptr);
  return ParseConfig(static_cast<int>(argv.size()), argv.data(), environment.data());
}

// A good configuration; fails the test if it is none.
Config Good(const std::vector<std::string>& arguments, const Variables& variables = {}) {
  absl::StatusOr<Config> config = Parse(arguments, variables);
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? *std::move(config) : Config();
}

// The error, which has to be one line.
std::string Bad(const std::vector<std::string>& arguments, const Variables& variables = {}) {
  const absl::StatusOr<Config> config = Parse(arguments, variables);
  EXPECT_FALSE(config.ok());
  if (config.ok()) return "";
  EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument);
  std::string message(config.status().message());
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  return message;
}

class ConfigFile {
 public:
  explicit ConfigFile(const std::string& text) { std::ofstream(path(), std::ios::binary) << text; }
  std::string path() const { return dir_.Path("host.conf"); }
  std::string option() const { return "--config=" + path(); }

 private:
  TempDir dir_;
};

std::string Text(const std::optional<Address>& address) {
  return address.has_value() ? address->ToString() : "none";
}

std::string Text(const std::vector<PluginConfig>& plugins) {
  std::string text;
  for (const PluginConfig& plugin : plugins) {
    text += fmt::format("[{}|{}|{}]", plugin.name, plugin.path, plugin.config);
  }
  return text;
}

struct OptionCase {
  std::string name;
  std::string default_value;  // as `read` shows it
  std::string value;          // another good value
  std::string read_value;     // the same, as `read` shows it
  std::string third_value;    // and a third that is shown as it is; "": there is none
  std::function<std::string(const Config&)> read;
};

// What the members lead to, each in the one before it.
template <class... Members>
OptionCase Number(const std::string& name, const std::string& default_value, Members... members) {
  return {name,   default_value,
          "2048", "2048",
          "4096", [=](const Config& config) {
            return fmt::format("{}", (config.*....*members)); }};
}

OptionCase Listener(const std::string& name, const std::string& default_value,
                    std::optional<Address> Config::*member) {
  return {name,       default_value,
          "[::1]:77", "[::1]:77",
          "unix:/x",  [member](const Config& config) { return Text(config.*member); }};
}

// Than the default, if the build has one.
std::string OtherTransport() { return HasGrpcTransport() ? "grpc" : "nghttp2"; }

std::vector<OptionCase> Cases() {
  return {
      Listener("secure_address", "0.0.0.0:8443", &Config::secure_address),
      Listener("plaintext_address", "0.0.0.0:8080", &Config::plaintext_address),
      Listener("health_check_address", "0.0.0.0:8000", &Config::health_check_address),
      Listener("admin_address", "127.0.0.1:9902", &Config::admin_address),
      Number("max_message_bytes", "16777216", &Config::limits, &TransportLimits::message_bytes_max),
      Number("max_connections", "10000", &Config::connections_max),
      Number("max_concurrent_streams", "1000", &Config::limits,
             &TransportLimits::concurrent_streams_max),
      Number("max_metadata_bytes", "16384", &Config::limits, &TransportLimits::metadata_bytes_max),
      Number("handshake_timeout_ms", "5000", &Config::limits,
             &TransportLimits::handshake_timeout_ms),
      Number("max_connection_idle_ms", "900000", &Config::limits,
             &TransportLimits::connection_idle_ms),
      Number("first_message_timeout_ms", "10000", &Config::limits,
             &TransportLimits::first_message_timeout_ms),
      Number("stream_idle_timeout_ms", "3600000", &Config::limits,
             &TransportLimits::stream_idle_timeout_ms),
      Number("max_stream_duration_ms", "3600000", &Config::limits,
             &TransportLimits::stream_duration_ms_max),
      Number("max_live_streams_per_peer", "0", &Config::limits,
             &TransportLimits::live_per_peer_max),
      Number("max_live_streams_per_connection", "0", &Config::limits,
             &TransportLimits::live_per_connection_max),
      {"reflection", "on", "off", "off", "on",
       [](const Config& c) { return c.limits.reflection ? "on" : "off"; }},
      Number("max_message_fields", "4096", &Config::stream_limits,
             &StreamLimits::message_fields_max),
      Number("max_turn_messages", "256", &Config::transport, &TransportConfig::turn_messages_max),
      Number("max_turn_handshakes", "1", &Config::transport, &TransportConfig::turn_handshakes_max),
      {"max_handshake_percent", "25", "20", "20", "100",
       [](const Config& c) { return fmt::format("{}", c.transport.handshake_percent_max); }},
      {"memory_budget_bytes", "0", "268435456", "268435456", "16777216",
       [](const Config& c) { return fmt::format("{}", c.transport.memory_budget_bytes); }},
      Number("max_connection_age_ms", "0", &Config::limits, &TransportLimits::connection_age_ms),
      Number("max_connection_age_grace_ms", "60000", &Config::limits,
             &TransportLimits::connection_age_grace_ms),
      Number("first_message_timeout_ms", "10000", &Config::limits,
             &TransportLimits::first_message_timeout_ms),
      Number("stream_idle_timeout_ms", "3600000", &Config::limits,
             &TransportLimits::stream_idle_timeout_ms),
      Number("max_stream_duration_ms", "3600000", &Config::limits,
             &TransportLimits::stream_duration_ms_max),
      Number("drain_delay_ms", "5000", &Config::drain_delay_ms),
      Number("drain_timeout_ms", "10000", &Config::drain_timeout_ms),
      Number("hook_deadline_ms", "150", &Config::stream_limits, &StreamLimits::hook_deadline_ms),
      Number("defer_budget_ms", "0", &Config::stream_limits, &StreamLimits::defer_budget_ms),
      Number("max_deferred", "10000", &Config::stream_limits, &StreamLimits::deferred_max),
      Number("max_stream_memory_bytes", "67108864", &Config::stream_limits,
             &StreamLimits::stream_memory_bytes_max),
      Number("body_wait_ms", "60000", &Config::stream_limits, &StreamLimits::body_wait_ms),
      Number("max_queued_bytes", "1048576", &Config::stream_limits,
             &StreamLimits::queued_bytes_max),
      Number("max_queued_messages", "64", &Config::stream_limits,
             &StreamLimits::queued_messages_max),
      Number("max_sent_bytes", "4194304", &Config::stream_limits, &StreamLimits::sent_bytes_max),
      {"early_end", "on", "off", "off", "on",
       [](const Config& c) { return c.stream_limits.early_end ? "on" : "off"; }},
      {"metadata_controls", "refuse", "pass", "pass", "refuse",
       [](const Config& c) { return c.stream_limits.metadata_controls ? "pass" : "refuse"; }},
      {"phase_pruning", "on", "off", "off", "on",
       [](const Config& c) { return c.stream_limits.phase_pruning ? "on" : "off"; }},
      {"envoy_mode_override", "unknown", "ignored", "ignored", "allowed",
       [](const Config& c) {
         constexpr const char* kNames[] = {"unknown", "allowed", "ignored"};
         return kNames[static_cast<size_t>(c.stream_limits.mode_override)];
       }},
      Number("max_live_streams", "100000", &Config::stream_limits, &StreamLimits::live_max),
      Number("max_header_count", "100", &Config::stream_limits, &StreamLimits::header_count_max),
      Number("max_header_bytes", "61440", &Config::stream_limits, &StreamLimits::header_bytes_max),
      {"blocking_threads", "16", "3", "3", "4",
       [](const Config& c) { return fmt::format("{}", c.stream_limits.blocking_threads_max); }},
      {"server_threads", "0", "3", "3", "4",
       [](const Config& c) { return fmt::format("{}", c.limits.thread_count); }},
      {"default_ip", "0.0.0.0:8000", "::1", "[::1]:8000", "127.0.0.1",
       [](const Config& c) {
         const std::string text = Text(c.health_check_address);
         return text == "127.0.0.1:8000" ? "127.0.0.1" : text;
       }},
      Number("max_connections_per_peer", "0", &Config::transport,
             &TransportConfig::connections_per_peer_max),
      Number("max_connection_memory_bytes", "67108864", &Config::transport,
             &TransportConfig::connection_memory_bytes_max),
      Number("max_header_block_bytes", "65536", &Config::transport,
             &TransportConfig::header_block_bytes_max),
      Number("max_control_frames", "1000", &Config::transport,
             &TransportConfig::control_frames_max),
      Number("max_unanswered_resets", "1000", &Config::transport,
             &TransportConfig::unanswered_resets_max),
      {"transport", "nghttp2", OtherTransport(), OtherTransport(), "nghttp2",
       [](const Config& c) {
         return c.transport.kind == TransportConfig::Kind::kGrpc ? "grpc" : "nghttp2";
       }},
      {"log_level", "1", "debug", "0", "error",
       [](const Config& c) {
         return c.log_level == LogLevel::kError ? "error" : fmt::format("{}", int(c.log_level));
       }},
      {"log_format", "text", "json", "json", "text",
       [](const Config& c) { return c.log_format == LogFormat::kJson ? "json" : "text"; }},
      {"log_redacted_headers", absl::StrJoin(RedactedHeadersDefault(), ","), "X-A, cookie",
       "x-a,cookie", "x-b", [](const Config& c) { return absl::StrJoin(c.redacted_headers, ","); }},
      {"record", "", "/tmp/a.rec", "/tmp/a.rec", "/tmp/b.rec",
       [](const Config& c) { return c.record.path; }},
      {"record_percent", "100", "0.5", "0.5", "99",
       [](const Config& c) { return fmt::format("{}", c.record.percent); }},
      {"record_match", "", "path_prefix=/a&host=b", "path_prefix=/a&host=b", "method=GET",
       [](const Config& c) { return c.record.match; }},
      {"record_bodies", "off", "on", "on", "off",
       [](const Config& c) { return c.record.bodies ? "on" : "off"; }},
      {"record_redact", absl::StrJoin(RedactedHeadersDefault(), ","), "X-A, cookie", "x-a,cookie",
       "x-b", [](const Config& c) { return absl::StrJoin(c.record.redacted, ","); }},
      {"max_record_bytes", "67108864", "65536", "65536", "131072",
       [](const Config& c) { return fmt::format("{}", c.record.file_bytes_max); }},
      {"max_record_files", "8", "1", "1", "3",
       [](const Config& c) { return fmt::format("{}", c.record.files); }},
      {"max_record_queue_bytes", "16777216", "65536", "65536", "131072",
       [](const Config& c) { return fmt::format("{}", c.record.queue_bytes_max); }},
      {"max_record_exchange_bytes", "1048576", "4096", "4096", "8192",
       [](const Config& c) { return fmt::format("{}", c.record.exchange_bytes_max); }},
      {"record_dir", "", "/tmp", "/tmp", "/",
       [](const Config& c) { return c.record.tap_directory; }},
      {"admin_hosts", "", "a.example,b", "a.example,b", "c",
       [](const Config& c) { return absl::StrJoin(c.admin_hosts, ","); }},
      {"admin_writes", "off", "on", "on", "off",
       [](const Config& c) { return c.admin_writes ? "on" : "off"; }},
      {"max_admin_pages", "32", "1", "1", "10000",
       [](const Config& c) { return fmt::format("{}", c.admin_pages_max); }},
      {"unix_socket_mode", "0", "0660", "660", "600",
       [](const Config& c) { return fmt::format("{:o}", c.unix_socket_mode.value_or(0)); }},
      {"plugin_permissions", "0", "warn", "1", "off",
       [](const Config& c) {
         return c.reload.file_rules.permissions == PluginPermissions::kOff
                    ? "off"
                    : fmt::format("{}", int(c.reload.file_rules.permissions));
       }},
      {"max_plugin_file_bytes", "268435456", "4096", "4096", "1073741824",
       [](const Config& c) { return fmt::format("{}", c.reload.file_rules.max_code_bytes); }},
      Number("plugin_create_timeout_ms", "10000", &Config::reload,
             &ReloadConfig::create_timeout_ms),
      {"plugins_dir", "", "/p d", "/p d", "/q",
       [](const Config& c) { return absl::StrJoin(c.reload.directories, "|"); }},
      {"require_plugins", "0", "all", "1", "none",
       [](const Config& c) {
         return c.reload.require_plugins == RequirePlugins::kNone
                    ? "none"
                    : fmt::format("{}", int(c.reload.require_plugins));
       }},
      {"max_generations", "1000", "2048", "2048", "4096",
       [](const Config& c) { return fmt::format("{}", c.reload.generations_max); }},
      {"reload_guard", "0.5/100", "0.25/10", "0.25/10", "1/0",
       [](const Config& c) {
         return fmt::format("{}/{}", c.reload.guard.rate, c.reload.guard.calls);
       }},
      {"quarantine_retry_ms", "60000", "0", "0", "4096",
       [](const Config& c) { return fmt::format("{}", c.containment.quarantine.retry_ms); }},
      {"max_log_queue_bytes", "1048576", "65536", "65536", "70000",
       [](const Config& c) { return fmt::format("{}", c.log_queue_bytes_max); }},
      {"watchdog_ms", "5000", "2048", "2048", "4096",
       [](const Config& c) { return fmt::format("{}", c.containment.watchdog_ms); }},
      {"workers", "0", "4", "4", "256",
       [](const Config& c) { return fmt::format("{}", c.containment.workers); }},
      {"quarantine", "3/60", "5/600", "5/600", "0/1",
       [](const Config& c) {
         return fmt::format("{}/{}", c.containment.quarantine.crashes,
                            c.containment.quarantine.seconds);
       }},
      {"plugin", "", "a=/x/y.so", "[a|/x/y.so|]", "",
       [](const Config& c) { return Text(c.plugins); }},
  };
}

TEST(Config, HasTheDocumentedDefaults) {
  for (const OptionCase& option : Cases()) {
    EXPECT_EQ(option.read(Good({})), option.default_value) << option.name;
  }
  const Config config = Good({});
  EXPECT_EQ(config.command, Config::Command::kServe);
  EXPECT_TRUE(config.admin_address_is_default);
  EXPECT_FALSE(config.secure_health_check);
  EXPECT_EQ(config.cert_chain_path, "");
  EXPECT_EQ(config.private_key_path, "");
}

TEST(Config, TakesEachOptionFromTheCommandLine) {
  for (const OptionCase& option : Cases()) {
    EXPECT_EQ(option.read(Good({"--" + option.name + "=" + option.value})), option.read_value);
    EXPECT_EQ(option.read(Good({"--" + option.name, option.value})), option.read_value);
    const std::string dashes = absl::StrReplaceAll(option.name, {{"_", "-"}});
    EXPECT_EQ(option.read(Good({"--" + dashes + "=" + option.value})), option.read_value);
  }
}

TEST(Config, TakesEachOptionFromTheEnvironment) {
  for (const OptionCase& option : Cases()) {
    const std::string variable = "CALLOUT_" + absl::AsciiStrToUpper(option.name);
    EXPECT_EQ(option.read(Good({}, {{variable, option.value}})), option.read_value) << variable;
    EXPECT_EQ(option.read(Good({}, {{variable, ""}})), option.default_value) << variable;
  }
}

TEST(Config, WarnsOfAVariableWhoseNameIsCloseToAnOptions) {
  EXPECT_THAT(Good({}, {{"CALLOUT_LOG_LEVL", "debug"}}).warnings,
              ElementsAre("environment variable CALLOUT_LOG_LEVL is not an option; did you mean "
                          "CALLOUT_LOG_LEVEL?"));
  const Config config = Good({}, {{"CALLOUT_log_level", "debug"}});
  EXPECT_THAT(config.warnings,
              ElementsAre("environment variable CALLOUT_log_level is not an option; did you mean "
                          "CALLOUT_LOG_LEVEL?"));
  EXPECT_EQ(config.log_level, LogLevel::kInfo);
}

TEST(Config, LeavesOthersVariablesAlone) {
  // What Kubernetes sets where there is a service of the name "callout".
  const Variables variables = {{"CALLOUT_PORT", "tcp://10.0.0.1:8443"},
                               {"CALLOUT_SERVICE_HOST", "10.0.0.1"},
                               {"CALLOUT_SERVICE_PORT", "8443"},
                               {"CALLOUT_SERVICE_PORT_GRPC", "8443"},
                               {"CALLOUT_PORT_8443_TCP_ADDR", "10.0.0.1"},
                               {"CALLOUT_PORT_8443_TCP_PROTO", "tcp"},
                               {"CALL", "debug"},
                               {"LOG_LEVEL", "debug"}};
  const Config config = Good({}, variables);
  EXPECT_THAT(config.warnings, IsEmpty());
  EXPECT_EQ(config.log_level, LogLevel::kInfo);
}

TEST(Config, TakesEachOptionFromAFile) {
  for (const OptionCase& option : Cases()) {
    const std::string dashes = absl::StrReplaceAll(option.name, {{"_", "-"}});
    for (const std::string& line :
         {option.name + " = " + option.value, option.name + "=" + option.value,
          option.name + " = \"" + option.value + "\"", dashes + " = '" + option.value + "'"}) {
      const ConfigFile file("# a comment\n\n; another\n" + line + "\n");
      EXPECT_EQ(option.read(Good({file.option()})), option.read_value) << line;
      EXPECT_EQ(option.read(Good({}, {{"CALLOUT_CONFIG", file.path()}})), option.read_value);
    }
  }
}

TEST(Config, CommandLineBeatsEnvironmentBeatsFile) {
  for (const OptionCase& option : Cases()) {
    if (option.third_value.empty()) continue;
    const std::string variable = "CALLOUT_" + absl::AsciiStrToUpper(option.name);
    const ConfigFile file(option.name + " = " + option.value + "\n");
    EXPECT_EQ(option.read(Good({file.option()}, {{variable, option.third_value}})),
              option.third_value)
        << option.name;
    EXPECT_EQ(option.read(Good({file.option(), "--" + option.name + "=" + option.third_value},
                               {{variable, option.value}})),
              option.third_value)
        << option.name;
  }
}

TEST(Config, SaysWhereEachValueInForceComesFrom) {
  const ConfigFile file("max_deferred = 5\n");
  const Config config = Good({file.option(), "--max_live_streams=7", "--plugin=a=x.so",
                              "--plugin=b=y.so", "--plugin_config=a=hunter2"},
                             {{"CALLOUT_LOG_LEVEL", "debug"}});
  std::vector<std::string> found;
  for (const OptionSet::Setting& setting : config.in_force) {
    EXPECT_EQ(setting.value.find("hunter2"), std::string::npos);
    if (setting.source != "default") {
      found.push_back(setting.name + "=" + setting.value + " of " + setting.source);
    }
  }
  EXPECT_THAT(found,
              ::testing::UnorderedElementsAre(
                  "config=" + file.path() + " of command line", "max_deferred=5 of " + file.path(),
                  "max_live_streams=7 of command line", "plugin=a=x.so of command line",
                  "plugin=b=y.so of command line", "plugin_config=a=… of command line",
                  "log_level=debug of environment CALLOUT_LOG_LEVEL"));
  const auto is_default = [](const OptionSet::Setting& setting) {
    return setting.name == "admin_writes" && setting.value == "off" && setting.source == "default";
  };
  EXPECT_EQ(std::count_if(config.in_force.begin(), config.in_force.end(), is_default), 1);
}

TEST(Config, ARepeatableOptionComesWhollyFromOneSource) {
  const ConfigFile file("plugin = /f1.so\nlog_level = error\nplugin = /f2.so\n");
  EXPECT_EQ(Text(Good({file.option()}).plugins), "[f1|/f1.so|][f2|/f2.so|]");
  const Variables variables = {{"CALLOUT_PLUGIN", "/e1.so\n/e2.so\n"}};
  EXPECT_EQ(Text(Good({file.option()}, variables).plugins), "[e1|/e1.so|][e2|/e2.so|]");
  EXPECT_EQ(Text(Good({file.option(), "--plugin=/c.so"}, variables).plugins), "[c|/c.so|]");
}

TEST(Config, TheLastOfAnOptionGivenTwiceCounts) {
  EXPECT_EQ(Good({"--log_level=debug", "--log_level=error"}).log_level, LogLevel::kError);
}

TEST(Config, SwitchesAreOnOffOrGivenAValue) {
  EXPECT_EQ(Text(Good({"--disable_tls"}).secure_address), "none");
  EXPECT_EQ(Text(Good({"--disable_tls=true"}).secure_address), "none");
  EXPECT_EQ(Text(Good({"--disable_tls=false"}).secure_address), "0.0.0.0:8443");
  EXPECT_EQ(Text(Good({"--disable-plaintext"}).plaintext_address), "none");
  EXPECT_EQ(Text(Good({"--combined_health_check"}).health_check_address), "none");
  EXPECT_TRUE(Good({"--secure_health_check"}).secure_health_check);
  EXPECT_TRUE(Good({"--watch_plugins"}).reload.watch_plugins);
  EXPECT_FALSE(Good({}).reload.watch_plugins);
  EXPECT_TRUE(Good({"--strict_plugins"}).reload.strict_plugins);
  EXPECT_FALSE(Good({}).reload.strict_plugins);
  EXPECT_TRUE(Good({"--check", "--strict"}).strict_check);
  EXPECT_EQ(Bad({"--strict"}), "--strict belongs to --check; give both, or --strict_plugins");
  EXPECT_EQ(Text(Good({}, {{"CALLOUT_DISABLE_TLS", "1"}}).secure_address), "none");
  EXPECT_EQ(Text(Good({"--disable_tls=0"}, {{"CALLOUT_DISABLE_TLS", "1"}}).secure_address),
            "0.0.0.0:8443");
  const ConfigFile file("disable_tls\nsecure_health_check = true\n");
  EXPECT_EQ(Text(Good({file.option()}).secure_address), "none");
  EXPECT_TRUE(Good({file.option()}).secure_health_check);
}

TEST(Config, NoHeaderNeedBeRedacted) {
  EXPECT_THAT(Good({"--log_redacted_headers=none"}).redacted_headers, IsEmpty());
}

TEST(Config, RecordingsLeaveOutWhatTheLogDoesAndTheDefaults) {
  const auto redacted = [](const std::vector<std::string>& arguments) {
    return absl::StrJoin(Good(arguments).record.redacted, ",");
  };
  const std::string defaults = absl::StrJoin(RedactedHeadersDefault(), ",");
  EXPECT_EQ(redacted({"--log_redacted_headers=none"}), defaults);
  EXPECT_EQ(redacted({"--log_redacted_headers=x-own,dpop"}), defaults + ",x-own");
  EXPECT_EQ(redacted({"--log_redacted_headers=x-own", "--record_redact=x-other"}), "x-other");
  EXPECT_EQ(redacted({"--record_redact=none"}), "");
}

TEST(Config, SizesOfRecordingsHaveShorterNames) {
  EXPECT_EQ(Good({"--record_max_bytes=65536"}).record.file_bytes_max, 65536u);
  EXPECT_EQ(Good({"--record_files=2"}).record.files, 2u);
}

TEST(Config, AdminMayBeOff) {
  EXPECT_EQ(Text(Good({"--admin_address=off"}).admin_address), "none");
  EXPECT_FALSE(Good({"--admin_address=127.0.0.1:9902"}).admin_address_is_default);
}

TEST(Config, CommandsComeFromTheCommandLineOnly) {
  EXPECT_EQ(Good({"--check"}).command, Config::Command::kCheck);
  EXPECT_EQ(Good({"--list-plugins"}).command, Config::Command::kCheck);
  EXPECT_EQ(Good({"--version"}).command, Config::Command::kPrint);
  EXPECT_THAT(Good({"--version"}).text, testing::MatchesRegex("callout-host [0-9.]+\n"));
  // The version of an image is often put there.
  EXPECT_EQ(Good({}, {{"CALLOUT_VERSION", "1.2.3"}}).command, Config::Command::kServe);
  const ConfigFile file("check = true\n");
  EXPECT_EQ(Bad({file.option()}),
            file.path() + ": unknown option 'check'; --help lists the options");
}

TEST(Config, HelpNamesEveryOptionWithItsDefault) {
  const std::string help = Good({"--help"}).text;
  for (const OptionCase& option : Cases()) EXPECT_THAT(help, HasSubstr("--" + option.name + " "));
  EXPECT_THAT(help, AllOf(HasSubstr("--secure_address ADDRESS=0.0.0.0:8443"),
                          HasSubstr("--hook_deadline_ms MS=150"), HasSubstr("--disable_tls ")));
}

// ---- plugins ----

// Old names of options, as UPGRADING.md lists them.
const std::map<std::string, std::string>& OldNames() {
  static const std::map<std::string, std::string> kNames = {
      {"connection_age_grace_ms", "max_connection_age_grace_ms"},
      {"connection_age_ms", "max_connection_age_ms"},
      {"connection_idle_ms", "max_connection_idle_ms"},
      {"connection_memory_bytes_max", "max_connection_memory_bytes"},
      {"server_thread_count", "server_threads"},
      {"stream_memory_bytes_max", "max_stream_memory_bytes"},
  };
  return kNames;
}

OptionCase CaseOf(const std::string& name) {
  for (const OptionCase& option : Cases()) {
    if (option.name == name) return option;
  }
  ADD_FAILURE() << name;
  return {};
}

TEST(OldNames, WorkOnTheCommandLineInTheEnvironmentAndInTheFile) {
  for (const auto& [old_name, name] : OldNames()) {
    const OptionCase option = CaseOf(name);
    const std::string argument = "--" + old_name + "=" + option.value;
    EXPECT_EQ(option.read(Good({argument})), option.read_value) << old_name;
    EXPECT_EQ(option.read(Good({"--" + old_name, option.value})), option.read_value) << old_name;
    EXPECT_EQ(option.read(Good({absl::StrReplaceAll(argument, {{"_", "-"}})})), option.read_value);
    const std::string variable = "CALLOUT_" + absl::AsciiStrToUpper(old_name);
    const Config from_environment = Good({}, {{variable, option.value}});
    EXPECT_EQ(option.read(from_environment), option.read_value) << variable;
    EXPECT_THAT(from_environment.warnings, IsEmpty());
    const ConfigFile file(old_name + " = " + option.value + "\n");
    EXPECT_EQ(option.read(Good({file.option()})), option.read_value) << old_name;
  }
}

TEST(OldNames, AreOneOptionWithTheNew) {
  for (const auto& [old_name, name] : OldNames()) {
    const OptionCase option = CaseOf(name);
    const std::string first = option.value, second = option.third_value;
    EXPECT_EQ(option.read(Good({"--" + old_name + "=" + first, "--" + name + "=" + second})),
              second);
    EXPECT_EQ(option.read(Good({"--" + name + "=" + first, "--" + old_name + "=" + second})),
              second);
    // In the environment, which has no order, the new name counts.
    const std::string old_variable = "CALLOUT_" + absl::AsciiStrToUpper(old_name);
    const std::string variable = "CALLOUT_" + absl::AsciiStrToUpper(name);
    EXPECT_EQ(option.read(Good({}, {{old_variable, first}, {variable, second}})), second);
    // Precedence of the sources is that of one option.
    EXPECT_EQ(option.read(Good({"--" + old_name + "=" + first}, {{variable, second}})), first);
    const ConfigFile file(name + " = " + second + "\n");
    EXPECT_EQ(option.read(Good({file.option()}, {{old_variable, first}})), first);
  }
}

TEST(OldNames, AreHiddenAndLeadToTheNew) {
  const std::string help = Good({"--help"}).text;
  for (const auto& [old_name, name] : OldNames()) {
    EXPECT_FALSE(std::regex_search(help, std::regex("--" + old_name + "\\b"))) << old_name;
    const OptionCase option = CaseOf(name);
    EXPECT_THAT(Good({"--" + old_name + "=" + option.value}).worker_options,
                ElementsAre("--" + name + "=" + option.value));
    EXPECT_EQ(Bad({"--" + old_name + "=x"}).substr(0, name.size() + 5), "--" + name + "=x:");
    EXPECT_EQ(Bad({"--" + old_name}), "--" + name + ": no value; expected --OPTION=VALUE");
    const std::string misspelled = old_name.substr(0, old_name.size() - 1);
    EXPECT_EQ(Bad({"--" + misspelled + "=1"}),
              "unknown option '--" + misspelled + "=…'; did you mean --" + name + "?");
  }
}

// One scheme: a limit is called max_X.
TEST(Config, NamesLimitsMaxFirst) {
  const std::string help = Good({"--help"}).text;
  const std::regex name("\n +--([a-z_]+)");
  for (std::sregex_iterator it(help.begin(), help.end(), name), end; it != end; ++it) {
    EXPECT_FALSE(std::regex_search((*it)[1].str(), std::regex("._max(_|$)|_limit$|_count$")) &&
                 (*it)[1] != "max_header_count")
        << (*it)[1];
  }
}

TEST(Config, PluginsAreNamedAfterTheirFileOrByHand) {
  EXPECT_EQ(Text(Good({"--plugin=/a/basic.so", "--plugin=two=/a/basic.so", "--plugin", "/c=d/e.so",
                       "--plugin=libx.so.1"})
                     .plugins),
            "[basic|/a/basic.so|][two|/a/basic.so|][e|/c=d/e.so|][libx.so.1|libx.so.1|]");
}

TEST(Config, PluginTextIsTakenAsItStands) {
  const std::string json = R"({"a": [1, 2], "b": "x,y # ; = z"})";
  const std::vector<std::string> plugins = {"--plugin=p=/p.so", "--plugin=q=/q.so"};
  for (const std::string& text :
       {json, std::string("[a, b]"), std::string("[]"), std::string("{}"), std::string("a b"),
        std::string("\"quoted\""), std::string(" "), std::string("-x"), std::string("--x"),
        std::string("%%"), std::string("true"), std::string("0x1")}) {
    std::vector<std::string> arguments = plugins;
    arguments.push_back("--plugin_config=p=" + text);
    arguments.push_back("--plugin_config");
    arguments.push_back("q=" + text);
    const Config config = Good(arguments);
    ASSERT_EQ(config.plugins.size(), 2U);
    EXPECT_EQ(config.plugins[0].config, text);
    EXPECT_EQ(config.plugins[1].config, text);
    EXPECT_EQ(Good(plugins, {{"CALLOUT_PLUGIN_CONFIG", "p=" + text}}).plugins[0].config, text);
  }
  const ConfigFile file("plugin = p=/p.so\nplugin_config = p=" + json + "\n");
  EXPECT_EQ(Good({file.option()}).plugins[0].config, json);
  const ConfigFile quoted("plugin = p=/p.so\nplugin_config = 'p=" + json + "'\n");
  EXPECT_EQ(Good({quoted.option()}).plugins[0].config, json);
}

TEST(Config, AnEmptyPluginTextIsAText) {
  EXPECT_EQ(Text(Good({"--plugin=p=/p.so", "--plugin_config", "p="}).plugins), "[p|/p.so|]");
}

TEST(Config, PluginTextMayBeInAFile) {
  const std::string text = "line one\nline two" + std::string(1, '\0') + "with a NUL\n";
  const ConfigFile file(text);
  const Config config = Good({"--plugin=p=/p.so", "--plugin_config=p=@" + file.path()});
  EXPECT_EQ(config.plugins[0].config, text);
}

TEST(Config, SettingsComeFromAFileAndThePolicyOptionBeatsThem) {
  const ConfigFile file(R"({"policy": "deny:503", "blocking": true})");
  const std::vector<std::string> arguments = {"--plugin=p=/p.so",
                                              "--plugin_settings=p=@" + file.path()};
  const InstanceSettings settings = Good(arguments).plugins[0].settings;
  EXPECT_EQ(settings.policy->action, ErrorPolicy::Action::kDeny);
  EXPECT_EQ(settings.policy->http_status, 503);
  EXPECT_EQ(settings.blocking, kAllPhases);
  std::vector<std::string> with_policy = arguments;
  with_policy.push_back("--on_plugin_error=p=continue");
  EXPECT_EQ(Good(with_policy).plugins[0].settings.policy->action, ErrorPolicy::Action::kContinue);
  EXPECT_EQ(Good(with_policy).plugins[0].settings.blocking, kAllPhases);
}

// ---- what is refused ----

constexpr char kAddressHint[] = "; expected IPV4:PORT, [IPV6]:PORT, localhost:PORT or unix:PATH";

// "option=value" and what is said of it.
std::vector<std::pair<std::string, std::string>> BadValues() {
  const std::string name_rule =
      " is not a valid plugin name; expected up to 128 letters, digits, '_', '-' and '.', the last "
      "two not first; give one as NAME=PATH";
  const std::string quarantine =
      "expected CRASHES/SECONDS with whole numbers from 0 to 1000 and from 1 to 86400, such as "
      "3/60; 0/60 for no quarantine";
  const std::string guard =
      "expected RATE/CALLS with a rate from 0 to 1 and a whole number up to 1000000, such as "
      "0.5/100; /0 for no guard";
  const auto host = [](const std::string& entry) {
    return "'" + entry +
           "' is no host; expected names or IP addresses, separated by commas, without a scheme, a "
           "path or *";
  };
  const std::string redacted =
      "expected header names separated by commas, such as authorization,cookie, or none";
  return {
      {"secure_address=8443", std::string("address '8443': no port") + kAddressHint},
      {"plaintext_address=:8080",
       std::string("address ':8080': no IP address; 0.0.0.0:8080 is every IPv4 address, "
                   "[::]:8080 every address") +
           kAddressHint},
      {"health_check_address=host:1",
       std::string("address 'host:1': 'host' is not an IPv4 address, and names other than "
                   "localhost are not looked up") +
           kAddressHint},
      {"admin_address=none", std::string("address 'none': no port") + kAddressHint},
      {"default_ip=example.com", "expected an IP address such as 0.0.0.0, 127.0.0.1 or ::"},
      {"default_ip=unix:/x", "expected an IP address such as 0.0.0.0, 127.0.0.1 or ::"},
      {"default_ip=1.2.3.4:5", "expected an IP address such as 0.0.0.0, 127.0.0.1 or ::"},
      {"disable_tls=maybe", "expected true or false"},
      {"disable_plaintext=maybe", "expected true or false"},
      {"secure_health_check=maybe", "expected true or false"},
      {"combined_health_check=2", "expected true or false"},
      {"server_threads=1025", "expected a whole number from 0 to 1024"},
      {"server_threads=-1", "expected a whole number from 0 to 1024"},
      {"hook_deadline_ms=0", "expected a whole number from 1 to 2147483647"},
      {"body_wait_ms=0", "expected a whole number from 1 to 2147483647"},
      {"max_queued_bytes=0", "expected a whole number from 1 to 1099511627776"},
      {"max_queued_messages=0", "expected a whole number from 1 to 2147483647"},
      {"max_sent_bytes=1", "expected a whole number from 1024 to 1099511627776"},
      {"envoy_mode_override=yes", "expected unknown, allowed, ignored"},
      {"early_end=true", "expected on, off"},
      {"metadata_controls=allow", "expected refuse, pass"},
      {"phase_pruning=yes", "expected on, off"},
      {"services=http",
       "expected ext_proc, ext_authz, ratelimit or network_ext_proc, or several with commas "
       "between "
       "them"},
      {"core_dumps=maybe", "expected auto, on, off"},
      {"admin_writes=maybe", "expected off, on"},
      {"defer_budget_ms=1.5", "expected a whole number from 0 to 2147483647"},
      {"max_deferred=many", "expected a whole number from 0 to 2147483647"},
      {"blocking_threads=0", "expected a whole number from 1 to 1024"},
      {"max_message_bytes=1023", "expected a whole number from 1024 to 2147483647"},
      {"max_message_bytes=16M", "expected a whole number from 1024 to 2147483647"},
      {"max_stream_memory_bytes=1", "expected a whole number from 1024 to 1099511627776"},
      {"max_header_count=0", "expected a whole number from 1 to 2147483647"},
      {"max_header_bytes=0", "expected a whole number from 1024 to 2147483647"},
      {"max_connections=+1", "expected a whole number from 0 to 2147483647"},
      {"max_concurrent_streams=0", "expected a whole number from 1 to 2147483647"},
      {"max_live_streams=0", "expected a whole number from 1 to 2147483647"},
      {"max_metadata_bytes=1", "expected a whole number from 1024 to 2147483647"},
      {"handshake_timeout_ms=0", "expected a whole number from 1 to 2147483647"},
      {"max_connection_idle_ms=99999999999", "expected a whole number from 0 to 2147483647"},
      {"max_connection_age_ms= 1", "expected a whole number from 0 to 2147483647"},
      {"max_connection_age_grace_ms=0x10", "expected a whole number from 0 to 2147483647"},
      {"drain_delay_ms=1s", "expected a whole number from 0 to 2147483647"},
      {"drain_timeout_ms=99999999999999999999", "expected a whole number from 0 to 2147483647"},
      {"log_level=loud", "expected debug, info, warning or error"},
      {"transport=http3", "expected nghttp2 or grpc"},
      {"first_message_timeout_ms=-1", "expected a whole number from 0 to 2147483647"},
      {"stream_idle_timeout_ms=1h", "expected a whole number from 0 to 2147483647"},
      {"max_stream_duration_ms=x", "expected a whole number from 0 to 2147483647"},
      {"max_connection_memory_bytes=1", "expected a whole number from 1024 to 2147483647"},
      {"max_header_block_bytes=1", "expected a whole number from 1024 to 2147483647"},
      {"max_control_frames=-1", "expected a whole number from 0 to 2147483647"},
      {"max_unanswered_resets=x", "expected a whole number from 0 to 2147483647"},
      {"max_connections_per_peer=x", "expected a whole number from 0 to 2147483647"},
      {"memory_budget_bytes=1000",
       "expected 0, or a whole number from 16777216 to 281474976710656"},
      {"max_turn_messages=0", "expected a whole number from 1 to 2147483647"},
      {"max_turn_handshakes=0", "expected a whole number from 1 to 2147483647"},
      {"max_timer_threads=0", "expected a whole number from 1 to 1024"},
      {"max_timers=x", "expected a whole number from 0 to 2147483647"},
      {"max_calls=x", "expected a whole number from 0 to 2147483647"},
      {"max_trace_bytes=x", "expected a whole number from 0 to 2147483647"},
      {"upstreams=/nowhere/upstreams.json", "No such file or directory"},
      {"max_shared_data_bytes=x", "expected a whole number from 0 to 1099511627776"},
      {"max_shared_data_keys=x", "expected a whole number from 0 to 2147483647"},
      {"shadow_threads=65", "expected a whole number from 1 to 64"},
      {"max_shadow_exchanges=0", "expected a whole number from 1 to 2147483647"},
      {"max_shadow_bytes=x", "expected a whole number from 0 to 1099511627776"},
      {"max_shadow_exchange_bytes=x", "expected a whole number from 0 to 1099511627776"},
      {"max_shared_data_value_bytes=7", "expected a whole number from 8 to 1099511627776"},
      {"record_percent=0", "expected a number above 0 and up to 100"},
      {"record_bodies=perhaps", "expected off, on"},
      {"record_redact=a,,b", redacted},
      {"max_record_bytes=65535", "expected a whole number from 65536 to 1099511627776"},
      {"max_record_files=0", "expected a whole number from 1 to 1000"},
      {"max_record_queue_bytes=1", "expected a whole number from 65536 to 1099511627776"},
      {"max_record_exchange_bytes=1", "expected a whole number from 4096 to 33554432"},
      {"admin_hosts=https://a.example", host("https://a.example")},
      {"admin_hosts=a.example/x", host("a.example/x")},
      {"admin_hosts=a,*.example", host("*.example")},
      {"admin_hosts=a b", host("a b")},
      {"admin_hosts=a,,b", host("")},
      {"admin_hosts=a:b", host("a:b")},
      {"max_admin_pages=0", "expected a whole number from 1 to 10000"},
      {"max_explained=0", "expected a whole number from 1 to 10000"},
      {"max_handshake_percent=0", "expected a whole number from 1 to 100"},
      {"max_handshake_percent=101", "expected a whole number from 1 to 100"},
      {"max_message_fields=99", "expected a whole number from 100 to 2147483647"},
      {"max_live_streams_per_peer=x", "expected a whole number from 0 to 2147483647"},
      {"max_live_streams_per_connection=x", "expected a whole number from 0 to 2147483647"},
      {"first_message_timeout_ms=1s", "expected a whole number from 0 to 2147483647"},
      {"stream_idle_timeout_ms=1h", "expected a whole number from 0 to 2147483647"},
      {"max_stream_duration_ms=-1", "expected a whole number from 0 to 2147483647"},
      {"reflection=maybe", "expected on or off"},
      {"log_format=xml", "expected text or json"},
      {"log_redacted_headers=a,,b", redacted},
      {"log_redacted_headers=a b", redacted},
      {"watch_plugins=perhaps", "expected true or false"},
      {"strict_plugins=perhaps", "expected true or false"},
      {"require_plugins=some", "expected auto, all or none"},
      {"max_generations=0", "expected a whole number from 1 to 1000000"},
      {"max_generations=1000001", "expected a whole number from 1 to 1000000"},
      {"plugin_permissions=lax", "expected strict, warn or off"},
      {"plugin_keys=/nowhere/key.pub", "cannot read /nowhere/key.pub: No such file or directory"},
      {"max_plugin_file_bytes=4095", "expected a whole number from 4096 to 1073741824"},
      {"max_plugin_file_bytes=1073741825", "expected a whole number from 4096 to 1073741824"},
      {"plugin_create_timeout_ms=0", "expected a whole number from 1 to 2147483647"},
      {"unix_socket_mode=0888", "expected permissions in octal from 0 to 0777, such as 0660"},
      {"unix_socket_mode=1777", "expected permissions in octal from 0 to 0777, such as 0660"},
      {"unix_socket_mode=rw", "expected permissions in octal from 0 to 0777, such as 0660"},
      {"reload_guard=0.5", guard},
      {"reload_guard=1.1/100", guard},
      {"reload_guard=nan/100", guard},
      {"reload_guard=0.5/1000001", guard},
      {"quarantine_retry_ms=-1", "expected a whole number from 0 to 3600000"},
      {"quarantine_retry_ms=3600001", "expected a whole number from 0 to 3600000"},
      {"max_log_queue_bytes=65535", "expected a whole number from 65536 to 2147483647"},
      {"watchdog_ms=-1", "expected a whole number from 0 to 86400000"},
      {"watchdog_ms=86400001", "expected a whole number from 0 to 86400000"},
      {"workers=-1", "expected a whole number from 0 to 256"},
      {"workers=257", "expected a whole number from 0 to 256"},
      {"quarantine=3", quarantine},
      {"quarantine=/60", quarantine},
      {"quarantine=3/0", quarantine},
      {"quarantine=1001/60", quarantine},
      {"quarantine=3/86401", quarantine},
      {"plugin=a=", "no path after the name; expected [NAME=]PATH"},
      {"plugin=a b=/x.so", "'a b'" + name_rule},
      {"plugin==/x.so", "''" + name_rule},
      {"plugin=/x/.so", "''" + name_rule},
      {"plugin_settings=p", "no plugin name before the text; expected NAME=@FILE"},
      {"plugin_settings=p={}", "no @FILE after the name; expected NAME=@FILE"},
      {"on_plugin_error=continue",
       "no plugin name before the text; expected NAME=fail, NAME=continue or "
       "NAME=deny[:STATUS]"},
      {"on_plugin_error=p=retry",
       "invalid policy 'retry'; expected fail, continue, deny or deny:STATUS with a status from "
       "200 "
       "to 599"},
  };
}

TEST(Config, RefusesBadValuesSayingWhatIsExpected) {
  for (const auto& [option, message] : BadValues()) {
    EXPECT_EQ(Bad({"--" + option}), fmt::format("--{}: {}", option, message));
    const size_t equals = option.find('=');
    const std::string name = option.substr(0, equals), value = option.substr(equals + 1);
    const std::string variable = "CALLOUT_" + absl::AsciiStrToUpper(name);
    EXPECT_EQ(Bad({}, {{variable, value}}), fmt::format("{}={}: {}", variable, value, message));
    if (value.front() == ' ') continue;  // blanks around a value in a file do not count
    const ConfigFile file(fmt::format("{} = {}\n", name, value));
    EXPECT_EQ(Bad({file.option()}),
              fmt::format("{}: {} = {}: {}", file.path(), name, value, message));
  }
}

TEST(Config, HostsOfTheAdminListenerHaveNoBlanks) {
  EXPECT_THAT(Good({"--admin_hosts= a.example , b_c:9902,10.0.0.1,::1,[::1]:9902 "}).admin_hosts,
              ElementsAre("a.example", "b_c:9902", "10.0.0.1", "::1", "[::1]:9902"));
  for (const char* entry : {"[::1", "[::1]x", "[a]", "[]", "::g", ":9902", "a:", "a:99999"}) {
    EXPECT_THAT(Bad({std::string("--admin_hosts=") + entry}), ::testing::HasSubstr("is no host"))
        << entry;
  }
}

// A header that it names may carry somebody's credential. Workers get it all the same.
TEST(Config, TheMatchOfRecordingsIsNotShown) {
  const std::string match = "header=authorization:s3cr3t";
  const Config config = Good({"--record_match=" + match});
  EXPECT_EQ(config.record.match, match);
  EXPECT_THAT(config.worker_options, ::testing::Contains("--record_match=" + match));
  for (const OptionSet::Setting& setting : config.in_force) {
    EXPECT_THAT(setting.value, ::testing::Not(::testing::HasSubstr("s3cr3t"))) << setting.name;
  }
  EXPECT_EQ(Bad({"--record_match=path=/a"}),
            "--record_match=path=…: path: expected one of the keys path_prefix, host, method, "
            "header");
}

TEST(Config, PrintsAConfigurationOrChecksOne) {
  const Config print = Good({"--print_config=envoy-gateway"});
  EXPECT_EQ(print.command, Config::Command::kPrintConfig);
  EXPECT_EQ(print.deploy.print, DeployTarget::kEnvoyGateway);
  const Config doctor = Good({"--doctor=envoy.yaml"});
  EXPECT_EQ(doctor.command, Config::Command::kDoctor);
  EXPECT_EQ(doctor.deploy.doctor_file, "envoy.yaml");
  EXPECT_EQ(Bad({"--print_config=nginx"}),
            "--print_config=nginx: expected envoy, envoy-gateway, istio, kgateway, agentgateway, "
            "gke, gcloud");
  EXPECT_EQ(Good({"--print_manifest", "--plugin=a.so"}).command, Config::Command::kManifest);
  EXPECT_EQ(Bad({"--print_manifest", "--plugins_dir=a"}),
            "--print_manifest: no plugin is given; give --plugin=PATH");
  EXPECT_EQ(Bad({"--check", "--doctor=envoy.yaml"}),
            "--check, --doctor are different commands; give only one of them");
}

TEST(Config, GrpcIsRefusedByABuildWithoutIt) {
  if (HasGrpcTransport()) GTEST_SKIP() << "this build has gRPC C++";
  EXPECT_THAT(Bad({"--transport=grpc"}), ::testing::HasSubstr("has no gRPC C++"));
}

// A new option comes with what it refuses.
TEST(Config, RefusesABadValueOfEveryOption) {
  // Any text will do for a path; what is not there is found out when it is read, and is for
  // tests/integration/start_test.cc and tests/reload/. Commands take no value.
  std::set<std::string> known = {"cert_chain_path", "private_key_path", "client_ca_path",
                                 "plugins_dir",     "config",           "check",
                                 "list_plugins",    "version",          "help",
                                 "plugin_config",   "record_match",     "probe",
                                 "strict",          "doctor",           "print_config",
                                 "print_manifest",  "explain_key",      "state_dir",
                                 "record",          "record_dir"};
  for (const auto& [option, message] : BadValues())
    known.insert(option.substr(0, option.find('=')));
  const std::string help = Good({"--help"}).text;
  const std::regex name("\n +--([a-z_]+)");
  size_t count = 0;
  for (std::sregex_iterator it(help.begin(), help.end(), name), end; it != end; ++it, ++count) {
    EXPECT_TRUE(known.contains((*it)[1])) << (*it)[1];
  }
  EXPECT_GE(count, 45U);
}

TEST(Config, RefusesAPlaceForRecordingsThatIsNotThere) {
  for (const char* option : {"--record=/nowhere/a.rec", "--record_dir=/nowhere"}) {
    EXPECT_EQ(Bad({option}), std::string(option) +
                                 ": no file can be created in /nowhere: No such file or directory");
  }
  EXPECT_EQ(Bad({"--record_dir=/dev/null"}),
            "--record_dir=/dev/null: no file can be created in /dev/null: it is no directory");
}

TEST(Config, RefusesUnknownOptionsAndArguments) {
  const std::string hint = "; --help lists the options";
  EXPECT_EQ(Bad({"--bogus"}), "unknown option '--bogus'" + hint);
  EXPECT_EQ(Bad({"--bogus=1"}), "unknown option '--bogus=…'" + hint);
  EXPECT_EQ(Bad({"word"}), "unexpected argument 'word'" + hint);
  EXPECT_EQ(Bad({"--plugin", "/a.so", "/b.so"}), "unexpected argument '/b.so'" + hint);
  EXPECT_EQ(Bad({"--disable_tls", "true"}), "unexpected argument 'true'" + hint);
  EXPECT_EQ(Bad({"-p"}), "unknown option '-p'" + hint);
  EXPECT_EQ(Bad({"--", "x"}), "unexpected argument '--'" + hint);
}

TEST(Config, SuggestsTheOptionThatWasMisspelled) {
  EXPECT_EQ(Bad({"--secureaddress=127.0.0.1:1"}),
            "unknown option '--secureaddress=…'; did you mean "
            "--secure_address?");
  EXPECT_EQ(Bad({"--plugn=/a.so"}), "unknown option '--plugn=…'; did you mean --plugin?");
  EXPECT_EQ(Bad({"--chek"}), "unknown option '--chek'; did you mean --check?");
}

TEST(Config, RefusesAnOptionWithoutItsValue) {
  EXPECT_EQ(Bad({"--plugin"}), "--plugin: no value; expected --OPTION=VALUE");
  EXPECT_EQ(Bad({"--plugin="}), "--plugin=: no value; expected --OPTION=VALUE");
  EXPECT_EQ(Bad({"--plugin", "--check"}), "--plugin: no value; expected --OPTION=VALUE");
  EXPECT_EQ(Bad({"--plugin=", "x"}), "--plugin=: no value; expected --OPTION=VALUE");
  EXPECT_EQ(Bad({"--client_ca_path", ""}), "--client_ca_path: no value; expected --OPTION=VALUE");
}

// As a template writes it whose variable is not set. A default in its place may be less safe.
TEST(Config, RefusesALineOfTheFileWithoutItsValue) {
  for (const std::string name : {"client_ca_path", "record_dir", "disable_tls", "admin_hosts"}) {
    for (const char* value : {"", " ", " ''", " \"\""}) {
      const ConfigFile file(fmt::format("{} ={}\nlog_level = debug\n", name, value));
      EXPECT_EQ(Bad({file.option()}),
                fmt::format("{}: {}: no value; expected a line name = value, or none", file.path(),
                            name));
    }
  }
  const ConfigFile among("plugin = /p.so\nplugin =\nplugin = /q.so\n");
  EXPECT_THAT(Bad({among.option()}), HasSubstr("plugin: no value"));
}

TEST(Config, RefusesABadFile) {
  EXPECT_EQ(Bad({"--config=/nonexistent"}),
            "cannot read the options from /nonexistent: No such file or directory");
  EXPECT_EQ(Bad({"--config=/"}),
            "cannot read the options from /: it is a directory, not a regular file");
  const ConfigFile unknown("log_lvl = debug\n");
  EXPECT_EQ(Bad({unknown.option()}),
            unknown.path() + ": unknown option 'log_lvl'; did you mean log_level?");
  const ConfigFile command("chek = true\n");  // --check may not stand there
  EXPECT_EQ(Bad({command.option()}),
            command.path() + ": unknown option 'chek'; --help lists the options");
  const ConfigFile section("[server]\nlog_level = debug\n");
  EXPECT_EQ(Bad({section.option()}),
            section.path() + ": section [server]: expected only lines of the form name = value");
  const ConfigFile nested("config = /other\n");
  EXPECT_EQ(Bad({nested.option()}),
            nested.path() + ": unknown option 'config'; --help lists the options");
}

TEST(Config, RefusesPluginsOfOneName) {
  EXPECT_EQ(Bad({"--plugin=/a/basic.so", "--plugin=/b/basic.so"}),
            "--plugin=/b/basic.so: another plugin is named 'basic', from "
            "/a/basic.so; give this one a different name as NAME=PATH");
}

TEST(Config, RefusesOptionsForUnknownPlugins) {
  EXPECT_EQ(Bad({"--plugin_config=p=x"}),
            "--plugin_config: no --plugin is named 'p'; expected a "
            "--plugin");
  EXPECT_EQ(Bad({"--plugin=/q.so", "--plugin_settings=p=@/x"}),
            "--plugin_settings: no --plugin is named 'p'; expected q");
  EXPECT_EQ(Bad({"--plugin=/q.so", "--plugin=/r.so", "--on_plugin_error=p=fail"}),
            "--on_plugin_error: no --plugin is named 'p'; expected q, r");
}

TEST(Config, RefusesTwoTextsForOnePlugin) {
  EXPECT_EQ(Bad({"--plugin=/p.so", "--plugin_config=p=a", "--plugin_config=p=b"}),
            "--plugin_config=p=…: plugin 'p' already has one; expected one for each "
            "plugin");
}

TEST(Config, RefusesPluginFilesThatCannotBeRead) {
  EXPECT_EQ(Bad({"--plugin=/p.so", "--plugin_config=p=@/nonexistent"}),
            "--plugin_config=p: cannot read /nonexistent: No such file or directory");
  const ConfigFile bad("{\"polic\": 1}");
  EXPECT_EQ(Bad({"--plugin=/p.so", "--plugin_settings=p=@" + bad.path()}),
            "--plugin_settings=p=@" + bad.path() +
                ": unknown key \"polic\"; expected policy, too_large, match, max_whole_body_bytes, "
                "blocking, disabled, watch, endless_body, leave_responses, drain, "
                "mode, instead_of, percent, by_header or canary");
}

TEST(Config, RefusesBothListenersOff) {
  EXPECT_EQ(Bad({"--disable_tls", "--disable_plaintext"}),
            "--disable_tls and --disable_plaintext leave nothing to listen on; give only one of "
            "them");
}

TEST(Config, RefusesHalfOfAKeyPair) {
  EXPECT_EQ(Bad({"--cert_chain_path=/c"}),
            "--cert_chain_path=/c without --private_key_path; give both");
  EXPECT_EQ(Bad({"--private_key_path=/k"}),
            "--private_key_path=/k without --cert_chain_path; give both");
}

TEST(Config, RefusesContradictions) {
  EXPECT_EQ(Bad({"--client_ca_path=/ca", "--disable_tls"}),
            "--client_ca_path=/ca has no effect with --disable_tls; give only one of them");
  EXPECT_EQ(Bad({"--secure_health_check", "--combined_health_check"}),
            "--secure_health_check and --combined_health_check: there is no health listener to "
            "secure; give only one of them");
}

TEST(Config, RefusesOneAddressForTwoListeners) {
  EXPECT_EQ(Bad({"--secure_address=0.0.0.0:8080"}),
            "--secure_address and --plaintext_address are both 0.0.0.0:8080; give each listener "
            "its own address");
  EXPECT_EQ(Bad({"--health_check_address=unix:/x", "--admin_address=unix:///x"}),
            "--health_check_address and --admin_address are both unix:/x; give each listener "
            "its own address");
  Good({"--secure_address=127.0.0.1:0", "--plaintext_address=127.0.0.1:0"});
  Good({"--disable_tls", "--secure_address=0.0.0.0:8080"});
}

// --- Secrets ---

TEST(Config, ErrorsDoNotQuoteAPluginsConfiguration) {
  const std::string wrong = ": no plugin name before the text; expected NAME=TEXT or NAME=@FILE";
  EXPECT_EQ(Bad({"--plugin_config={s3cr3t"}), "--plugin_config=…" + wrong);
  EXPECT_EQ(Bad({}, {{"CALLOUT_PLUGIN_CONFIG", "{s3cr3t"}}), "CALLOUT_PLUGIN_CONFIG=…" + wrong);
  const ConfigFile file("plugin_config = {s3cr3t\n");
  EXPECT_EQ(Bad({file.option()}), file.path() + ": plugin_config = …" + wrong);
  EXPECT_THAT(Bad({"--plugin_config=p=s3cr3t", "--plugin_config=p=s3cr3t"}),
              ::testing::StartsWith("--plugin_config=p=…: "));
  for (const std::string& said :
       {Bad({"--plugin_confg=p={\"key\": \"s3cr3t\"}"}), Bad({"--plugin_config=p=x", "s3cr3t"}),
        Bad({"p={\"key\": \"s3cr3t\"}"}),
        Bad({ConfigFile("plugin_config = p={\n\"key\": \"s3cr3t\" = 1\n}\n").option()})}) {
    EXPECT_THAT(said, ::testing::Not(HasSubstr("s3cr3t")));
  }
}

TEST(Config, WarnsOfSecretsOnTheCommandLineOnly) {
  const std::string value = R"(p={"api_key": "x"})";
  EXPECT_THAT(Good({"--plugin=/p.so", "--plugin_config=" + value}).warnings,
              ElementsAre(HasSubstr("what looks like a secret on the command line")));
  EXPECT_THAT(Good({"--plugin=/p.so"}, {{"CALLOUT_PLUGIN_CONFIG", value}}).warnings, IsEmpty());
  EXPECT_THAT(Good({"--plugin=/p.so", R"(--plugin_config=p={"path": "/x"})"}).warnings, IsEmpty());
}

// --- Plaintext beside client certificates ---

TEST(Config, RefusesClientCertificatesBesideTheDefaultPlaintextListener) {
  EXPECT_EQ(Bad({"--client_ca_path=/ca"}),
            "--client_ca_path=/ca checks the clients of the secure listener, and the plaintext "
            "listener on its default address 0.0.0.0:8080 serves anybody; give "
            "--disable_plaintext, or --plaintext_address if that is meant");
  EXPECT_NE(Bad({"--client_ca_path=/ca", "--default_ip=::"}), "");
}

TEST(Config, WarnsOfPlaintextThatIsMeantBesideClientCertificates) {
  for (const char* meant : {"--plaintext_address=0.0.0.0:8080", "--plaintext_address=[::1]:1",
                            "--plaintext_address=unix:/x", "--default_ip=127.0.0.1"}) {
    EXPECT_THAT(Good({"--client_ca_path=/ca", meant}).warnings,
                ElementsAre(HasSubstr("plaintext listener")))
        << meant;
  }
  const Config config = Good({"--client_ca_path=/ca a", "--disable_plaintext"});
  EXPECT_THAT(config.warnings, IsEmpty());
  EXPECT_EQ(config.client_ca_path, "/ca a");
}

TEST(Config, LongValuesAreCutInErrors) {
  EXPECT_LT(Bad({"--plugin_config=" + std::string(100000, 'x')}).size(), 400U);
  EXPECT_LT(Bad({std::string(100000, 'x')}).size(), 400U);
}

TEST(WorkerOptions, GiveAWorkerTheSameConfigurationButForPlugins) {
  const ConfigFile file("max_deferred = 7\nlog_format = json\n");
  const Config config = Good(
      {file.option(), "--plugin=p=p.so", "--plugin_config=p=text", "--on_plugin_error=p=continue",
       "--hook-deadline-ms=70", "--disable_tls", "--workers=2", "--check"},
      {{"CALLOUT_MAX_DEFERRED", "8"}, {"CALLOUT_DEFAULT_IP", "127.0.0.1"}});
  EXPECT_THAT(config.worker_options,
              ::testing::UnorderedElementsAre("--workers=2", "--default_ip=127.0.0.1",
                                              "--disable_tls=true", "--hook_deadline_ms=70",
                                              "--max_deferred=8", "--log_format=json"));
  const Config again = Good(config.worker_options);
  EXPECT_EQ(again.command, Config::Command::kServe);
  EXPECT_THAT(again.plugins, IsEmpty());
  EXPECT_FALSE(again.secure_address.has_value());
  EXPECT_EQ(again.plaintext_address->ToString(), config.plaintext_address->ToString());
  EXPECT_EQ(again.stream_limits.hook_deadline_ms, 70u);
  EXPECT_EQ(again.stream_limits.deferred_max, 8u);
  EXPECT_EQ(again.log_format, LogFormat::kJson);
}

}  // namespace
}  // namespace callout::host
