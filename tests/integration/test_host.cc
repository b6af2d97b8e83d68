// SPDX-License-Identifier: Apache-2.0

#include "test_host.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace callout::tests {
namespace {

bool Has(const std::vector<std::string>& options, const std::string& prefix) {
  return std::any_of(options.begin(), options.end(),
                     [&](const std::string& option) { return option.starts_with(prefix); });
}

std::vector<std::string> WithFreePorts(const std::vector<std::string>& options) {
  std::vector<std::string> all = options;
  for (const std::string name : {"secure", "plaintext", "health_check", "admin"}) {
    const std::string option = "--" + name + "_address=";
    if (!Has(options, option)) all.push_back(option + "127.0.0.1:0");
  }
  // Tests ask for health all the time, and do not wait for anybody to see a drain.
  if (!Has(options, "--drain_delay_ms=")) all.push_back("--drain_delay_ms=0");
  return all;
}

}  // namespace

std::vector<std::string> HostCommand(const std::vector<std::string>& options,
                                     const std::vector<std::string>& environment) {
  std::vector<std::string> command = {"/usr/bin/env"};
  command.insert(command.end(), environment.begin(), environment.end());
  command.push_back(BuiltFile("host/callout-host"));
  if (!Has(options, "--transport=")) command.push_back(TransportOption());
  command.insert(command.end(), options.begin(), options.end());
  return command;
}

TestHost::TestHost(const std::vector<std::string>& options,
                   const std::vector<std::string>& environment)
    : process_(HostCommand(WithFreePorts(options), environment)) {
  AwaitLog("serving with ");
}

std::string TestHost::address(const std::string& listener) {
  return AwaitLog("listening " + listener + " ");
}

Finished RunHost(const std::vector<std::string>& options,
                 const std::vector<std::string>& environment) {
  ChildProcess process(HostCommand(options, environment));
  Finished finished;
  finished.exit_status = process.AwaitEnd();
  finished.output = process.Output();
  return finished;
}

}  // namespace callout::tests
