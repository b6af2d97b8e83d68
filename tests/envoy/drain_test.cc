// SPDX-License-Identifier: Apache-2.0

// A host that drains behind Envoy: what becomes of streams that still run when the time is up.
#include <gmock/gmock.h>

#include <atomic>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "backend.h"
#include "envoy_config.h"
#include "envoy_fixture.h"
#include "host_process.h"
#include "long_request.h"

namespace callout::tests {
namespace {

using nlohmann::json;

// The settings "drain" of the plugin.
std::string SettingsOption(const host::TempDir& directory, const std::string& drain) {
  const std::string path = directory.Path(drain + ".json");
  std::ofstream(path) << json{{"drain", drain}}.dump();
  return "--plugin_settings=scripted=@" + path;
}

struct DrainRow {
  const char* mode;  // of the response's body
  const char* drain;
  bool complete;  // the client gets all of it
};

class DrainTest : public EnvoyFixture {};

TEST_F(DrainTest, WhatOwesNothingGoesOnWithoutTheHost) {
  const DrainRow rows[] = {
      {"NONE", "pass", true},
      {"STREAMED", "pass", true},
      {"BUFFERED", "pass", true},
      {"BUFFERED_PARTIAL", "pass", true},
      {"STREAMED", "fail", false},
      // What Envoy has sent unasked would be lost.
      {"FULL_DUPLEX_STREAMED", "pass", false},
  };
  host::TempDir directory;
  std::atomic<bool> released{false};
  Backend backend;
  EnvoyConfig config;
  config.backend_port = backend.port();
  std::vector<std::unique_ptr<HostProcess>> hosts;
  for (const DrainRow& row : rows) {
    const std::string name = absl::StrCat(row.mode, "_", row.drain);
    hosts.push_back(std::make_unique<HostProcess>(
        std::vector<std::string>{"--plugin=" + BuiltFile("tests/envoy/plugins/scripted.so"),
                                 SettingsOption(directory, row.drain), "--drain_timeout_ms=300"}));
    config.hosts[name] = {hosts.back()->port("plaintext")};
    json modes = {{"response_body_mode", row.mode}};
    if (std::string(row.mode) == "FULL_DUPLEX_STREAMED") modes["response_trailer_mode"] = "SEND";
    config.listeners.push_back(
        {.name = name, .filters = {ExtProc({{"processing_mode", modes}}, name)}});
  }
  EnvoyProcess envoy(MakeBootstrap(config));
  for (size_t i = 0; i < hosts.size(); ++i) {
    const std::string& name = config.listeners[i].name;
    SCOPED_TRACE(name);
    released = false;
    backend.AnswerBy([&released](const HttpMessage&) { return LongAnswer(&released); });
    LongRequest request(envoy.port(name), {});
    // The host has seen the headers of the response, and, in chunks, the first event.
    const bool chunks = absl::EndsWith(rows[i].mode, "STREAMED");
    EXPECT_TRUE(
        Poll([&] { return hosts[i]->Metric("callout_messages_total") >= (chunks ? 3 : 2); }));
    EXPECT_EQ(hosts[i]->Terminate(), 0) << hosts[i]->Output();
    released = true;
    const HttpMessage& response = request.Await();
    EXPECT_EQ(response.complete, rows[i].complete) << ::testing::PrintToString(response);
    if (rows[i].complete) {
      EXPECT_EQ(response.status, 200);
      EXPECT_EQ(response.body, kWhole);
    }
  }
  for (const auto& [name, value] : envoy.CountersEndingWith(".spurious_msgs_received")) {
    EXPECT_EQ(value, 0u) << name;
  }
}

}  // namespace
}  // namespace callout::tests
