// SPDX-License-Identifier: Apache-2.0

#include "host/ops/admin.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <string>

namespace callout::host {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

double Refused(const Metrics& metrics, const std::string& reason) {
  for (const auto& family : metrics.Collect()) {
    if (family.name != "callout_admin_refused_total") continue;
    for (const auto& metric : family.metric) {
      if (metric.label.at(0).value == reason) return metric.counter.value;
    }
  }
  return -1;
}

class AdminPagesTest : public ::testing::Test {
 protected:
  HttpResponse Get(const std::string& target) { return pages_.MakeHandler()({"GET", target}); }

  Health health_;
  AdminPages pages_{&health_};
};

TEST_F(AdminPagesTest, LiveIsAlways200) {
  for (auto state : {Health::State::kStarting, Health::State::kReady, Health::State::kDraining}) {
    health_.Set(state);
    EXPECT_EQ(Get("/live").status, 200u);
  }
}

TEST_F(AdminPagesTest, ReadySaysTheState) {
  EXPECT_EQ(Get("/ready").status, 503u);
  EXPECT_EQ(Get("/ready").body, "starting\n");
  health_.Set(Health::State::kReady);
  EXPECT_EQ(Get("/ready").status, 200u);
  EXPECT_EQ(Get("/ready").body, "ready\n");
  health_.Set(Health::State::kDraining);
  EXPECT_EQ(Get("/ready").status, 503u);
  EXPECT_EQ(Get("/ready").body, "draining\n");
}

TEST_F(AdminPagesTest, PagesAreAddedAndListed) {
  pages_.Add("/plugins", "loaded plugins", [](const HttpRequestView& request) {
    HttpResponse response;
    response.body = std::string(request.target);
    return response;
  });
  EXPECT_EQ(Get("/plugins?verbose").body, "/plugins?verbose");
  const std::string list = Get("/").body;
  EXPECT_THAT(list, StartsWith("/            this list\n"));
  for (const char* line : {"\n/live ", "\n/ready ", "\n/plugins     loaded plugins\n"}) {
    EXPECT_THAT(list, HasSubstr(line));
  }
}

TEST_F(AdminPagesTest, UnknownPathsAre404) {
  for (const char* target : {"/nothing", "/live/", "", "live", "/liv", "*"}) {
    EXPECT_EQ(Get(target).status, 404u) << target;
  }
}

// DNS rebinding: a page of a stranger's asks the browser's machine under the stranger's name.
TEST_F(AdminPagesTest, PagesAreGivenUnderTheHostsOwnNamesOnly) {
  Metrics metrics;
  const AdminPages pages(&health_, &metrics, {"Admin.Example", "b:80"});
  char own[256] = {};
  ASSERT_EQ(gethostname(own, sizeof(own) - 1), 0);
  for (const std::string host :
       {"", "localhost", "LOCALHOST.:9902", "127.0.0.1", "10.1.2.3:80", "[::1]:9902", "[fe80::1]",
        "admin.example:1", "ADMIN.EXAMPLE", "b", static_cast<const char*>(own)}) {
    EXPECT_EQ(pages.Response({"GET", "/", host}).status, 200u) << host;
  }
  size_t refused = 0;
  for (const std::string host :
       {"attacker.example", "attacker.example:9902", "localhost.attacker.example",
        "127.0.0.1.nip.io", "0x7f.1", "127.1", ",", "[::1].attacker.example.", "[", "[]", ":",
        "xlocalhost"}) {
    EXPECT_EQ(pages.Response({"GET", "/", host}).status, 421u) << host;
    EXPECT_EQ(pages.Response({"GET", "/live", host}).status, 200u) << host;
    EXPECT_EQ(pages.Response({"GET", "/ready", host}).status, 503u) << host;
    ++refused;
  }
  EXPECT_EQ(Refused(metrics, "host"), static_cast<double>(refused));
}

// --- Actions ---

class AdminActionsTest : public ::testing::Test {
 protected:
  AdminActionsTest() { Add(&pages_), Add(&closed_); }
  void Add(AdminPages* pages) {
    pages->AddAction("/act", "does something", [this](const HttpRequestView& request) {
      HttpResponse response;
      response.body = "did " + std::string(request.body);
      ++acted_;
      return response;
    });
  }
  static HttpRequestView Post() {
    return {.method = "POST", .target = "/act", .host = "localhost:9902"};
  }

