// The options that choose what carries streams, and that hold clients to limits.
//
// Plain values; AddTransportOptions is for the start.
#ifndef CALLOUT_HOST_CONFIG_TRANSPORT_OPTIONS_H_
#define CALLOUT_HOST_CONFIG_TRANSPORT_OPTIONS_H_

#include "host/config/options.h"
#include "host/transport/limits.h"

namespace callout::host {

// The build has gRPC C++: --transport=grpc can be chosen, and is the default.
bool HasGrpcTransport();

// `config` and `limits` outlive the parsing of `options`.
void AddTransportOptions(TransportConfig* config, TransportLimits* limits, OptionSet* options);

}  // namespace callout::host

#endif  // CALLOUT_HOST_CONFIG_TRANSPORT_OPTIONS_H_
