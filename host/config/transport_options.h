// SPDX-License-Identifier: Apache-2.0

// The options that choose the transport and set its limits.
//
// Plain values; AddTransportOptions is for the start of the process.
//
// Tested by tests/host/config/config_test.cc.
#ifndef CALLOUT_HOST_CONFIG_TRANSPORT_OPTIONS_H_
#define CALLOUT_HOST_CONFIG_TRANSPORT_OPTIONS_H_

#include "host/config/options.h"
#include "host/transport/limits.h"

namespace callout::host {

// The build has gRPC C++: --transport=grpc can be chosen.
bool HasGrpcTransport();

// `config` outlives the parsing of `options`.
void AddTransportOptions(TransportConfig* config, OptionSet* options);

}  // namespace callout::host

#endif  // CALLOUT_HOST_CONFIG_TRANSPORT_OPTIONS_H_
