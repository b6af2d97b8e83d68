// SPDX-License-Identifier: Apache-2.0

// Every page: its links lead somewhere. The plugins' pages: the host takes the command line that
// each of them gives. docs/upstreams.md: the host takes the example.
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "page.h"

namespace callout::tests {
namespace {

namespace fs = std::filesystem;

// Paths of Markdown files, from the top of the sources.
std::vector<std::string> PagesOf(const std::string& folder) {
  std::vector<std::string> pages;
  for (const fs::directory_entry& entry : fs::directory_iterator(SourceFile(folder))) {
    if (entry.path().extension() == ".md") {
      pages.push_back((fs::path(folder) / entry.path().filename()).lexically_normal().string());
    }
  }
  std::sort(pages.begin(), pages.end());
  return pages;
}

std::vector<std::string> PluginPages() {
  std::vector<std::string> pages;
  for (const fs::directory_entry& entry : fs::directory_iterator(SourceFile("plugins"))) {
    if (!entry.is_directory()) continue;
    for (const std::string& page : PagesOf("plugins/" + entry.path().filename().string())) {
      pages.push_back(page);
    }
  }
  std::sort(pages.begin(), pages.end());
  return pages;
}

std::vector<std::string> EveryPage() {
  std::vector<std::string> pages = PluginPages();
  for (const char* folder : {".", "docs", "plugin_api", "plugins"}) {
    for (const std::string& page : PagesOf(folder)) pages.push_back(page);
  }
  return pages;
}

std::string TestName(const testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  std::replace_if(
      name.begin(), name.end(),
      [](char c) { return std::isalnum(static_cast<unsigned char>(c)) == 0; }, '_');
  return name;
}

class AnyPage : public Page, public testing::WithParamInterface<std::string> {
 protected:
  AnyPage() : Page(GetParam()) {}
};

class Links : public AnyPage {};

// So many links at the least: else they were not found.
size_t LinksMin(const std::string& page) {
  static const std::map<std::string, size_t> kMin = {
      {"README.md", 6},
      {"UPGRADING.md", 1},
      {"docs/coming-from-the-samples.md", 2},
      {"docs/deploy.md", 9},
      {"docs/operations.md", 11},
      {"docs/options.md", 6},
      {"docs/recordings.md", 11},
      {"docs/testing.md", 6},
      {"docs/writing-plugins-in-go.md", 11},
      {"docs/writing-plugins-in-rust.md", 11},
      {"docs/writing-plugins.md", 11},
  };
  const auto found = kMin.find(page);
  return found == kMin.end() ? 0 : found->second;
}

TEST_P(Links, LeadSomewhere) { EXPECT_GE(ExpectLinksLead(), LinksMin(GetParam())); }

INSTANTIATE_TEST_SUITE_P(EveryPage, Links, testing::ValuesIn(EveryPage()), TestName);

class PluginPage : public AnyPage {
 protected:
  // The first command that runs the host: indented lines, up to an empty one.
  std::string HostCommand() const {
    std::istringstream lines(text_);
    std::string command;
    for (std::string line; std::getline(lines, line);) {
      if (command.empty() && !line.starts_with("    build/host/callout-host")) continue;
      if (line.empty()) break;
      command += line + "\n";
    }
    if (!command.empty()) command.pop_back();
    return command;
  }
};

// The files that the command names and the page leaves to the reader.
const std::map<std::string, std::string>& FilesOfTheReader() {
  static const std::map<std::string, std::string> kFiles = {
      {"plugins/ai_gateway/README.md",
       "umask 077; echo key >openai.key; echo key >anthropic.key\n"},
      {"plugins/oauth2_introspect/README.md", "chmod 600 introspect.json\n"},
      {"plugins/jwt_auth/README.md",
       "openssl genrsa 2048 2>/dev/null | openssl rsa -pubout -out key.pem 2>/dev/null\n"},
  };
  return kFiles;
}

TEST_P(PluginPage, HasACommandThatTheHostTakes) {
  std::string command = HostCommand();
  ASSERT_NE(command, "") << GetParam() << " does not say how to run the plugin";
  // The operator's files are the page's.
  const std::string operators = "/etc/callout-host/";
  for (size_t at = 0; (at = command.find(operators, at)) != std::string::npos;) {
    command.replace(at, operators.size(), "");
  }
  const size_t plugin = command.find("build/plugins/");
  ASSERT_NE(plugin, std::string::npos) << command;
  const std::string file = command.substr(plugin, command.find(".so", plugin) + 3 - plugin);
  if (!fs::exists(dir_.Path(file))) GTEST_SKIP() << file << " is not built here";
  const auto files = FilesOfTheReader().find(GetParam());
  const std::string prepare = files == FilesOfTheReader().end() ? "" : files->second;
  const Finished finished = Run(prepare + command + " --check");
  EXPECT_EQ(finished.exit_status, 0) << command << "\n" << finished.output;
}

INSTANTIATE_TEST_SUITE_P(EveryPlugin, PluginPage, testing::ValuesIn(PluginPages()), TestName);

class Upstreams : public Page {
 protected:
  Upstreams() : Page("docs/upstreams.md") {}
};

TEST_F(Upstreams, TheExampleIsValid) {
  const auto example = std::find_if(blocks_.begin(), blocks_.end(),
                                    [](const Block& block) { return block.language == "json"; });
  ASSERT_NE(example, blocks_.end());
  const std::string authority = "/etc/callout-host/idp-ca.pem";
  const size_t at = example->text.find(authority);
  ASSERT_NE(at, std::string::npos) << example->text;
  std::string text = example->text;
  text.replace(at, authority.size(), dir_.Path("ca.pem"));
  const Finished finished =
      Run("openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out ca.pem -subj /CN=idp "
          "2>/dev/null\n"
          "cat >upstreams.json <<'END'\n" +
          text +
          "END\n"
          "build/host/callout-host --check --plugin=build/plugins/basic.so "
          "--upstreams=upstreams.json");
  EXPECT_EQ(finished.exit_status, 0) << finished.output;
}

}  // namespace
}  // namespace callout::tests
