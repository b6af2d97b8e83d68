// SPDX-License-Identifier: Apache-2.0

// Plugins that bring generated classes of their own, several in one process and replaced while
// requests go on.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "plugins_page.h"
#include "traffic.h"

namespace callout::tests {
namespace {

std::string ValueOf(const ext_proc::HeaderMutation& mutation, const std::string& key) {
  for (const auto& option : mutation.set_headers()) {
    if (option.header().key() == key) return option.header().raw_value();
  }
  return "";
}

TEST(TypedPlugins, ServeBesideEachOtherWhileOneIsReplacedManyTimes) {
  const host::TempDir directory;
  PluginsDir plugins(directory.Path("plugins"));
  const std::string one = ReadFile(ReloadPlugin("typed_version_one"));
  const std::string two = ReadFile(ReloadPlugin("typed_version_two"));
  plugins.Put("p.so", one);
  plugins.Put("q.so", ReadFile(BuiltPlugin("typed_basic")));
  TestHost host({"--plugins_dir=" + plugins.path()});
  const std::string address = host.address("plaintext");
  Traffic traffic(address, 2);
  traffic.AwaitStreams(100);
  const int replacements = Replacements() / 2;
  const auto channel = PlaintextChannel(address);
  for (int i = 0; i < replacements; ++i) {
    // A trailing line makes each file another, so that each is mapped.
    plugins.Put("p.so", (i % 2 == 0 ? two : one) + fmt::format("\n{}\n", i));
    host.AwaitLog(fmt::format("plugin p: generation {} of ", i + 2));
    LiveStream stream(channel);
    const auto answer = stream.Exchange(ResponseHeaders({}));
    ASSERT_TRUE(answer.has_value());
    EXPECT_EQ(VersionOf(*answer), i % 2 == 0 ? "2" : "1");
    EXPECT_EQ(ValueOf(answer->response_headers().response().header_mutation(), "hello"),
              "service-extensions");
    EXPECT_TRUE(stream.Finish().ok());
  }
  const TrafficReport report = traffic.Stop();
  EXPECT_EQ(report.failed, 0u) << report.first_failure;
  EXPECT_EQ(report.mixed, 0u);
  EXPECT_GT(report.by_version.at("1"), 0u);
  EXPECT_GT(report.by_version.at("2"), 0u);
  EXPECT_EQ(GetPlugins(host.address("admin"))["generations_mapped"], replacements + 2);
}

}  // namespace
}  // namespace callout::tests
