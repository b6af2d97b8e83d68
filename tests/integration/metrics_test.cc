// SPDX-License-Identifier: Apache-2.0

// The page /metrics of running hosts: against docs/metrics.md in both directions, and against what
// the dashboard and the alerts of deploy/ ask for.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "child_process.h"
#include "ext_proc_client.h"
#include "http_get.h"
#include "test_host.h"
#include "tests/host/sockets.h"

namespace callout::tests {
namespace {

using ::testing::HasSubstr;

struct Family {
  std::string kind;
  std::set<std::string> labels;  // without le

  bool operator==(const Family&) const = default;
};
std::ostream& operator<<(std::ostream& out, const Family& family) {
  out << family.kind;
  for (const std::string& label : family.labels) out << ' ' << label;
  return out;
}
using Families = std::map<std::string, Family>;

std::string ReadText(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(std::string(CALLOUT_SOURCE_ROOT "/") + path).rdbuf();
  EXPECT_FALSE(text.str().empty()) << path;
  return text.str();
}

// Calls `found` with the groups of each match.
template <class Found>
void Each(const std::string& text, const std::string& pattern, Found found) {
  const std::regex regex(pattern);
  for (std::sregex_iterator it(text.begin(), text.end(), regex), end; it != end; ++it) found(*it);
}

// The rows of the tables of docs/metrics.md: | `name` | kind | `label` `label` | … |
Families OnThePage() {
  Families families;
  Each(ReadText("docs/metrics.md"), R"(\n\| `(\w+)` \| (\w+) \|([^|]*)\|)", [&](const auto& row) {
    Family& family = families[row[1]];
    EXPECT_TRUE(family.kind.empty()) << row[1] << " is listed twice";
    family.kind = row[2];
    Each(row[3], "`(\\w+)`", [&](const auto& label) { family.labels.insert(label[1]); });
  });
  EXPECT_GT(families.size(), 50u);
  return families;
}

void AddServed(const std::string& admin_address, Families* families) {
  const std::string page = HttpGet(admin_address, "GET", "/metrics");
  std::string name;
  Each(page, "\\n# TYPE (\\w+) (\\w+)|\\n\\w+\\{([^\\n]*)\\} ", [&](const auto& line) {
    if (line[1].matched) {
      name = line[1];
      (*families)[name].kind = line[2];
    } else {
      Each(line[3], "(?:^|,)(\\w+)=\"", [&](const auto& label) {
        if (label[1] != "le") (*families)[name].labels.insert(label[1]);
      });
    }
  });
}

void Ask(TestHost* host, const std::string& what) {
  LiveStream stream(PlaintextChannel(host->address("plaintext")));
  stream.Exchange(RequestHeaders({{":path", "/"}, {"x-do", what}}));
  stream.Finish();
}

// Of hosts in which everything happens that makes a metric appear.
const Families& Served() {
  static const Families families = [] {
    Families served;
    const std::string plugin = "--plugin=moody=" + BuiltFile("tests/integration/moody.so");
    {
      TestHost host({plugin, "--workers=1", "--quarantine=1/60"});
      Ask(&host, "deny");
      Ask(&host, "crash");
      host.AwaitLog("plugin moody is in quarantine after ");
      AddServed(host.address("admin"), &served);
    }
    // With traces, to a collector that is not there, and with the same plugin in shadow.
    const host::TempDir directory;
    const std::string settings = directory.Path("shadow.settings");
    std::ofstream(settings) << R"({"mode": "shadow", "instead_of": "moody"})";
    TestHost host({plugin, "--plugin=shadow=" + BuiltFile("tests/integration/moody.so"),
                   "--plugin_settings=shadow=@" + settings},
                  {"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1"});
    Ask(&host, "deny");
    Ask(&host, "trace");
    const std::string admin = host.address("admin");
    while (MetricOf(admin, "callout_shadow_exchanges_total{plugin=\"shadow\"}") < 1) {
    }
    AddServed(admin, &served);
    return served;
  }();
  return families;
}

bool IsNghttp2() {
  const char* transport = std::getenv("CALLOUT_TEST_TRANSPORT");
  return transport != nullptr && std::string(transport) == "nghttp2";
}

TEST(Metrics, TheHostHasWhatThePageListsAndNothingElse) {
  const Families& served = Served();
  const Families listed = OnThePage();
  for (const auto& [name, family] : served) {
    const auto row = listed.find(name);
    if (row == listed.end()) {
      ADD_FAILURE() << "docs/metrics.md has no row for " << name << ": " << family;
    } else {
      EXPECT_EQ(row->second, family) << name;
    }
  }
  // These take a plugin that does more than this test's.
  const std::set<std::string> kOthers = {"callout_timers",
                                         "callout_timer_seconds",
                                         "callout_timer_late_seconds",
                                         "callout_timers_refused_total",
                                         "callout_shared_data_refused_total",
                                         "callout_calls",
                                         "callout_calls_refused_total",
                                         "callout_state_write_errors_total"};
  for (const auto& [name, family] : listed) {
    if (kOthers.contains(name) || name.starts_with("callout_upstream_")) continue;
    if (!IsNghttp2() && name.starts_with("callout_h2_")) continue;
    EXPECT_TRUE(served.contains(name)) << "no host has " << name << " of docs/metrics.md";
  }
}

// The expressions of a file, each with the metrics and labels that it uses.
void ExpectServed(const std::string& where, const std::string& expression) {
  // Those that the scraper and histograms add.
  std::set<std::string> labels = {"le", "instance", "job", "alertname", "alertstate"};
  std::string first;
  Each(expression, "\\b((?:callout|process)_\\w+)", [&](const auto& match) {
    std::string name = match[1];
    const bool known = Served().contains(name);
    if (!known) name = std::regex_replace(name, std::regex("_(bucket|sum|count)$"), "");
    const auto family = Served().find(name);
    if (family == Served().end()) {
      if (IsNghttp2() || !name.starts_with("callout_h2_")) {
        ADD_FAILURE() << where << ": no host has " << match[1];
      }
      return;
    }
    first = name;
    EXPECT_EQ(known, family->second.kind != "histogram") << where << ": " << match[1];
    labels.insert(family->second.labels.begin(), family->second.labels.end());
  });
  if (expression.starts_with("up{")) return;  // of the scraper itself
  EXPECT_FALSE(first.empty()) << where << ": " << expression;
  const auto expect_label = [&](const std::string& label) {
    EXPECT_TRUE(labels.contains(label)) << where << ": " << first << " has no label " << label;
  };
  Each(expression, "[{,]\\s*(\\w+)\\s*(?:=~|!~|!=|=)", [&](const auto& m) { expect_label(m[1]); });
  Each(expression, "\\bby \\(([^)]*)\\)", [&](const auto& list) {
    Each(list[1], "\\w+", [&](const auto& label) { expect_label(label[0]); });
  });
}

TEST(Metrics, TheDashboardAsksForWhatThereIs) {
  const auto dashboard = nlohmann::json::parse(ReadText("deploy/grafana/callout-host.json"));
  size_t expressions = 0;
  std::set<int> ids;
  for (const auto& panel : dashboard["panels"]) {
    EXPECT_TRUE(ids.insert(panel["id"].get<int>()).second) << panel["title"];
    if (panel["type"] == "row") continue;
    const std::string title = panel["title"];
    EXPECT_EQ(panel["datasource"]["uid"], "${datasource}") << title;
    for (const auto& target : panel["targets"]) {
      ++expressions;
      ExpectServed(title, target["expr"]);
      // A legend names labels that the expression keeps.
      Each(target["legendFormat"], "\\{\\{(\\w+)\\}\\}", [&](const auto& label) {
        const std::string expression = target["expr"];
        const std::regex kept("by \\([^)]*\\b" + label[1].str() + "\\b[^)]*\\)");
        EXPECT_TRUE(std::regex_search(expression, kept) ||
                    expression.find("by (") == std::string::npos)
            << title << ": " << label[1];
      });
    }
  }
  EXPECT_GT(expressions, 20u);
  for (const auto& variable : dashboard["templating"]["list"]) {
    if (variable["type"] != "query") continue;
    ExpectServed(variable["name"], variable["definition"]);
  }
}

TEST(Metrics, TheAlertsAskForWhatThereIs) {
  const std::string rules = ReadText("deploy/prometheus/alerts.yaml");
  size_t alerts = 0;
  Each(rules, "- alert: (\\w+)\\n\\s+expr: (>-\\n(?:\\s{6}.*\\n)+|.*\\n)", [&](const auto& rule) {
    ++alerts;
    ExpectServed(rule[1], rule[2]);
  });
  size_t all = 0;
  Each(rules, "- alert:", [&](const auto&) { ++all; });
  EXPECT_EQ(alerts, all);
  EXPECT_GT(alerts, 10u);
}

// Prometheus' own checker; "" if there is none.
std::string Promtool() {
  if (const char* given = std::getenv("CALLOUT_PROMTOOL"); given != nullptr) return given;
  for (const char* path : {CALLOUT_SOURCE_ROOT "/.venv/bin/promtool", "/usr/bin/promtool"}) {
    if (std::filesystem::exists(path)) return path;
  }
  return "";
}

TEST(Metrics, PromtoolAcceptsTheRulesAndTheirTestsAndThePage) {
  const std::string promtool = Promtool();
  if (promtool.empty()) {
    const char* ci = std::getenv("CI");
    ASSERT_FALSE(ci != nullptr && std::string(ci) == "true") << "scripts/setup installs promtool";
    GTEST_SKIP() << "no promtool; scripts/setup installs it";
  }
  const std::string rules = CALLOUT_SOURCE_ROOT "/deploy/prometheus/alerts";
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{promtool, "check", "rules", rules + ".yaml"},
        {promtool, "test", "rules", rules + "_test.yaml"}}) {
    ChildProcess check(command);
    EXPECT_EQ(check.AwaitEnd(), 0) << check.Output();
  }
  TestHost host({"--plugin=moody=" + BuiltFile("tests/integration/moody.so")});
  Ask(&host, "deny");
  ChildProcess check({"/bin/sh", "-c", "curl -sS \"http://$0/metrics\" | \"$1\" check metrics",
                      host.address("admin"), promtool});
  EXPECT_EQ(check.AwaitEnd(), 0) << check.Output();
}

