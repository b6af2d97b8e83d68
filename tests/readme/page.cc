// SPDX-License-Identifier: Apache-2.0

#include "page.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>

namespace callout::tests {
namespace {

namespace fs = std::filesystem;

std::vector<Block> ReadBlocks(const std::string& path, const std::string& text) {
  std::istringstream lines(text);
  const std::regex marker("<!-- (file|hook|envoy|prints)(?:: (\\S+))? -->");
  std::vector<Block> blocks;
  Block next;
  std::string line;
  bool inside = false;
  while (std::getline(lines, line)) {
    std::smatch match;
    if (line.starts_with("```")) {
      inside = !inside;
      if (!inside) continue;
      next.language = line.substr(3);
      blocks.push_back(std::exchange(next, {}));
    } else if (inside) {
      blocks.back().text += line + "\n";
    } else if (std::regex_match(line, match, marker)) {
      next.marker = match[1];
      next.name = match[2];
    }
  }
  EXPECT_FALSE(inside) << "a block of " << path << " has no end";
  return blocks;
}

// The line as a pattern.
std::regex Pattern(const std::string& line) {
  static const std::regex special(R"([.^$|()\[\]{}*+?\\])");
  const std::string escaped = std::regex_replace(line, special, R"(\$&)");
  return std::regex(std::regex_replace(escaped, std::regex("…"), ".*"));
}

// As the sites that show Markdown name a heading's anchor.
std::string Anchor(const std::string& heading) {
  std::string anchor;
  for (const char c : heading) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == ' ') anchor += '-';
    if (std::isalnum(byte) || c == '-' || c == '_') anchor += static_cast<char>(std::tolower(byte));
  }
  return anchor;
}

std::set<std::string> Anchors(const std::string& text) {
  std::set<std::string> anchors;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const size_t level = line.find_first_not_of('#');
    if (level > 0 && level != std::string::npos && line[level] == ' ') {
      anchors.insert(Anchor(line.substr(level + 1)));
    }
  }
  return anchors;
}

}  // namespace

std::string SourceFile(const std::string& path) {
  return std::string(CALLOUT_SOURCE_ROOT) + "/" + path;
}

std::string ReadAll(const std::string& path) {
  std::ifstream in(path);
  EXPECT_TRUE(in) << path;
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

testing::AssertionResult Prints(const std::string& output, const std::string& lines) {
  std::istringstream expected(lines), printed(output);
  for (std::string line; std::getline(expected, line);) {
    const std::regex pattern = Pattern(line);
    std::string candidate;
    bool found = false;
    while (!found && std::getline(printed, candidate)) {
      found = std::regex_search(candidate, pattern);
    }
    if (!found) return testing::AssertionFailure() << "missing: " << line << "\nin: " << output;
  }
  return testing::AssertionSuccess();
}

Page::Page(const std::string& path)
    : path_(path), text_(ReadAll(SourceFile(path))), blocks_(ReadBlocks(path, text_)) {
  for (const char* name : {"plugin_api", "scripts"}) {
    fs::create_symlink(SourceFile(name), dir_.Path(name));
  }
  fs::create_symlink(fs::path(BuiltFile("host")).parent_path(), dir_.Path("build"));
  for (const Block& block : blocks_) {
    if (block.marker != "file") continue;
    fs::create_directories(fs::path(dir_.Path(block.name)).parent_path());
    std::ofstream(dir_.Path(block.name)) << block.text;
  }
}

Finished Page::Run(const std::string& commands) {
  // A command that fails must not leave the jobs before it behind.
  const std::string stop_jobs =
      "trap 'status=$?; kill $(jobs -p) 2>/dev/null || true; exit $status' EXIT\n";
  ChildProcess shell({"/bin/bash", "-euc", "cd '" + dir_.Path("") + "'\n" + stop_jobs + commands});
  const int status = shell.AwaitEnd();
  return {status, shell.Output()};
}

std::vector<std::string> Page::Commands() const {
  std::vector<std::string> commands;
  for (const Block& block : blocks_) {
    if (block.language == "sh" && !block.text.starts_with("scripts/")) {
      commands.push_back(block.text);
    }
  }
  return commands;
}

void Page::RunAll(const std::string& prefix) {
  for (size_t i = 0; i < blocks_.size(); ++i) {
    const Block& block = blocks_[i];
    if (block.language != "sh" || block.text.starts_with("scripts/")) continue;
    if (!block.text.starts_with(prefix)) continue;
    const Finished finished = Run(block.text);
    ASSERT_EQ(finished.exit_status, 0) << block.text << finished.output;
    if (i + 1 == blocks_.size() || blocks_[i + 1].marker != "prints") continue;
    EXPECT_TRUE(Prints(finished.output, blocks_[i + 1].text)) << block.text;
  }
}

size_t Page::ExpectLinksLead() const {
  const std::string folder = path_.substr(0, path_.rfind('/') + 1);
  const std::regex link(R"(\]\(([^)#: ]*)(?:#([^)]*))?\))");
  size_t found = 0;
  for (std::sregex_iterator it(text_.begin(), text_.end(), link), end; it != end; ++it, ++found) {
    const std::string file = (*it)[1], anchor = (*it)[2];
    const std::string target = SourceFile(file.empty() ? path_ : folder + file);
    EXPECT_TRUE(fs::exists(target)) << path_ << ": " << file;
    if (anchor.empty()) continue;
    EXPECT_TRUE(Anchors(ReadAll(target)).contains(anchor)) << path_ << ": no heading #" << anchor;
  }
  return found;
}

}  // namespace callout::tests
