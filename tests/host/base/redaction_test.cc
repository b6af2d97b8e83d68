// SPDX-License-Identifier: Apache-2.0

#include "host/base/redaction.h"

#include <gtest/gtest.h>

namespace callout::host {
namespace {

TEST(Redaction, HidesCredentialsByTheirNames) {
  const Redaction redaction;
  for (const char* name : {"authorization", "Proxy-Authorization", "cookie", "set-cookie",
                           "x-api-key", "x-amz-security-token", "x-callout-debug", "query"}) {
    EXPECT_TRUE(redaction.Hides(name)) << name;
    EXPECT_EQ(redaction.Shown(name, "secret"), "[redacted]") << name;
  }
  for (const char* name : {"accept", ":method", "x-request-id", "content-type"}) {
    EXPECT_FALSE(redaction.Hides(name)) << name;
    EXPECT_EQ(redaction.Shown(name, "text"), "text") << name;
  }
}

TEST(Redaction, LeavesQueriesAndUsersOutOfUrls) {
  const Redaction redaction;
  EXPECT_EQ(redaction.Shown(":path", "/a?b=c"), "/a?[redacted]");
  EXPECT_EQ(redaction.Shown("path", "/a?b=c"), "/a?[redacted]");  // an attribute of Envoy
  EXPECT_EQ(redaction.Shown("location", "https://me:pw@host/x#y"),
            "https://[redacted]@host/x#[redacted]");
  EXPECT_EQ(redaction.Shown("x-text", "what? this"), "what? this");
}

TEST(Redaction, WithoutPatternsHidesOnlyTheKeyOfExplanations) {
  const Redaction redaction(std::vector<std::string>{});
  EXPECT_TRUE(redaction.empty());
  EXPECT_EQ(redaction.Shown("authorization", "a"), "a");
  EXPECT_EQ(redaction.Shown(":path", "/a?b"), "/a?b");
  EXPECT_EQ(redaction.Shown("X-Callout-Debug", "key"), "[redacted]");
}

TEST(Redaction, MatchesPatternsAtEitherEnd) {
  const Redaction redaction({"x-*", "*-id", "*mid*", "whole"});
  for (const char* name : {"x-a", "a-id", "amidst", "whole"}) {
    EXPECT_TRUE(redaction.Hides(name)) << name;
  }
  for (const char* name : {"ax-", "id-a", "holewhole"}) {
    EXPECT_FALSE(redaction.Hides(name)) << name;
  }
}

}  // namespace
}  // namespace callout::host
