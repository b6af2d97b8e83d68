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
  for (const auto& family : metrics.Collect()) {
    if (family.name != "callout_admin_refused_total") continue;
    EXPECT_EQ(family.metric.at(0).counter.value, static_cast<double>(refused));
  }
}

TEST_F(AdminPagesTest, OtherMethodsAreNotAllowed) {
  const HttpResponse response = pages_.Response({"POST", "/live"});
  EXPECT_EQ(response.status, 405u);
  EXPECT_EQ(response.allow, "GET, HEAD");
}

}  // namespace
}  // namespace callout::host
