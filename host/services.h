// The host's side of the ABI's table of services (struct callout_host).
//
// One table for each instance, with the instance behind it. The functions turn
// C arguments into writes to the call's state; they decide nothing about the
// protocol: that is the guard's part, after the hook has returned.
#ifndef CALLOUT_HOST_SERVICES_H_
#define CALLOUT_HOST_SERVICES_H_

#include <callout/plugin.h>

#include <cstddef>
#include <string>
#include <string_view>

#include "host/call.h"

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

inline callout_bytes_t ToBytes(std::string_view text) { return {text.data(), text.size()}; }
inline std::string_view ToView(callout_bytes_t bytes) {
  return bytes.data == nullptr ? std::string_view() : std::string_view(bytes.data, bytes.size);
}

// True for the fields of ProcessingResponse that are an answer.
bool IsAnswerField(callout_field_t field);

}  // namespace callout::host

#endif  // CALLOUT_HOST_SERVICES_H_
