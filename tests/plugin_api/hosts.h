// SPDX-License-Identifier: Apache-2.0

// One exchange in words that the fake host and the real one understand, for
// both_hosts_test.cc. The fake one is in a file of its own: its namespace, callout::testing,
// would stand before GoogleTest's.
#ifndef CALLOUT_TESTS_PLUGIN_API_HOSTS_H_
#define CALLOUT_TESTS_PLUGIN_API_HOSTS_H_

#include <callout/plugin.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace callout::plugin_api_test {

using Pairs = std::vector<std::pair<std::string, std::string>>;

struct Modes {
  callout_body_mode_t request, response;
};

inline constexpr char kTraceparent[] = "00-11111111111111111111111111111111-2222222222222222-01";

// The exchange ends with the object. Its gRPC metadata has x-tenant: blue, traceparent and
// tracestate: a=1, so that it is recorded, its attributes k: v, and its peer is plaintext,
// ipv4:192.0.2.1:4711.
class Host {
 public:
  virtual ~Host() = default;
  virtual void Headers(callout_phase_t phase, const Pairs& headers, bool end_of_stream) = 0;
  virtual void Body(callout_phase_t phase, const std::string& body, bool end_of_stream) = 0;
  virtual void Trailers(callout_phase_t phase) = 0;
};

// Of the plugin that is linked into the program.
std::unique_ptr<Host> MakeFakeHost(const std::string& config, Modes modes);

}  // namespace callout::plugin_api_test

#endif  // CALLOUT_TESTS_PLUGIN_API_HOSTS_H_
