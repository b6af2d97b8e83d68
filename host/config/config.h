// What the operator asked for: the host's options, read from the command line,
// the environment (CALLOUT_…) and a file, checked against each other, with the
// files that they name for plugins read.
//
//   absl::StatusOr<Config> config = ParseConfig(argc, argv, environ);
//
// `callout-host --help` says what each option means and its default, which is
// also the one here. Plain values; copy them, read them from any thread.
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
#include "host/config/options.h"
#include "host/config/reload_options.h"
#include "host/config/transport_options.h"
#include "host/net/address.h"
#include "host/plugin/call_log.h"
#include "host/plugin/settings.h"
#include "host/stream/stream_environment.h"

namespace callout::host {

struct Config {
  enum class Command : uint8_t {
    kServe,
    kCheck,  // load and validate everything, print it, serve nothing
    kPrint,  // print `text`
  };
  Command command = Command::kServe;
  bool strict_check = false;  // with kCheck: a warning is a failure
  std::string text;           // --help and --version

  // In chain order; those of the directories come after them.
  std::vector<PluginConfig> plugins;
  ReloadConfig reload;
  ContainmentConfig containment;
  TransportConfig transport;
  // What may be a mistake, each in a line for the log.
  std::vector<std::string> warnings;
  // Gives a worker all of this but for the plugins, which it is told.
  std::vector<std::string> worker_options;

  // Unset: no such listener.
  std::optional<Address> secure_address;
  std::optional<Address> plaintext_address;
  std::optional<Address> health_check_address;
  std::optional<Address> admin_address;
  // Nobody asked for the admin listener, so it may be missing if its port is taken.
  bool admin_address_is_default = true;

  std::string cert_chain_path;  // "": a self-signed certificate
  std::string private_key_path;
  std::string client_ca_path;  // "": clients need no certificate
  bool secure_health_check = false;

  TransportLimits limits;
  StreamLimits stream_limits;

  size_t connections_max = 10000;  // of the secure and plaintext listeners together; 0: any

  uint64_t drain_delay_ms = 0;
  uint64_t drain_timeout_ms = 10000;

  LogLevel log_level = LogLevel::kInfo;
  LogFormat log_format = LogFormat::kText;
  std::vector<std::string> redacted_headers = RedactedHeadersDefault();  // lower case
};

// INVALID_ARGUMENT in one line: the option as it was given, what is wrong with
// it, what is expected.
absl::StatusOr<Config> ParseConfig(int argc, const char* const* argv,
                                   OptionSet::Environment environment);

}  // namespace callout::host

#endif  // CALLOUT_HOST_CONFIG_CONFIG_H_
