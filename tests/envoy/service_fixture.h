// SPDX-License-Identifier: Apache-2.0

// What the tests of services other than ext_proc share: an Envoy whose filters ask hosts with a
// plugin that says what the test wants, alone and in chains, in front of one backend.
#ifndef CALLOUT_TESTS_ENVOY_SERVICE_FIXTURE_H_
#define CALLOUT_TESTS_ENVOY_SERVICE_FIXTURE_H_

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "backend.h"
#include "envoy_config.h"
#include "envoy_fixture.h"
#include "host_process.h"

namespace callout::tests {

// What the plugins of these tests are told to say.
template <class Response>
std::string Hex(const Response& response) {
  return absl::BytesToHexString(response.SerializeAsString());
}

class EnvoyServiceTest : public EnvoyFixture {
 protected:
  // A host that filters reach by `name`.
  void AddHost(const std::string& name, std::vector<std::string> options, EnvoyConfig* config) {
    options.push_back("--hook_deadline_ms=1000");
    hosts_.push_back(std::make_unique<HostProcess>(options));
    config->hosts[name] = {.port = hosts_.back()->port("plaintext")};
  }
  // The options for a chain of instances of `file`, each with the configuration `says` and its
  // name.
  static std::vector<std::string> ChainOf(const std::string& file, const std::string& says,
                                          const std::vector<std::string>& names) {
    std::vector<std::string> options;
    for (const std::string& name : names) {
      options.push_back("--plugin=" + name + "=" + file);
      options.push_back("--plugin_config=" + name + "=" + says + name);
    }
    return options;
  }
  // Whether the request of the test has reached the backend.
  bool Reached() { return backend_.TakeRequest("1").has_value(); }

  Backend backend_;
  std::vector<std::unique_ptr<HostProcess>> hosts_;
  std::optional<EnvoyProcess> envoy_;
};

}  // namespace callout::tests

#endif  // CALLOUT_TESTS_ENVOY_SERVICE_FIXTURE_H_
