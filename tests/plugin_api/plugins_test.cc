// SPDX-License-Identifier: Apache-2.0

// The plugins of this repository under the fake host: a table for each.
#include <gtest/gtest.h>

#include <callout/testing.hpp>

namespace callout::testing {
namespace {

class Basic : public ::testing::Test {
 protected:
  Plugin plugin_{CALLOUT_PLUGIN_DIR "/basic.so"};
  Stream stream_{plugin_};
};

TEST_F(Basic, ChangesRequestHeaders) {
  const HeaderList before = {
      {":authority", "example.com"}, {":path", "/a"}, {"foo", "1"}, {"kept", "2"}};
  const Answer answer = stream_.request_headers(before);
  EXPECT_EQ(answer.status, CALLOUT_OK);
  EXPECT_EQ(answer.problem, "");
  EXPECT_TRUE(answer.clear_route_cache);
  EXPECT_EQ(answer.apply(before), (HeaderList{{"kept", "2"},
                                              {":authority", "service-extensions.com"},
                                              {":path", "/"},
                                              {"header-request", "request"}}));
}

TEST_F(Basic, ChangesResponseHeaders) {
  const Answer answer = stream_.response_headers({{":status", "200"}});
  EXPECT_EQ(answer.apply({{":status", "200"}}),
            (HeaderList{{":status", "200"}, {"hello", "service-extensions"}}));
  EXPECT_FALSE(answer.clear_route_cache);
}

TEST_F(Basic, ReplacesRequestBodies) {
  const Answer answer = stream_.request_body("anything");
  EXPECT_EQ(answer.body_kind, Answer::Body::kReplaced);
  EXPECT_EQ(answer.body, "replaced-body");
}

TEST_F(Basic, ClearsResponseBodies) {
  EXPECT_EQ(stream_.response_body("anything").body_kind, Answer::Body::kCleared);
}

TEST_F(Basic, LeavesTrailersAlone) {
  EXPECT_TRUE(stream_.request_trailers({{"a", "b"}}).is_empty());
  EXPECT_TRUE(stream_.response_trailers({{"a", "b"}}).is_empty());
}

TEST(MinimalC, StampsRequestsOnly) {
  Plugin plugin(CALLOUT_PLUGIN_DIR "/minimal_c.so");
  Stream stream(plugin);
  const Answer answer = stream.request_headers({{":path", "/"}});
  EXPECT_EQ(answer.apply({{":path", "/"}}),
            (HeaderList{{":path", "/"}, {"x-callout", "minimal-c"}}));
  EXPECT_TRUE(stream.request_body("x").is_empty());
  EXPECT_TRUE(stream.response_headers({}).is_empty());
}

}  // namespace
}  // namespace callout::testing
