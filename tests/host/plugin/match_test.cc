// SPDX-License-Identifier: Apache-2.0

// A client must not decide, by how it writes a path or a host, which instances see its request.
#include "host/plugin/match.h"

#include <gtest/gtest.h>

#include "host/wire/check_request.h"

namespace callout::host {
namespace {

bool Matches(const StreamMatch& match, const CheckHeaders& headers) {
  const std::string message = WriteHttpHeaders(headers, true);
  RequestView view;
  view.phase = CALLOUT_REQUEST_HEADERS;
  view.message = message;
  return StreamFacts(view).Match(match);
}

bool MatchesPath(const std::string& prefix, const std::string& path) {
  StreamMatch match;
  match.path_prefixes = {"/other", prefix};
  return Matches(match, {{":path", path}});
}

bool MatchesHost(const std::string& host, const std::string& authority) {
  StreamMatch match;
  match.hosts = {"other.example.com", host};
  return Matches(match, {{":authority", authority}});
}

TEST(Match, APrefixMatchesEveryWayToWriteThePath) {
  for (const char* path :
       {"/admin/x",           "/admin/",       "/admin/?q=/public", "/%61dmin/x",
        "/%61%64%6D%69%6e/x", "//admin/x",     "///admin//x",       "/./admin/x",
        "/.//./admin/x",      "/x/../admin/x", "/x/%2e%2e/admin/x", "/x/.%2E/admin/x",
        "/x/..%2fadmin/x",    "/admin%2fx",    "/admin%2F",         "/admin;a=1/x",
        "/x;a/..;b/admin/x",  "/\\admin\\x",   "/%5cadmin%5Cx",     "/../../admin/x",
        "/admin/x/..",        "/admin/.",      "/admin/%",          "/%61dmin/%zz",
        "/admin/../public"}) {
    EXPECT_TRUE(MatchesPath("/admin/", path)) << path;
  }
}

TEST(Match, APrefixMatchesNoOtherPath) {
  for (const char* path : {"", "/", "*", "/admin", "/Admin/x", "/administrator/x", "/x/admin/x",
                           "/%2561dmin/x", "/x?/admin/", "/x?/../admin/x", "/x/%3f/../../adm/",
                           "/%", "/%6", "/%6g", "/..", "/.", "//", "/;/", "/public/%2e/x"}) {
    EXPECT_FALSE(MatchesPath("/admin/", path)) << path;
  }
}

TEST(Match, APrefixMayBeWrittenInSeveralWaysToo) {
  EXPECT_TRUE(MatchesPath("/%7Eada/", "/~ada/x"));
  EXPECT_TRUE(MatchesPath("/%7Eada/", "/%7Eada/x"));
  EXPECT_TRUE(MatchesPath("/%7Eada/", "/%7eada/x"));
  EXPECT_TRUE(MatchesPath("/a//b", "/a/b"));
  EXPECT_TRUE(MatchesPath("/a//b", "/a//b"));
  EXPECT_TRUE(MatchesPath("/v1", "/v1beta")) << "a prefix of bytes, not of segments";
  EXPECT_TRUE(MatchesPath("/search?q=", "/search?q=x")) << "as it came";
  EXPECT_TRUE(MatchesPath("/", "/%"));
  EXPECT_FALSE(MatchesPath("/%7Eada/", "/ada/x"));
}

TEST(Match, AHostMatchesEveryWayToWriteIt) {
  for (const char* authority : {"example.com", "EXAMPLE.com", "example.com:8443", "example.com.",
                                "example.com.:8443", "example.com..", "ada@example.com",
                                "ada:pw@Example.com:80", "example.com:80:80", "example.com:"}) {
    EXPECT_TRUE(MatchesHost("example.com", authority)) << authority;
  }
  EXPECT_TRUE(MatchesHost("example.com.", "example.com"));
  EXPECT_TRUE(MatchesHost("[::1]", "[::1]:80"));
  EXPECT_TRUE(MatchesHost("[::1]", "[::1]"));
  for (const char* authority : {"", ".", "example.org", "www.example.com", "example.com.evil.org",
                                "example.com@evil.org", "example.co", "[::1]"}) {
    EXPECT_FALSE(MatchesHost("example.com", authority)) << authority;
  }
}

TEST(Match, WhatTheMessageDoesNotHaveMatchesNothing) {
  StreamMatch match;
  match.path_prefixes = {"/"};
  EXPECT_FALSE(Matches(match, {{"x", "/"}}));
  match.path_prefixes.clear();
  match.hosts = {"example.com"};
  EXPECT_FALSE(Matches(match, {{":path", "/"}}));
  EXPECT_TRUE(Matches(match, {{"host", "example.com."}}));
}

}  // namespace
}  // namespace callout::host
