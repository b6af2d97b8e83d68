// The options that choose what carries streams, and that hold clients to limits.
//
// Plain values; AddTransportOptions is for the start.
#ifndef CALLOUT_HOST_TRANSPORT_OPTIONS_H_
#define CALLOUT_HOST_TRANSPORT_OPTIONS_H_

#include <cstddef>
#include <cstdint>

#include "host/options.h"

namespace callout::host {

struct TransportConfig {
  enum class Kind : uint8_t { kGrpc, kNghttp2 };
  Kind kind = Kind::kGrpc;

  size_t connections_per_peer_max = 0;  // from one IP address; 0: any number

  // Of nghttp2 only; gRPC C++ has no such limits.
  size_t connection_memory_bytes_max = 67108864;
  size_t header_block_bytes_max = 65536;
  uint64_t control_frames_max = 1000;     // and as many again in ten seconds; 0: any number
  uint64_t unanswered_resets_max = 1000;  // the same
};

// `config` outlives the parsing of `options`.
void AddTransportOptions(TransportConfig* config, OptionSet* options);

}  // namespace callout::host

#endif  // CALLOUT_HOST_TRANSPORT_OPTIONS_H_
