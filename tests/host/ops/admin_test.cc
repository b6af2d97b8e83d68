#include "host/ops/admin.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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

TEST_F(AdminPagesTest, OtherMethodsAreNotAllowed) {
  const HttpResponse response = pages_.Response({"POST", "/live"});
  EXPECT_EQ(response.status, 405u);
  EXPECT_EQ(response.allow, "GET, HEAD");
}

}  // namespace
}  // namespace callout::host
