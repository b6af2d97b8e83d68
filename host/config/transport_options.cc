#include "host/config/transport_options.h"

#include <climits>
#include <string>

#include "absl/status/status.h"
#include "host/config/option_kinds.h"

namespace callout::host {
namespace {

constexpr char kGroup[] = "Transport";

absl::Status SetKind(const std::string& text, TransportConfig::Kind* kind) {
  if (text != "grpc" && text != "nghttp2") return Expected("grpc or nghttp2");
  *kind = text == "grpc" ? TransportConfig::Kind::kGrpc : TransportConfig::Kind::kNghttp2;
  return absl::OkStatus();
}

}  // namespace

void AddTransportOptions(TransportConfig* config, OptionSet* options) {
  options->Add({.name = "transport",
                .group = kGroup,
                .value = "WHICH",
                .default_text = "grpc",
                .help = "HTTP/2 and gRPC implementation: grpc (gRPC C++) or nghttp2",
                .set = [=](const std::string& text) { return SetKind(text, &config->kind); }});
  const auto add = [&](const char* name, const char* value, uint64_t min, auto* target,
                       const char* help) {
    options->Add(NumberOption(name, kGroup, value, min, INT_MAX, target, help));
  };
  add("max_connections_per_peer", "COUNT", 0, &config->connections_per_peer_max,
      "Open ext_proc connections from one IP address; further ones are closed. 0: no limit");
  options->Add(Renamed(
      "connection_memory_bytes_max",
      NumberOption("max_connection_memory_bytes", kGroup, "BYTES", 1024, INT_MAX,
                   &config->connection_memory_bytes_max,
                   "nghttp2: memory for the messages and responses of one connection; then its "
                   "streams wait")));
  add("max_header_block_bytes", "BYTES", 1024, &config->header_block_bytes_max,
      "nghttp2: encoded size of one stream's headers; more end the connection");
  add("max_control_frames", "COUNT", 0, &config->control_frames_max,
      "nghttp2: control frames of a connection, plus that many per 10 s, plus four per DATA frame "
      "sent; more end it. 0: no limit");
  add("max_unanswered_resets", "COUNT", 0, &config->unanswered_resets_max,
      "nghttp2: streams reset before any response, plus that many per 10 s, plus one per answered "
      "stream; more end the connection. 0: no limit");
}

}  // namespace callout::host
