// SPDX-License-Identifier: Apache-2.0

// A plugin that crashes or hangs, in a host without workers: what the host says.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "plugins_page.h"
#include "traffic.h"

namespace callout::tests {
namespace {

using ::testing::HasSubstr;

// Sends a stream that makes the plugin `what`.
void Send(TestHost* host, const std::string& what) {
  LiveStream stream(PlaintextChannel(host->address("plaintext")));
  stream.Exchange(RequestHeaders({{"x-do", what}}));
}

class Crash : public ::testing::TestWithParam<std::pair<const char*, const char*>> {};

TEST_P(Crash, NamesPluginAndHookBeforeTheProcessDies) {
  const auto& [what, words] = GetParam();
  TestHost host({"--plugin=p=" + ReloadPlugin("deadly")});
  Send(&host, what);
  host.AwaitEnd();
  EXPECT_THAT(host.Log(), HasSubstr(words));
}

INSTANTIATE_TEST_SUITE_P(
    By, Crash,
    ::testing::Values(
        std::pair("segfault",
                  "callout-host: SIGSEGV while plugin p ran callout_on_request_headers\n"),
        std::pair("abort", "callout-host: SIGABRT while plugin p ran callout_on_request_headers\n"),
        std::pair("overflow",
                  "callout-host: SIGSEGV while plugin p ran callout_on_request_headers\n"),
        std::pair(
            "exit",
            "callout-host: exit() was called while plugin p ran callout_on_request_headers\n"),
        std::pair("throw", "callout-host: SIGABRT outside of every hook")),
    [](const auto& info) { return std::string(info.param.first); });

TEST(Hang, IsLoggedWithPluginAndHook) {
  TestHost host({"--plugin=p=" + ReloadPlugin("deadly"), "--watchdog_ms=200"});
  LiveStream stream(PlaintextChannel(host.address("plaintext")));
  stream.Send(RequestHeaders({{"x-do", "hang"}}));
  EXPECT_THAT(host.AwaitLog("plugin p has been in callout_on_request_headers for "),
              HasSubstr(" ms; stream 1; "));
  stream.Cancel();
}

}  // namespace
}  // namespace callout::tests
