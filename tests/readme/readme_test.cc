// README.md as a newcomer uses it: every file it prints is written down, every
// command is run in the order of the page, and what comes of them does what the
// page says.
//
// Blocks that begin with scripts/ set up the machine or take it over, so only
// their presence is checked here; scripts/test is what runs this.
#include <gtest/gtest.h>

#include <regex>
#include <sstream>
#include <string>

#include "page.h"
#include "tests/integration/ext_proc_client.h"
#include "tests/integration/test_host.h"

namespace callout::tests {
namespace {

class Readme : public Page {
 protected:
  Readme() : Page("README.md") {}
};

TEST_F(Readme, EveryCommandWorksAsPrinted) {
  ASSERT_GE(Commands().size(), 4u) << "the page's commands were not found";
  RunAll();
}

TEST_F(Readme, EveryScriptIsThere) {
  size_t found = 0;
  for (const Block& block : blocks_) {
    if (block.language != "sh" || !block.text.starts_with("scripts/")) continue;
    const std::string script = block.text.substr(0, block.text.find_first_of(" \n"));
    EXPECT_EQ(access(SourceFile(script).c_str(), X_OK), 0) << script;
    ++found;
  }
  EXPECT_EQ(found, 3u);
}

TEST_F(Readme, EveryLinkLeadsSomewhere) { EXPECT_GT(ExpectLinksLead(), 5u); }

// Both plugins of the page refuse x-secret and stamp everything else.
void ExpectStamps(TestHost* host, const std::string& stamp) {
  LiveStream stream(PlaintextChannel(host->address("plaintext")));
  const auto answer = stream.Exchange(RequestHeaders({{":path", "/"}, {"x-internal", "1"}}));
  ASSERT_TRUE(answer.has_value());
  const auto& mutation = answer->request_headers().response().header_mutation();
  ASSERT_EQ(mutation.set_headers_size(), 1) << answer->DebugString();
  EXPECT_EQ(mutation.set_headers(0).header().key(), "x-seen-by");
  EXPECT_EQ(mutation.set_headers(0).header().raw_value(), stamp);
  EXPECT_TRUE(stream.Finish().ok());

  LiveStream refused(PlaintextChannel(host->address("plaintext")));
  const auto denied = refused.Exchange(RequestHeaders({{":path", "/"}, {"X-Secret", "1"}}));
  ASSERT_TRUE(denied.has_value());
  EXPECT_EQ(static_cast<int>(denied->immediate_response().status().code()), 403);
  EXPECT_EQ(denied->immediate_response().body(), "no secrets here");
}

TEST_F(Readme, TheCppPluginDoesWhatItSays) {
  RunAll("c++ ");
  TestHost host({"--plugin=" + dir_.Path("guard.so")});
  ExpectStamps(&host, "guard");
  LiveStream stream(PlaintextChannel(host.address("plaintext")));
  const auto request = stream.Exchange(RequestHeaders({{":path", "/"}}));
  ASSERT_TRUE(request.has_value());
  EXPECT_EQ(request->request_headers().response().header_mutation().remove_headers(0),
            "x-internal");
  const auto response = stream.Exchange(ResponseHeaders({{":status", "200"}}));
  ASSERT_TRUE(response.has_value());
  EXPECT_EQ(response->response_headers().response().header_mutation().set_headers(0).header().key(),
            "x-answered-by");
  EXPECT_EQ(host.Terminate(), 0);
}

TEST_F(Readme, TheCPluginDoesWhatItSays) {
  RunAll("cc ");
  TestHost host({"--plugin=" + dir_.Path("stamp.so")});
  ExpectStamps(&host, "stamp");
  EXPECT_EQ(host.Terminate(), 0);
}

// The flags that the page recommends for release builds.
TEST_F(Readme, TheReleaseFlagsHideEverythingElse) {
  const std::string text = ReadAll(SourceFile("README.md"));
  std::smatch flags;
  ASSERT_TRUE(std::regex_search(text, flags, std::regex("`(-O2 [^`]*callout\\.map)`")));
  const Finished built = Run("c++ -shared -fPIC -I plugin_api " + flags.str(1) +
                             " guard.cc -o hidden.so\n"
                             "nm -D --defined-only hidden.so | awk '{print $3}'");
  ASSERT_EQ(built.exit_status, 0) << built.output;
  std::istringstream names(built.output);
  std::string name;
  size_t count = 0;
  while (names >> name) {
    EXPECT_TRUE(name.starts_with("callout_")) << name;
    ++count;
  }
  EXPECT_EQ(count, 3u) << built.output;
}

}  // namespace
}  // namespace callout::tests