TEST(Metrics, HaveTheTimeOfDeferredCalls) {
  TestHost host(
      {"--plugin=moody=" + BuiltFile("tests/integration/moody.so"), "--hook_deadline_ms=20000"});
  constexpr int kCalls = 3;
  for (int i = 0; i < kCalls; ++i) Ask(&host, "defer");
  const std::string admin = host.address("admin");
  const std::string labels = "{phase=\"request_headers\",plugin=\"moody\"}";
  // The plugin sleeps for 20 ms each.
  constexpr double kSlept = kCalls * 0.02;
  EXPECT_GE(MetricOf(admin, "callout_call_seconds_sum" + labels), kSlept);
  EXPECT_GE(MetricOf(admin, "callout_message_seconds_sum{phase=\"request_headers\"}"), kSlept);
  EXPECT_GE(MetricOf(admin, "callout_call_wait_seconds_total" + labels), kSlept * 0.9);
  EXPECT_EQ(MetricOf(admin, "callout_calls_deferred_total" + labels), kCalls);
}

TEST(Metrics, SayWhoRefusesAndWhoFails) {
  TestHost host({"--plugin=moody=" + BuiltFile("tests/integration/moody.so"),
                 "--on_plugin_error=moody=deny:503"});
  for (const char* what : {"deny", "deny", "fail", ""}) Ask(&host, what);
  const std::string admin = host.address("admin");
  const auto calls = [&](const std::string& outcome) {
    return MetricOf(admin, "callout_calls_total{outcome=\"" + outcome +
                               "\",phase=\"request_headers\",plugin=\"moody\"}");
  };
  EXPECT_EQ(calls("immediate"), 2);
  EXPECT_EQ(calls("fault"), 1);
  EXPECT_EQ(calls("changed"), 1);
  EXPECT_EQ(MetricOf(admin, "callout_denials_total{by=\"plugin\",plugin=\"moody\",status=\"403\"}"),
            2);
  EXPECT_EQ(MetricOf(admin, "callout_denials_total{by=\"policy\",plugin=\"moody\",status=\"503\"}"),
            1);
}

}  // namespace
}  // namespace callout::tests
