// The host's side of the ABI's table of services (struct callout_host).
//
// One table for each instance, with the instance behind it. The functions turn
// C arguments into writes to the call's state; they decide nothing about the
// protocol: that is the guard's part, after the hook has returned.
//
// Tested by tests/host/stream/stream_test.cc.
#ifndef CALLOUT_HOST_PLUGIN_SERVICES_H_
#define CALLOUT_HOST_PLUGIN_SERVICES_H_

#include <callout/plugin.h>

#include <cstddef>
#include <string>
#include <string_view>

#include "host/plugin/call.h"
#include "host/wire/phase.h"
#include "host/wire/wire.h"

namespace callout::host {

// What hooks print about the host: "callout-host/<version>".
extern const char kHostName[];

// The largest text set_error() keeps and log() writes, in bytes.
inline constexpr size_t kErrorTextBytesMax = 1024;
inline constexpr size_t kLogTextBytesMax = 8192;

// A table with every service, for `instance`. `abi` comes first: a plugin's
// `host` pointer is a pointer to this.
struct ServiceTable {
  explicit ServiceTable(Instance* owner);

  callout_host_t abi;
  Instance* instance;

  static const ServiceTable* From(const callout_host_t* host) {
    return reinterpret_cast<const ServiceTable*>(host);
  }
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_SERVICES_H_
