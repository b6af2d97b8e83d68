// SPDX-License-Identifier: Apache-2.0

// docs/coming-from-the-samples.md: what it says is here, is here.
#include <gmock/gmock.h>

#include <filesystem>
#include <regex>
#include <string>

#include "page.h"

namespace callout::tests {
namespace {

using ::testing::HasSubstr;

class ComingFromTheSamples : public Page {
 protected:
  ComingFromTheSamples() : Page("docs/coming-from-the-samples.md") {}

  // Calls `take` with every match's first group; returns how many there were.
  template <class Take>
  static size_t ForEach(const std::string& text, const std::string& pattern, Take take) {
    const std::regex regex(pattern);
    size_t count = 0;
    for (std::sregex_iterator it(text.begin(), text.end(), regex), end; it != end; ++it, ++count) {
      take((*it)[1].str());
    }
    return count;
  }

  // From the heading to the next.
  std::string Section(const std::string& heading) const {
    const size_t begin = text_.find("\n## " + heading + "\n");
    EXPECT_NE(begin, std::string::npos) << heading;
    return text_.substr(begin, text_.find("\n## ", begin + 1) - begin);
  }
};

TEST_F(ComingFromTheSamples, TheScriptRunsAsItStands) {
  if (!std::filesystem::exists(BuiltPlugin("python"))) {
    GTEST_SKIP() << "plugins/python is not built: libpython3-dev is missing";
  }
  RunAll();
}

TEST_F(ComingFromTheSamples, EveryOptionIsOneOfTheHost) {
  const std::string help = RunHost({"--help"}).output;
  const size_t count = ForEach(text_, "`--([a-z_]+)", [&](const std::string& name) {
    EXPECT_THAT(help, HasSubstr("--" + name + " "));
  });
  EXPECT_GE(count, 11u);
}

TEST_F(ComingFromTheSamples, EveryToolAndHookIsInTheHeaders) {
  std::string headers;
  for (const auto& file : std::filesystem::directory_iterator(SourceFile("plugin_api/callout"))) {
    headers += ReadAll(file.path());
  }
  const auto in_headers = [&](const std::string& name) {
    EXPECT_TRUE(std::regex_search(headers, std::regex("\\b" + name + "\\b"))) << name;
  };
  EXPECT_GE(ForEach(text_, "(?:^|[^.\\w])(callout_[a-z_]+)\\b", in_headers), 15u);
  EXPECT_GE(ForEach(text_, "`(CALLOUT_ON_[A-Z_]+)", in_headers), 7u);
  EXPECT_GE(ForEach(text_, "`callout::([a-z_]+)", in_headers), 7u);
  EXPECT_GE(ForEach(text_, "`call\\.([a-z_]+)", in_headers), 5u);
}

TEST_F(ComingFromTheSamples, EverySampleIsAPlugin) {
  size_t count = 0;
  ForEach(Section("Samples"), "\\n\\|[^|]*\\|([^|]*)\\|", [&](const std::string& here) {
    count += ForEach(here, "`([a-z_]+)`", [](const std::string& name) {
      EXPECT_TRUE(std::filesystem::is_directory(SourceFile("plugins/" + name))) << name;
    });
  });
  EXPECT_GE(count, 14u);
}

}  // namespace
}  // namespace callout::tests
