// SPDX-License-Identifier: Apache-2.0

#include "host/admin/html.h"

#include <gtest/gtest.h>

namespace callout::host {
namespace {

TEST(Html, ShowsMarkupAsItIsWritten) {
  EXPECT_EQ(EscapeHtml("a<b>&\"'"), "a&lt;b&gt;&amp;&quot;&#39;");
  EXPECT_EQ(EscapeHtml("</script><script>alert(1)</script>"),
            "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;");
  EXPECT_EQ(EscapeHtml("plain ünïcode"), "plain ünïcode");
}

TEST(Html, ShowsControlCharactersAndInvalidBytesAsEscapes) {
  EXPECT_EQ(EscapeHtml("a\nb\x01"), "a\\x0ab\\x01");
  EXPECT_EQ(EscapeHtml("\xff<"), "\\xff&lt;");
  EXPECT_EQ(EscapeHtml("\xe2\x80\xae"), "\\xe2\\x80\\xae");  // right-to-left override
}

// Of "alert('Hello, world.');", as the specification of CSP has it.
TEST(Html, HashesAsTheSpecificationDoes) {
  EXPECT_EQ(CspHash("alert('Hello, world.');"),
            "sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng=");
}

}  // namespace
}  // namespace callout::host
