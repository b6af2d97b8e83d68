// SPDX-License-Identifier: Apache-2.0

#include "host/client/client_options.h"

#include <fmt/format.h>

#include <climits>
#include <utility>

#include "absl/strings/numbers.h"
#include "host/base/file.h"
#include "host/base/status_text.h"
#include "host/config/option_kinds.h"
#include "host/config/options.h"
#include "host/net/certificate.h"

namespace callout::host {
namespace {

constexpr char kDescription[] =
    "Sends ProcessingRequests on one stream to an ext_proc server at ADDRESS and prints each\n"
    "response as a line of JSON; or, with an RPC for each, CheckRequests to an ext_authz server\n"
    "(--service=check) or RateLimitRequests to a rate limit server (--service=ratelimit).\n"
    "ADDRESS is HOST:PORT, [IPV6]:PORT or unix:PATH.\n"
    "\n"
    "Exit code: 0 every message was answered, an immediate response ended the exchange, or the\n"
    "server ended the stream early with OK, which is printed;\n"
    "1 the stream ended with an error, which is printed; 2 invalid arguments, files or JSON;\n"
    "3 no connection; 4 the stream ended with OK, but without any response.";

constexpr char kMessages[] = "Messages";
constexpr char kConnection[] = "Connection";
constexpr char kOther[] = "Other";

struct Draft {
  ClientConfig config;
  std::string cert, client_cert, client_key;
  std::vector<std::string> data;
  bool help = false, version = false;
};

// gRPC would take a name without a port for one of HTTPS's, and wait for it.
absl::Status SetAddress(const std::string& text, std::string* address) {
  *address = text;
  const size_t colon = text.rfind(':');
  if (text.starts_with("unix:") && text.size() > 5) return absl::OkStatus();
  uint64_t port = 0;
  if (colon == std::string::npos || colon == 0 ||
      !absl::SimpleAtoi(text.substr(colon + 1), &port) || port == 0 || port > 65535) {
    return Expected("HOST:PORT, [IPV6]:PORT or unix:PATH");
  }
  return absl::OkStatus();
}

void AddConnectionOptions(Draft* draft, OptionSet* options) {
  ClientConfig* config = &draft->config;
  const auto add = [&](const char* name, const char* value, std::string* target, const char* help) {
    options->Add(TextOption(name, kConnection, value, target, help));
  };
  options->Add(Switch("plaintext", kConnection, &config->plaintext, "Connect without TLS"));
  add("cert", "FILE", &draft->cert, "CA certificates to trust, PEM; default: the system's");
  add("client_cert", "FILE", &draft->client_cert, "Client certificate chain for mutual TLS, PEM");
  add("client_key", "FILE", &draft->client_key, "Private key of the client certificate, PEM");
  add("authority", "NAME", &config->authority,
      "Expected name in the server's certificate, and :authority; default: that of "
      "ADDRESS");
  options->Add(NumberOption("timeout_ms", kConnection, "MS", 1, INT_MAX, &config->timeout_ms,
                            "Time limit for the connection and the whole exchange"));
  options->Add(NumberOption("wait_ms", kConnection, "MS", 0, INT_MAX, &config->wait_ms,
                            "How long to retry if the server cannot be reached"));
}

void AddOptions(Draft* draft, OptionSet* options) {
  options->Add(
      {.name = "address",
       .group = kConnection,
       .value = "ADDRESS",
       .default_text = "",
       .help = "Address of the server",
       .positional = true,
       .set = [=](const std::string& text) { return SetAddress(text, &draft->config.address); }});
  options->Add(
      {.name = "data",
       .group = kMessages,
       .value = "JSON|@FILE",
       .default_text = "",
       .help = "A ProcessingRequest as protobuf JSON, or an array of them; repeat the option for "
               "more. @FILE, @-: read a file, standard input. Default: one request_headers. With "
               "--service=check: CheckRequests, with --service=ratelimit: RateLimitRequests, "
               "with --service=network: ProcessingRequests of network ext_proc",
       .repeatable = true,
       .set = [=](const std::string& text) {
         draft->data.push_back(text);
         return absl::OkStatus();
       }});
  options->Add(ChoiceOption(
      "service", kMessages, "process|check|ratelimit|network",
      {"process", "check", "ratelimit", "network"}, 0,
      [=](size_t index) { draft->config.service = static_cast<ClientConfig::Service>(index); },
      "process: ext_proc, all messages on one stream; check: ext_authz, ratelimit: rate limits, an "
      "RPC for each request; network: network ext_proc, all messages on one stream"));
  AddConnectionOptions(draft, options);
  options->Add(Switch("version", kOther, &draft->version, "Print the version and exit"));
  options->Add(Switch("help", kOther, &draft->help, "Print this help and exit"));
}

absl::Status ReadTlsFiles(const Draft& draft, ClientConfig* config) {
  if (config->plaintext && !(draft.cert + draft.client_cert + draft.client_key).empty()) {
    return absl::InvalidArgumentError(
        "--plaintext does not use --cert, --client_cert or --client_key; give one or the "
        "other");
  }
  if (draft.client_cert.empty() != draft.client_key.empty()) {
    return absl::InvalidArgumentError("--client_cert and --client_key need each other; give both");
  }
  if (!draft.cert.empty()) {
    absl::StatusOr<CaBundle> bundle = LoadCaBundle(draft.cert);
    if (!bundle.ok()) {
      return absl::InvalidArgumentError(fmt::format("--cert: {}", MessageOf(bundle.status())));
    }
    config->ca_pem = std::move(bundle->pem);
  }
  if (draft.client_cert.empty()) return absl::OkStatus();
  absl::StatusOr<KeyPair> pair = LoadKeyPair(draft.client_cert, draft.client_key);
  if (!pair.ok()) {
    return absl::InvalidArgumentError(fmt::format("--client_cert: {}", MessageOf(pair.status())));
  }
  config->cert_pem = std::move(pair->chain_pem);
  config->key_pem = std::move(pair->key_pem);
  return absl::OkStatus();
}

absl::Status ReadData(const Draft& draft, ClientConfig* config) {
  for (const std::string& value : draft.data) {
    std::string source = fmt::format("--data {}", config->data.size() + 1);
    if (!value.starts_with('@')) {
      config->data.push_back({std::move(source), value});
      continue;
    }
    const std::string path = value == "@-" ? "/dev/stdin" : value.substr(1);
    absl::StatusOr<std::string> text = ReadAnything(path, kClientDataBytesMax);
    if (!text.ok()) {
      return absl::InvalidArgumentError(
          fmt::format("{}: cannot read {}: {}", source, path, MessageOf(text.status())));
    }
    config->data.push_back({fmt::format("{} ({})", source, path), *std::move(text)});
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ClientConfig> ParseClientConfig(int argc, const char* const* argv) {
  Draft draft;
  OptionSet options("callout-client", kDescription, "");
  AddOptions(&draft, &options);
  if (absl::Status status = options.Parse(argc, argv, OptionSet::kNoEnvironment); !status.ok())
    return status;
  ClientConfig config = std::move(draft.config);
  if (draft.help) config.print = options.Help();
  if (draft.version) config.print = "callout-client " CALLOUT_HOST_VERSION "\n";
  if (!config.print.empty()) return config;
  if (config.address.empty()) {
    return absl::InvalidArgumentError("no server ADDRESS; see --help");
  }
  if (absl::Status status = ReadTlsFiles(draft, &config); !status.ok()) return status;
  if (absl::Status status = ReadData(draft, &config); !status.ok()) return status;
  return config;
}

}  // namespace callout::host
