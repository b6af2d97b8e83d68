// SPDX-License-Identifier: Apache-2.0

// callout-client's command line; its files are read and checked.
// Plain values.
//
// Tested by tests/client/options_test.cc.
#ifndef CALLOUT_HOST_CLIENT_CLIENT_OPTIONS_H_
#define CALLOUT_HOST_CLIENT_CLIENT_OPTIONS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace callout::host {

// Limit for --data or its file, in bytes.
inline constexpr size_t kClientDataBytesMax = 16777216;

struct ClientConfig {
  std::string address;  // as gRPC takes it
  bool plaintext = false;
  std::string ca_pem;    // "": the system's authorities
  std::string cert_pem;  // "": no client certificate
  std::string key_pem;
  std::string authority;  // "": the address's own name
  uint64_t timeout_ms = 10000;
  uint64_t wait_ms = 0;  // for a server that does not listen yet

  // One for each --data. `source` is "--data 2" or "--data 2 (FILE)".
  struct Data {
    std::string source;
    std::string text;
  };
  std::vector<Data> data;

  enum class Service : uint8_t { kProcess, kCheck, kRateLimit, kNetwork };
  Service service = Service::kProcess;  // what --data are requests of

  std::string print;  // only print this: --help, --version
};

// INVALID_ARGUMENT in one line: the option, what is wrong with it, what is
// expected.
absl::StatusOr<ClientConfig> ParseClientConfig(int argc, const char* const* argv);

}  // namespace callout::host

#endif  // CALLOUT_HOST_CLIENT_CLIENT_OPTIONS_H_
