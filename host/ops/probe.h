// SPDX-License-Identifier: Apache-2.0

// Asks a health listener once, for `callout-host --probe`: container images may have no other
// program for their health check.
//
//   absl::Status health = ProbeHealth(address, /*tls=*/false, 2000);
//
// Any thread; it blocks.
#ifndef CALLOUT_HOST_OPS_PROBE_H_
#define CALLOUT_HOST_OPS_PROBE_H_

#include <cstdint>

#include "absl/status/status.h"
#include "host/net/address.h"

namespace callout::host {

// OK for 200. FAILED_PRECONDITION for another status; UNAVAILABLE if a step takes longer than
// `timeout_ms`. An address of all interfaces is asked on loopback. With `tls` the certificate is
// not checked, since the host runs on this machine.
absl::Status ProbeHealth(const Address& address, bool tls, uint64_t timeout_ms);

}  // namespace callout::host

#endif  // CALLOUT_HOST_OPS_PROBE_H_
