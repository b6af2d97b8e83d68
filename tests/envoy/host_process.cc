// SPDX-License-Identifier: Apache-2.0

#include "host_process.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "client.h"

namespace callout::tests {
namespace {

std::vector<std::string> Command(const std::vector<std::string>& options) {
  std::vector<std::string> command = {BuiltFile("host/callout-host"), TransportOption(),
                                      "--disable_tls"};
  for (const std::string name : {"plaintext", "health_check", "admin"}) {
    const std::string option = "--" + name + "_address=";
    const bool given = std::any_of(options.begin(), options.end(), [&](const std::string& other) {
      return absl::StartsWith(other, option);
    });
    if (!given) command.push_back(option + "127.0.0.1:0");
  }
  command.insert(command.end(), options.begin(), options.end());
  return command;
}

// As sd_listen_fds(3) has it: descriptor 3, for the process of this number.
std::vector<std::string> WithSocket(const std::vector<std::string>& options, int socket) {
  std::vector<std::string> command = {
      "/bin/sh", "-c",
      absl::StrCat("exec 3<&", socket,
                   "; LISTEN_FDS=1 LISTEN_FDNAMES=plaintext LISTEN_PID=$$ exec \"$@\""),
      "sh"};
  const std::vector<std::string> host = Command(options);
  command.insert(command.end(), host.begin(), host.end());
  return command;
}

}  // namespace

std::string BuiltFile(const std::string& path) {
  // This program is in tests/envoy of the build.
  const auto self = std::filesystem::read_symlink("/proc/self/exe");
  return self.parent_path().parent_path().parent_path() / path;
}

std::string TransportOption() {
  const char* transport = std::getenv("CALLOUT_TEST_TRANSPORT");
  return std::string("--transport=") + (transport == nullptr ? "grpc" : transport);
}

HostProcess::HostProcess(const std::vector<std::string>& options) : process_(Command(options)) {
  port("plaintext");
}

HostProcess::HostProcess(const std::vector<std::string>& options, int socket)
    : process_(WithSocket(options, socket)) {
  process_.AwaitLine("listening plaintext ");
}

double HostProcess::Metric(const std::string& name) {
  const ClientRequest request = {.target = "/metrics", .headers = {{"host", "localhost"}}};
  const std::string text = Exchange(port("admin"), request).body;
  const size_t at = text.find("\n" + name + " ");
  return at == std::string::npos ? -1 : strtod(text.c_str() + at + name.size() + 2, nullptr);
}

uint16_t HostProcess::port(const std::string& listener) {
  const std::string address = process_.AwaitLine("listening " + listener + " ").value_or("");
  uint32_t port = 0;
  EXPECT_TRUE(absl::SimpleAtoi(address.substr(address.rfind(':') + 1), &port)) << address;
  return static_cast<uint16_t>(port);
}

}  // namespace callout::tests
