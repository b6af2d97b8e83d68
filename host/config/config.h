// SPDX-License-Identifier: Apache-2.0

// The host's configuration: reads the options from the command line, the environment (CALLOUT_…)
// and a file, checks them against each other, and reads the plugins' text files.
//
//   absl::StatusOr<Config> config = ParseConfig(argc, argv, environ);
//
// `callout-host --help` and docs/options.md describe each option. The defaults are those of this
// struct. Plain values; any thread may read them.
#ifndef CALLOUT_HOST_CONFIG_CONFIG_H_
#define CALLOUT_HOST_CONFIG_CONFIG_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "host/base/log.h"
#include "host/config/containment_options.h"
#include "host/config/deploy_options.h"
#include "host/config/options.h"
#include "host/config/reload_options.h"
#include "host/config/transport_options.h"
#include "host/explain/explainer.h"
#include "host/net/address.h"
#include "host/plugin/call_log.h"
#include "host/plugin/settings.h"
#include "host/record/recorder.h"
#include "host/shadow/shadow_exchange.h"
#include "host/stream/stream_environment.h"
#include "host/telemetry/otlp_config.h"

namespace callout::host {

struct Config {
  enum class Command : uint8_t {
    kServe,
    kCheck,        // load and validate everything, print it, serve nothing
    kProbe,        // ask the health listener of a host with the same options
    kPrint,        // print `text`
    kPrintConfig,  // print what `deploy.print` needs for these plugins
    kManifest,     // print what the files of --plugin are
    kDoctor,       // check `deploy.doctor_file` against these plugins
  };
  Command command = Command::kServe;
  bool strict_check = false;  // with kCheck: a warning is a failure
  std::string text;           // --help and --version

  // In chain order; the plugins of directories come after these.
  std::vector<PluginConfig> plugins;
  ReloadConfig reload;
  ContainmentConfig containment;
  TransportConfig transport;
  DeployConfig deploy;
  // Likely mistakes, one line each, for the log.
  std::vector<std::string> warnings;
  // Arguments that give a worker the same configuration, without the plugins.
  std::vector<std::string> worker_options;

  // Every option with its value and where it came from, for people; no secrets.
  std::vector<OptionSet::Setting> in_force;
  // By OpenTelemetry's variables, which are no options of this host.
  OtlpConfig traces;

  // Unset: no such listener.
  std::optional<Address> secure_address;
  std::optional<Address> plaintext_address;
  std::optional<Address> health_check_address;
  std::optional<Address> admin_address;
  // The admin listener was not asked for, so the host runs without it if its port is in use.
  bool admin_address_is_default = true;
  std::vector<std::string> admin_hosts;  // allowed in the Host header of requests for admin pages
  bool admin_writes = false;             // admin pages may change something
  uint32_t admin_pages_max = 32;         // slow ones under way; actions count apart
  std::optional<unsigned> unix_socket_mode;  // unset: by the umask

  std::string cert_chain_path;  // "": a self-signed certificate
  std::string private_key_path;
  std::string client_ca_path;  // "": clients need no certificate
  bool secure_health_check = false;

  TransportLimits limits;
  ShadowLimits shadow;
  StreamLimits stream_limits;

  size_t connections_max = 10000;  // of the secure and plaintext listeners together; 0: no limit

  // Longer than usual health checks need to see a drain: two of them, a second apart.
  uint64_t drain_delay_ms = 5000;
  uint64_t drain_timeout_ms = 10000;

  bool core_dumps = true;  // as it is to be: false if --core_dumps=auto means off

  LogLevel log_level = LogLevel::kInfo;
  LogFormat log_format = LogFormat::kText;
  size_t log_queue_bytes_max = kLogQueueBytesDefault;
  std::string explain_key;  // "": no header marks an exchange
  size_t explained_max = kExplainedDefault;
  std::vector<std::string> redacted_headers = RedactedHeadersDefault();  // lower case
  RecordConfig record;
};

// INVALID_ARGUMENT in one line: the option and its value, what is wrong with it, and
// what is expected.
absl::StatusOr<Config> ParseConfig(int argc, const char* const* argv,
                                   OptionSet::Environment environment);

}  // namespace callout::host

#endif  // CALLOUT_HOST_CONFIG_CONFIG_H_
