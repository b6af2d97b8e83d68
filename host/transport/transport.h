// SPDX-License-Identifier: Apache-2.0

// What carries streams: takes connections over and serves RPCs on them.
//
// Tested by tests/host/transport/h2/h2_server_test.cc.
#ifndef CALLOUT_HOST_TRANSPORT_TRANSPORT_H_
#define CALLOUT_HOST_TRANSPORT_TRANSPORT_H_

#include <cstddef>
#include <cstdint>

#include "host/stream/live_rpc.h"

namespace callout::host {

class Transport {
 public:
  virtual ~Transport() = default;

  // Takes over a connected, non-blocking descriptor. Any thread.
  virtual void HandlePlaintext(int descriptor) = 0;
  virtual void HandleSecure(int descriptor) = 0;

  // What grpc.health.v1 says. Any thread.
  virtual void SetServing(bool serving) = 0;

  // Sends GOAWAY, lets live streams go on for `timeout_ms`, then cancels them.
  // True if every stream is closed; false if a plugin still holds a deferred
  // call: the transport must then outlive it, which means that the process exits
  // without destroying it.
  virtual bool Drain(uint64_t timeout_ms) = 0;

  // RPCs of all kinds that are not over yet, for their connection or for a plugin.
  // Any thread.
  virtual size_t live() const = 0;

  // The `max` oldest of them that a client waits for. Threads that do not tell within
  // `timeout_ms` are left out. Any thread.
  virtual LiveRpcs ListRpcs(size_t max, uint64_t timeout_ms) = 0;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_TRANSPORT_TRANSPORT_H_
