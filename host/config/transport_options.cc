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
  if (text == "grpc" && !HasGrpcTransport()) {
    return Expected(
        "nghttp2: this build of the host has no gRPC C++ (Meson's -Dgrpc=disabled), so grpc is not "
        "there");
  }
  *kind = text == "grpc" ? TransportConfig::Kind::kGrpc : TransportConfig::Kind::kNghttp2;
  return absl::OkStatus();
}

}  // namespace

bool HasGrpcTransport() { return CALLOUT_WITH_GRPC != 0; }

void AddTransportOptions(TransportConfig* config, TransportLimits* limits, OptionSet* options) {
  if (!HasGrpcTransport()) config->kind = TransportConfig::Kind::kNghttp2;
  options->Add({.name = "transport",
                .group = kGroup,
                .value = "WHICH",
                .default_text = HasGrpcTransport() ? "grpc" : "nghttp2",
                .help = "What carries streams: grpc (gRPC C++) or nghttp2",
                .set = [=](const std::string& text) { return SetKind(text, &config->kind); }});
  const auto add = [&](const char* name, const char* value, uint64_t min, auto* target,
                       const char* help) {
    options->Add(NumberOption(name, kGroup, value, min, INT_MAX, target, help));
  };
  add("max_connections_per_peer", "COUNT", 0, &config->connections_per_peer_max,
      "Open ext_proc connections from one IP address. 0: any number");
  add("first_message_timeout_ms", "MS", 0, &limits->first_message_timeout_ms,
      "End a stream whose first message has not come after this time. 0: never");
  add("message_timeout_ms", "MS", 0, &limits->message_timeout_ms,
      "End a stream whose next message has not come this long after the one before. 0: never");
  add("max_stream_age_ms", "MS", 0, &limits->stream_age_max_ms,
      "End a stream after this time in all. 0: never");
  add("connection_memory_bytes_max", "BYTES", 1024, &config->connection_memory_bytes_max,
      "nghttp2: messages and answers in memory for one connection; more wait");
  add("max_header_block_bytes", "BYTES", 1024, &config->header_block_bytes_max,
      "nghttp2: headers of one stream as they are sent; more end the connection");
  add("max_control_frames", "COUNT", 0, &config->control_frames_max,
      "nghttp2: frames without a request, beyond those that answers call for, and as many in 10 s; "
      "more end the connection. 0: any number");
  add("max_unanswered_resets", "COUNT", 0, &config->unanswered_resets_max,
      "nghttp2: streams reset before any answer, and as many in 10 s or as streams are answered; "
      "more end the connection. 0: any number");
}

}  // namespace callout::host
