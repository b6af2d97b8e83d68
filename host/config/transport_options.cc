// SPDX-License-Identifier: Apache-2.0

#include "host/config/transport_options.h"

#include <climits>
#include <string>

#include "absl/status/status.h"
#include "host/config/option_kinds.h"

namespace callout::host {
namespace {

constexpr char kTransportGroup[] = "Transport";

absl::Status SetKind(const std::string& text, TransportConfig::Kind* kind) {
  if (text != "grpc" && text != "nghttp2") return Expected("nghttp2 or grpc");
  if (text == "grpc" && !HasGrpcTransport()) {
    return Expected(
        "nghttp2: this build of the host has no gRPC C++ (Meson's -Dgrpc=disabled), so grpc is not "
        "there");
  }
  *kind = text == "grpc" ? TransportConfig::Kind::kGrpc : TransportConfig::Kind::kNghttp2;
  return absl::OkStatus();
}

absl::Status SetBudget(const std::string& text, size_t* bytes) {
  constexpr uint64_t kMin = 16 << 20, kMax = uint64_t{1} << 48;
  uint64_t number = 0;
  if (!ParseNumber(text, 0, kMax, &number) || (number != 0 && number < kMin)) {
    return Expected("0, or a whole number from 16777216 to 281474976710656");
  }
  *bytes = static_cast<size_t>(number);
  return absl::OkStatus();
}

}  // namespace

bool HasGrpcTransport() { return CALLOUT_WITH_GRPC != 0; }

void AddTransportOptions(TransportConfig* config, OptionSet* options) {
  options->Add({.name = "transport",
                .group = kTransportGroup,
                .value = "WHICH",
                .default_text = "nghttp2",
                .help = "Implementation of HTTP/2 and gRPC: nghttp2, or grpc (gRPC C++)",
                .set = [=](const std::string& text) { return SetKind(text, &config->kind); }});
  options->Add(
      {.name = "memory_budget_bytes",
       .group = kTransportGroup,
       .value = "BYTES",
       .default_text = "60 % of the least of memory.max, memory.high and RAM, divided by "
                       "--workers",
       .help = "nghttp2: memory that a process keeps for connections, streams, bodies and "
               "attributes. Near the budget the host refuses new streams; over it, it ends streams "
               "with RESOURCE_EXHAUSTED. 0: the default [16777216 to 281474976710656]",
       .set = [=](const std::string& text) {
         return SetBudget(text, &config->memory_budget_bytes);
       }});
  const auto add = [&](const char* name, const char* value, uint64_t min, auto* target,
                       const char* help) {
    options->Add(NumberOption(name, kTransportGroup, value, min, INT_MAX, target, help));
  };
  add("max_connections_per_peer", "COUNT", 0, &config->connections_per_peer_max,
      "Open ext_proc connections from one IP address. The host closes further ones. 0: an eighth "
      "of --max_connections, once more than half of these are open");
  options->Add(
      Renamed("connection_memory_bytes_max",
              NumberOption("max_connection_memory_bytes", kTransportGroup, "BYTES", 1024, INT_MAX,
                           &config->connection_memory_bytes_max,
                           "nghttp2: memory for the messages and responses of one connection. At "
                           "the limit the host stops reading its streams")));
  add("max_header_block_bytes", "BYTES", 1024, &config->header_block_bytes_max,
      "nghttp2: encoded size of the headers of one stream. The host closes a connection that sends "
      "more");
  add("max_control_frames", "COUNT", 0, &config->control_frames_max,
      "nghttp2: control frames that a connection may send: this many, plus as many per 10 s, plus "
      "four per DATA frame that it was sent. Then the host closes it. 0: no limit");
  add("max_unanswered_resets", "COUNT", 0, &config->unanswered_resets_max,
      "nghttp2: streams that a connection may reset before they got a response: this many, plus as "
      "many per 10 s, plus one per stream that got a response. Then the host sends GOAWAY, and "
      "closes a connection that goes on. It closes one that resets as many streams that are over. "
      "0: no limit");
  add("max_turn_messages", "COUNT", 1, &config->turn_messages_max,
      "nghttp2: messages of one connection, of 4 KiB each, that a thread serves before it turns to "
      "the next connection");
  add("max_turn_handshakes", "COUNT", 1, &config->turn_handshakes_max,
      "nghttp2: steps of TLS handshakes that a thread takes before it turns to other connections");
  options->Add(NumberOption("max_handshake_percent", kTransportGroup, "PERCENT", 1, 100,
                            &config->handshake_percent_max,
                            "nghttp2: share of a thread's time for TLS handshakes. More of them "
                            "wait, and what is open is served"));
}

}  // namespace callout::host
