// SPDX-License-Identifier: Apache-2.0

// Asks a health listener once, as `callout-host --probe` does for images that have no
// other program to do it.
//
//   absl::Status health = ProbeHealth(address, /*tls=*/false, 2000);
//
// Any thread, which waits.
#ifndef CALLOUT_HOST_OPS_PROBE_H_
#define CALLOUT_HOST_OPS_PROBE_H_

#include <cstdint>

#include "absl/status/status.h"
#include "host/net/address.h"

namespace callout::host {

// OK for 200. FAILED_PRECONDITION for another status; UNAVAILABLE if nobody answers
// within `timeout_ms` at any step. Where the address is that of all interfaces, the
// loopback one is asked. With `tls` the certificate is not checked: this process's own
// listener is asked on this machine.
absl::Status ProbeHealth(const Address& address, bool tls, uint64_t timeout_ms);

}  // namespace callout::host

#endif  // CALLOUT_HOST_OPS_PROBE_H_
