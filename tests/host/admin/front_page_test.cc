// SPDX-License-Identifier: Apache-2.0

#include "host/admin/front_page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>
#include <string>

#include "host/admin/html.h"
#include "host/metrics/metrics.h"

namespace callout::host {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kHostile[] = "<img src=x onerror=alert(1)>\"'&</script>";

class FrontPageTest : public ::testing::Test {
 protected:
  FrontPageTest() {
    history_.Add(metrics_.Collect(), 1);
    data_.history = &history_;
    data_.state = "ready";
  }
  std::string Render() { return RenderFrontPage(data_); }

  Reloader::PluginStatus* AddPlugin(const std::string& name) {
    Reloader::PluginStatus plugin;
    plugin.name = name;
    plugin.path = "/plugins/" + name + ".so";
    plugin.state = Reloader::State::kServing;
    Reloader::GenerationStatus generation;
    generation.id = generation.number = 1;
    generation.in_service = true;
    plugin.generations.push_back(generation);
    data_.usage.streams[1] = 3;
    data_.plugins.plugins.push_back(plugin);
    return &data_.plugins.plugins.back();
  }

  Metrics metrics_;
  MetricHistory history_;
  FrontPageData data_;
};

TEST_F(FrontPageTest, AnEmptyHostSaysWhatItDoes) {
  EXPECT_THAT(Render(), AllOf(HasSubstr("No plugins: all messages pass unchanged."),
                              HasSubstr("none since the start"), HasSubstr("<noscript>")));
}

// Everything that comes from plugins, clients and files.
TEST_F(FrontPageTest, NoTextBecomesMarkup) {
  Reloader::PluginStatus* const plugin = AddPlugin(kHostile);
  plugin->path = plugin->last_error = plugin->generations[0].facts.version = kHostile;
  plugin->generations[0].sha256 = kHostile;
  plugin->may_go_back = true;
  data_.writes = true;
  data_.version = data_.state = data_.host = data_.transport = data_.log_level = kHostile;
  data_.plugins.problems = {kHostile};
  data_.usage.problems = {kHostile};
  data_.usage.quarantined[kHostile] = kHostile;
  data_.usage.last_crash[kHostile] = kHostile;
  const Metrics::Id calls = *metrics_.Define(Metrics::Kind::kHistogram, "callout_call_seconds", "x",
                                             {{"plugin", kHostile}, {"phase", kHostile}});
  metrics_.Observe(calls, 0.1);
  metrics_.Add(*metrics_.Define(Metrics::Kind::kCounter, "callout_plugin_faults_total", "x",
                                {{"plugin", kHostile}, {"kind", kHostile}}));
  metrics_.Add(
      *metrics_.Define(Metrics::Kind::kCounter, "callout_calls_total", "x",
                       {{"plugin", kHostile}, {"outcome", kHostile}, {"phase", kHostile}}));
  history_.Add(metrics_.Collect(), 2'000'000'000);
  data_.live.rpcs = {{kHostile, kHostile, 1, 1, kHostile, kHostile, kHostile}};
  data_.faults = {{kHostile, kHostile, kHostile, kHostile, kHostile, kHostile, 1, 1, 1}};
  data_.limits = {{kHostile, 1, 2, kHostile}};
  data_.shadows = {{kHostile, 1, kHostile, {}}};
  data_.shadows[0].summary.entries[kHostile] = {1, kHostile, kHostile, kHostile, kHostile};
  data_.certificates = {{kHostile, kHostile, kHostile, 1, kHostile, kHostile}};
  data_.certificate_warnings = {kHostile};
  data_.settings = {{kHostile, kHostile, kHostile, kHostile},
                    {kHostile, kHostile, "default", kHostile}};
  data_.changes = {{1, kHostile, kHostile}};
  const std::string page = Render();
  EXPECT_THAT(page, Not(HasSubstr("<img")));
  EXPECT_THAT(page, HasSubstr("&lt;img src=x onerror=alert(1)&gt;&quot;&#39;&amp;&lt;/script&gt;"));
  // One script and one style, those of the page.
  EXPECT_EQ(page.find("<script>"), page.rfind("<script>"));
  EXPECT_EQ(page.find("</script>"), page.rfind("</script>"));
  EXPECT_EQ(page.find("<style>"), page.rfind("<style>"));
}

TEST_F(FrontPageTest, ShowsRulesWithoutCredentials) {
  data_.explain_rules = {"path_prefix=/api&count=5", "header=authorization:s3cr3t"};
  EXPECT_THAT(Render(), AllOf(HasSubstr("<li>path_prefix=/api&amp;count=5</li>"),
                              HasSubstr("<li>header=authorization:[redacted]</li>"),
                              Not(HasSubstr("s3cr3t"))));
}

TEST_F(FrontPageTest, NamesTheGenerationThatServes) {
  Reloader::PluginStatus* const plugin = AddPlugin("waf");
  plugin->generations[0].number = 3;
  plugin->generations[0].facts.version = "1.4.0";
  EXPECT_THAT(Render(), HasSubstr("generation 3 (1.4.0)"));
  plugin->generations[0].in_service = false;
  EXPECT_THAT(Render(), Not(HasSubstr("generation 3 (1.4.0)")));
}

TEST_F(FrontPageTest, ThePolicyAllowsItsOwnScriptAndStyleAlone) {
  const std::string page = Render();
  const auto between = [&page](const std::string& begin, const std::string& end) {
    const size_t from = page.find(begin) + begin.size();
    return page.substr(from, page.find(end, from) - from);
  };
  std::string policy;
  for (const auto& [name, value] : FrontPageHeaders()) {
    if (name == "Content-Security-Policy") policy = value;
  }
  EXPECT_THAT(policy, HasSubstr("default-src 'none'"));
  EXPECT_THAT(policy, HasSubstr("script-src '" + CspHash(between("<script>", "</script>")) + "'"));
  EXPECT_THAT(policy, HasSubstr("style-src '" + CspHash(between("<style>", "</style>")) + "'"));
  EXPECT_THAT(policy, Not(HasSubstr("unsafe")));
  // What the policy would not let through would not work.
  EXPECT_FALSE(std::regex_search(page, std::regex("<[^>]* (style|on[a-z]+)=")));
  EXPECT_FALSE(std::regex_search(page, std::regex("(src|href)=\"(?![/#])")));
}

TEST_F(FrontPageTest, HasButtonsOnlyWithWrites) {
  Reloader::PluginStatus* const plugin = AddPlugin("waf");
  plugin->may_go_back = true;
  data_.usage.quarantined["waf"] = "it crashed";
  EXPECT_THAT(Render(), AllOf(Not(HasSubstr("<form")), HasSubstr("--admin_writes=on")));
  data_.writes = true;
  for (const char* action : {"log_level", "drain", "release", "go_back"}) {
    EXPECT_THAT(Render(), HasSubstr(std::string("action=\"/actions/") + action + "\"")) << action;
  }
  plugin->may_go_back = false;
  data_.usage.quarantined.clear();
  EXPECT_THAT(Render(),
              AllOf(Not(HasSubstr("/actions/release")), Not(HasSubstr("/actions/go_back"))));
}

TEST_F(FrontPageTest, ShowsACanaryBesideTheVersionBefore) {
  Reloader::PluginStatus* const plugin = AddPlugin("waf");
  EXPECT_THAT(Render(), Not(HasSubstr("canary")));
  plugin->has_canary = plugin->may_go_back = true;
  Reloader::GenerationStatus canary;
  canary.id = canary.number = 2;
  canary.canary_percent = 5;
  plugin->generations.insert(plugin->generations.begin(), canary);
  data_.usage.calls[1] = {950, 0, 1'900'000'000, {}};
  data_.usage.calls[2] = {50, 3, 500'000'000, {}};
  data_.writes = true;
  const std::string page = Render();
  EXPECT_THAT(page, AllOf(HasSubstr("5 % of new streams"), HasSubstr("the rest"),
                          HasSubstr("2.0 ms"), HasSubstr("10.0 ms"), HasSubstr(">3<")));
  EXPECT_THAT(page,
              AllOf(HasSubstr("action=\"/actions/promote\""), HasSubstr("Roll back the canary")));
}

TEST_F(FrontPageTest, LetsAWithdrawnVersionBeReleased) {
  Reloader::PluginStatus* const plugin = AddPlugin("waf");
  data_.writes = true;
  EXPECT_THAT(Render(), Not(HasSubstr("/actions/release")));
  plugin->withdrawn = true;
  EXPECT_THAT(Render(), HasSubstr("action=\"/actions/release\""));
}

TEST_F(FrontPageTest, ShowsTheCommonestDifferencesOfAShadow) {
  EXPECT_THAT(Render(), Not(HasSubstr("id=\"shadows\"")));
  AddPlugin("auth-new")->shadow = true;
  data_.shadows = {{"auth-new", 1, "auth", {}}};
  DifferenceSummary& summary = data_.shadows[0].summary;
  summary.exchanges = 1000;
  summary.differing = 7;
  summary.by_kind[static_cast<size_t>(DifferenceKind::kHeader)] = 6;
  summary.by_kind[static_cast<size_t>(DifferenceKind::kStatus)] = 1;
  summary.unlisted = 3;
  summary.entries["header request x-user"] = {7, "ann", "Ann", "4711", "GET /a"};
  EXPECT_THAT(Render(), AllOf(HasSubstr("in shadow"), HasSubstr("instead of auth"),
                              HasSubstr("7 of 1000 exchanges"), HasSubstr("header request x-user"),
                              HasSubstr("By kind: header 6, body 0, status 1, metadata 0"),
                              HasSubstr("3 more differences are not listed"),
                              HasSubstr("GET /a, x-request-id 4711")));
}

TEST_F(FrontPageTest, SaysWhereEachValueComesFrom) {
  data_.settings = {{"log_level", "debug", "environment CALLOUT_LOG_LEVEL", "help"},
                    {"max_deferred", "10000", "default", "help"}};
  EXPECT_THAT(Render(), AllOf(HasSubstr("--log_level"), HasSubstr("environment CALLOUT_LOG_LEVEL"),
                              HasSubstr("--max_deferred")));
}

TEST_F(FrontPageTest, MarksACertificateThatExpiresSoon) {
  data_.certificates = {{"server", "CN=a", "CN=b", 86400, "tomorrow", "a.pem"},
                        {"client CA", "CN=c", "CN=c", -1, "yesterday", "c.pem"}};
  EXPECT_THAT(Render(), AllOf(HasSubstr("<span class=\"warn\">in 24 h</span>"),
                              HasSubstr("<span class=\"bad\">expired</span>")));
}

TEST_F(FrontPageTest, SaysThatAThreadDoesNotTell) {
  data_.live.silent_threads = 2;
  EXPECT_THAT(Render(), HasSubstr("A hook occupies"));
}

}  // namespace
}  // namespace callout::host
