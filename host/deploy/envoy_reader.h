// SPDX-License-Identifier: Apache-2.0

// Finds the ext_proc filters in Envoy's own configuration, wherever they stand: a
// bootstrap, a config dump, resources of xDS, an EnvoyFilter or EnvoyPatchPolicy.
//
//   std::vector<ProxySettings> filters;
//   for (…) ReadEnvoyFilters(Place::Root(document), needs, &filters);
//
// A filter's listener, connection manager and cluster are read with it where they are in
// the same document; what is not there is not judged.
//
// A plain function; any thread.
//
// Tested by tests/host/deploy/doctor_test.cc.
#ifndef CALLOUT_HOST_DEPLOY_ENVOY_READER_H_
#define CALLOUT_HOST_DEPLOY_ENVOY_READER_H_

#include <vector>

#include "host/deploy/config_document.h"
#include "host/deploy/envoy_needs.h"
#include "host/deploy/proxy_settings.h"

namespace callout::host {

// `needs` is for what a cluster has to do in the host's times.
void ReadEnvoyFilters(const Place& document, const EnvoyNeeds& needs,
                      std::vector<ProxySettings>* found);

}  // namespace callout::host

#endif  // CALLOUT_HOST_DEPLOY_ENVOY_READER_H_