  int acted_ = 0;
  Health health_;
  Metrics metrics_;
  AdminPages pages_{&health_, &metrics_, {}, /*writes=*/true};
  Metrics closed_metrics_;
  AdminPages closed_{&health_, &closed_metrics_};
};

TEST_F(AdminActionsTest, AnswerPostAlone) {
  HttpRequestView request = Post();
  request.content_type = "application/x-www-form-urlencoded";
  request.body = "a=b";
  EXPECT_EQ(pages_.Response(request).body, "did a=b");
  request.method = "GET";
  EXPECT_EQ(pages_.Response(request).status, 405u);
  EXPECT_EQ(pages_.Response(request).allow, "POST");
  EXPECT_EQ(acted_, 1);
}

TEST_F(AdminActionsTest, NeedTheOperatorsLeave) {
  EXPECT_EQ(closed_.Response(Post()).status, 403u);
  EXPECT_EQ(acted_, 0);
  EXPECT_EQ(Refused(closed_metrics_, "writes_off"), 1);
}

TEST_F(AdminActionsTest, ListsThem) {
  EXPECT_THAT(pages_.Response({"GET", "/"}).body, HasSubstr("/act         POST: does something\n"));
}

// A page of a stranger's, in the browser of somebody who can reach this host.
TEST_F(AdminActionsTest, AreRefusedToOtherSites) {
  int refused = 0;
  for (const char* site : {"cross-site", "same-site", "none", "junk", ","}) {
    HttpRequestView request = Post();
    request.sec_fetch_site = site;
    EXPECT_EQ(pages_.Response(request).status, 403u) << site;
    ++refused;
  }
  for (const char* origin :
       {"http://attacker.example", "null", "http://localhost", "http://localhost:9903",
        "localhost:9902", "http://localhost:9902.attacker.example", ",", "http://"}) {
    HttpRequestView request = Post();
    request.origin = origin;
    EXPECT_EQ(pages_.Response(request).status, 403u) << origin;
    // Nor if one of the two headers is right.
    request.sec_fetch_site = "same-origin";
    EXPECT_EQ(pages_.Response(request).status, 403u) << origin;
    refused += 2;
  }
  HttpRequestView no_host = Post();
  no_host.host = "";
  no_host.origin = "http://localhost:9902";
  EXPECT_EQ(pages_.Response(no_host).status, 403u);
  ++refused;
  EXPECT_EQ(acted_, 0);
  EXPECT_EQ(Refused(metrics_, "cross_site"), refused);
}

TEST_F(AdminActionsTest, AreForTheirOwnPageAndForOtherClients) {
  for (const char* origin : {"http://localhost:9902", "https://LOCALHOST:9902", ""}) {
    HttpRequestView request = Post();
    request.origin = origin;
    EXPECT_EQ(pages_.Response(request).status, 200u) << origin;
    request.sec_fetch_site = "same-origin";
    EXPECT_EQ(pages_.Response(request).status, 200u) << origin;
  }
}

TEST_F(AdminActionsTest, AreRefusedUnderAForeignHost) {
  HttpRequestView request = Post();
  request.host = "attacker.example";
  request.origin = "http://attacker.example";
  EXPECT_EQ(pages_.Response(request).status, 421u);
  EXPECT_EQ(acted_, 0);
}

TEST_F(AdminActionsTest, TakeFormsAlone) {
  HttpRequestView request = Post();
  request.body = "{}";
  request.content_type = "text/plain";
  EXPECT_EQ(pages_.Response(request).status, 415u);
  EXPECT_EQ(acted_, 0);
}

TEST_F(AdminPagesTest, GivesThePageForPeopleToClientsThatAcceptHtml) {
  pages_.SetFrontPage([](const HttpRequestView&) {
    HttpResponse response;
    response.body = "<html>";
    return response;
  });
  HttpRequestView request{.method = "GET", .target = "/"};
  for (const char* accept : {"", "*/*", "application/json", "text/plain"}) {
    request.accept = accept;
    EXPECT_THAT(pages_.Response(request).body, StartsWith("/ ")) << accept;
  }
  request.accept = "text/html,application/xhtml+xml,*/*;q=0.8";
  EXPECT_EQ(pages_.Response(request).body, "<html>");
}

TEST_F(AdminPagesTest, OtherMethodsAreNotAllowed) {
  const HttpResponse response = pages_.Response({"POST", "/live"});
  EXPECT_EQ(response.status, 405u);
  EXPECT_EQ(response.allow, "GET, HEAD");
}

}  // namespace
}  // namespace callout::host
