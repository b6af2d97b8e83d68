// SPDX-License-Identifier: Apache-2.0

// Reads the resources by which gateways are told of a callout: EnvoyExtensionPolicy and
// ClientTrafficPolicy (Envoy Gateway), GatewayExtension (kgateway), AgentgatewayPolicy,
// GCPTrafficExtension and GCPRoutingExtension (GKE), and the files that gcloud imports.
//
//   ReadResources(documents, &found);
//
// A plain function; any thread.
//
// Tested by tests/host/deploy/doctor_test.cc.
#ifndef CALLOUT_HOST_DEPLOY_RESOURCE_READER_H_
#define CALLOUT_HOST_DEPLOY_RESOURCE_READER_H_

#include <vector>

#include "host/deploy/config_document.h"
#include "host/deploy/proxy_settings.h"

namespace callout::host {

// Documents of other kinds are left alone. The items of a List are read each by itself.
void ReadResources(const std::vector<Place>& documents, std::vector<ProxySettings>* found);

}  // namespace callout::host

#endif  // CALLOUT_HOST_DEPLOY_RESOURCE_READER_H_
