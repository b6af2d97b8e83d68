// SPDX-License-Identifier: Apache-2.0

// The page for people and its actions, of a real host: what it shows, and what a page of somebody
// else's can do to it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <vector>

#include "ext_proc_client.h"
#include "host/admin/admin_site.h"
#include "host_process.h"
#include "http_get.h"
#include "test_host.h"
#include "tests/host/sockets.h"

namespace callout::tests {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

std::string Ask(const std::string& address, const std::string& request) {
  const host::Descriptor client = host::Connect(host::ParsedAddress(address));
  host::Write(client.get(), request);
  return host::ReadToEnd(client.get());
}

std::string GetHtml(const std::string& address, const std::string& headers = "") {
  return Ask(address, "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/html\r\n" + headers +
                          "Connection: close\r\n\r\n");
}

TEST(AdminPage, IsForClientsThatAcceptHtml) {
  TestHost host({});
  const std::string admin = host.address("admin");
  EXPECT_THAT(
      GetHtml(admin),
      AllOf(StartsWith("HTTP/1.1 200 "), HasSubstr("\r\nContent-Type: text/html"),
            HasSubstr("\r\nContent-Security-Policy: default-src 'none'; "),
            HasSubstr("<!doctype html>"), HasSubstr("No plugins: all messages pass unchanged.")));
  EXPECT_THAT(HttpGet(admin, "GET", "/"),
              AllOf(HasSubstr("\r\nContent-Type: text/plain"), HasSubstr("\n/metrics ")));
  EXPECT_THAT(HttpGet(admin, "HEAD", "/"), StartsWith("HTTP/1.1 200 "));
  EXPECT_EQ(host.Terminate(), 0);
}

TEST(AdminPage, ShowsThePluginsTheirFaultsAndTheConfiguration) {
  TestHost host({"--plugin=keeps=" + BuiltFile("tests/integration/hold.so"),
                 "--hook_deadline_ms=20", "--on_plugin_error=keeps=continue"},
                {"CALLOUT_MAX_DEFERRED=77"});
  {
    // Its call is never finished in time.
    LiveStream stream(PlaintextChannel(host.address("plaintext")));
    stream.Exchange(RequestHeaders({{":path", "/"}, {"x-request-id", "<b>me</b>"}}));
    const std::string page = GetHtml(host.address("admin"));
    EXPECT_THAT(page, HasSubstr("<h3>keeps</h3>"));
    EXPECT_THAT(page, HasSubstr("--hook_deadline_ms=20"));  // in the reason of the fault
    EXPECT_THAT(page, HasSubstr("&lt;b&gt;me&lt;/b&gt;"));
    EXPECT_THAT(page, Not(HasSubstr("<b>me")));
    EXPECT_THAT(page, HasSubstr("environment CALLOUT_MAX_DEFERRED"));
    EXPECT_THAT(page, HasSubstr("after request_headers"));  // of the live stream
  }
  host.Signal(SIGKILL);
}

TEST(AdminPage, ListsAStreamThatWaitsForAPlugin) {
  for (const std::string workers : {"--workers=0", "--workers=2"}) {
    TestHost host({"--plugin=keeps=" + BuiltFile("tests/integration/hold.so"),
                   "--hook_deadline_ms=60000", workers});
    LiveStream stream(PlaintextChannel(host.address("plaintext")));
    stream.Send(RequestHeaders({{":path", "/"}}));
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    std::string page;
    while (page.find("<td class=\"t\">keeps: called</td>") == page.npos) {
      page = GetHtml(host.address("admin"));
      ASSERT_LT(std::chrono::steady_clock::now(), give_up) << page;
    }
    EXPECT_THAT(page, HasSubstr("<td>request_headers</td>"));
    stream.Cancel();
    host.Signal(SIGKILL);
  }
}

TEST(AdminPage, ChangesNothingByDefault) {
  TestHost host({});
  const std::string admin = host.address("admin");
  for (const char* action : {"log_level", "drain", "release", "go_back"}) {
    EXPECT_THAT(HttpPost(admin, std::string("/actions/") + action, "level=debug&plugin=p"),
                StartsWith("HTTP/1.1 403 "));
  }
  EXPECT_EQ(MetricOf(admin, "callout_admin_refused_total{reason=\"writes_off\"}"), 4);
  EXPECT_THAT(GetHtml(admin), Not(HasSubstr("<form")));
  EXPECT_EQ(host.Terminate(), 0);
}

TEST(AdminPage, SetsTheLogLevelWhereStreamsAreServed) {
  for (const std::string workers : {"--workers=0", "--workers=2"}) {
    TestHost host({"--admin_writes=on", workers, "--plugin=" + BuiltPlugin("basic")});
    const std::string admin = host.address("admin");
    EXPECT_THAT(HttpPost(admin, "/actions/log_level", "level=debug"), StartsWith("HTTP/1.1 200 "));
    host.AwaitLog("admin: log level debug: done");
    // A worker hears of it and writes its lines in its own time.
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (host.Log().find(" DEBUG ") == std::string::npos) {
      ASSERT_LT(std::chrono::steady_clock::now(), give_up) << host.Log();
      LiveStream stream(PlaintextChannel(host.address("plaintext")));
      stream.Exchange(RequestHeaders({{":path", "/"}}, true));
      stream.Finish();
    }
    EXPECT_THAT(HttpPost(admin, "/actions/log_level", "level=loud"), StartsWith("HTTP/1.1 400 "));
    EXPECT_THAT(HttpPost(admin, "/actions/log_level", ""), StartsWith("HTTP/1.1 400 "));
    EXPECT_THAT(HttpPost(admin, "/actions/log_level", "level=%zz"), StartsWith("HTTP/1.1 400 "));
    EXPECT_EQ(host.Terminate(), 0);
  }
}

TEST(AdminPage, DrainsAsSigtermDoes) {
  TestHost host({"--admin_writes=on"});
  EXPECT_THAT(HttpPost(host.address("admin"), "/actions/drain", "", "Accept: text/html\r\n"),
              AllOf(StartsWith("HTTP/1.1 303 "), HasSubstr("\r\nLocation: /#actions\r\n")));
  EXPECT_EQ(host.AwaitEnd(), 0);
  EXPECT_THAT(host.Log(), HasSubstr("draining: "));
}

TEST(AdminPage, SaysWhyAPluginCannotBeChanged) {
  TestHost host({"--admin_writes=on", "--plugin=" + BuiltPlugin("basic")});
  const std::string admin = host.address("admin");
  EXPECT_THAT(HttpPost(admin, "/actions/go_back", "plugin=basic"),
              AllOf(StartsWith("HTTP/1.1 409 "), HasSubstr("no earlier generation")));
  EXPECT_THAT(HttpPost(admin, "/actions/go_back", "plugin=none"), StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(HttpPost(admin, "/actions/release", "plugin=basic"),
              AllOf(StartsWith("HTTP/1.1 409 "), HasSubstr("not in quarantine")));
  EXPECT_THAT(GetHtml(admin), HasSubstr("take basic back one generation"));
  EXPECT_EQ(host.Terminate(), 0);
}

// --- Under attack ---

TEST(AdminPage, APageOfAnotherSiteChangesNothing) {
  TestHost host({"--admin_writes=on"});
  const std::string admin = host.address("admin");
  int refused = 0;
  for (const char* headers : {"Origin: http://attacker.example\r\n", "Origin: null\r\n",
                              "Sec-Fetch-Site: cross-site\r\n", "Sec-Fetch-Site: same-site\r\n",
                              "Sec-Fetch-Site: same-origin\r\nOrigin: http://attacker.example\r\n",
                              "Origin: http://127.0.0.1\r\nOrigin: http://attacker.example\r\n"}) {
    EXPECT_THAT(HttpPost(admin, "/actions/drain", "", headers), StartsWith("HTTP/1.1 403 "))
        << headers;
    ++refused;
  }
  EXPECT_EQ(MetricOf(admin, "callout_admin_refused_total{reason=\"cross_site\"}"), refused);
  // A form without a POST does nothing either.
  EXPECT_THAT(HttpGet(admin, "GET", "/actions/drain"), StartsWith("HTTP/1.1 405 "));
  EXPECT_THAT(HttpPost(admin, "/actions/log_level", "level=info",
                       "Origin: http://127.0.0.1\r\nSec-Fetch-Site: same-origin\r\n"),
              StartsWith("HTTP/1.1 200 "));
  EXPECT_EQ(host.Terminate(), 0);
  EXPECT_THAT(host.Log(), HasSubstr("admin: POST /actions/drain is refused with 403: another "
                                    "site's page has sent this request (Host '127.0.0.1', Origin "
                                    "'http://attacker.example'"));
}

TEST(AdminPage, AForeignHostSeesAndChangesNothing) {
  TestHost host({"--admin_writes=on"});
  const std::string admin = host.address("admin");
  for (const char* method : {"GET / ", "POST /actions/drain "}) {
    EXPECT_THAT(Ask(admin, std::string(method) +
                               "HTTP/1.1\r\nHost: attacker.example\r\nAccept: text/html\r\n"
                               "Content-Length: 0\r\nConnection: close\r\n\r\n"),
                StartsWith("HTTP/1.1 421 "));
  }
  EXPECT_EQ(MetricOf(admin, "callout_admin_refused_total{reason=\"host\"}"), 2);
  EXPECT_EQ(host.Terminate(), 0);
  EXPECT_THAT(host.Log(), HasSubstr("admin: GET / is refused with 421: this name is not allowed in "
                                    "the Host header; use an IP address, or add the name to "
                                    "--admin_hosts (Host 'attacker.example'"));
}

TEST(AdminPage, HugeHeadersAndBodiesAreRefused) {
  TestHost host({"--admin_writes=on"});
  const std::string admin = host.address("admin");
  EXPECT_THAT(GetHtml(admin, "X: " + std::string(100000, 'x') + "\r\n"),
              StartsWith("HTTP/1.1 431 "));
  EXPECT_THAT(HttpPost(admin, "/actions/log_level", "level=" + std::string(100000, 'x')),
              StartsWith("HTTP/1.1 413 "));
  EXPECT_THAT(GetHtml(admin), StartsWith("HTTP/1.1 200 "));
  EXPECT_EQ(MetricOf(admin, "callout_http_rejected_total{listener=\"admin\",reason=\"request\"}"),
            2);
  EXPECT_EQ(host.Terminate(), 0);
  EXPECT_THAT(host.Log(), HasSubstr("admin listener: a request got 431: "));
}

// --- Forms ---

TEST(ParseForm, ReadsFieldsAndRefusesWhatIsNoForm) {
  const auto form = host::ParseForm("plugin=a+b%2F%3c&level=&x&plugin=c%26&&=y");
  ASSERT_TRUE(form.ok()) << form.status();
  EXPECT_EQ(form->at("plugin"), "c&");
  EXPECT_EQ(form->at("level"), "");
  EXPECT_EQ(form->at("x"), "");
  EXPECT_EQ(form->at(""), "y");
  EXPECT_EQ(host::ParseForm("a=b+c%2F")->at("a"), "b c/");
  for (const char* bad : {"%", "a=%", "a=%1", "a=%zz", "a=% 1", "a=%+1"}) {
    EXPECT_FALSE(host::ParseForm(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace callout::tests
