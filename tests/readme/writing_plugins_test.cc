// SPDX-License-Identifier: Apache-2.0

// docs/writing-plugins.md: its files are written, its commands run, its fragments
// compiled, and the messages it quotes are those that other tests have seen.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>

#include "page.h"

namespace callout::tests {
namespace {

using ::testing::HasSubstr;

class WritingPlugins : public Page {
 protected:
  WritingPlugins() : Page("docs/writing-plugins.md") {}

  // All fragments of a language, each in a function of its own.
  std::string Fragments(const std::string& language) const {
    static const std::map<std::string, std::string> kTypes = {{"request_headers", "HeadersCall"},
                                                              {"response_headers", "HeadersCall"},
                                                              {"request_body", "BodyCall"},
                                                              {"response_body", "BodyCall"},
                                                              {"request_trailers", "TrailersCall"},
                                                              {"response_trailers", "TrailersCall"},
                                                              {"process", "ProcessCall"}};
    std::ostringstream source;
    size_t count = 0;
    for (const Block& block : blocks_) {
      if (block.marker != "hook" || block.language != language) continue;
      const auto type = kTypes.find(block.name);
      EXPECT_NE(type, kTypes.end()) << block.name;
      if (type == kTypes.end()) continue;
      const std::string head =
          language == "cpp"
              ? fmt::format("void fragment_{}(callout::{}& call)", ++count, type->second)
              : fmt::format("callout_status_t fragment_{}(callout_call_t *call)", ++count);
      source << head << ";\n" << head << " {\n";
      source << block.text << "}\n";
    }
    EXPECT_GT(count, 3u) << language;
    return source.str();
  }

  void ExpectCompiles(const std::string& file, const std::string& source,
                      const std::string& compiler) {
    std::ofstream(dir_.Path(file)) << source;
    const Finished compiled =
        Run(compiler + " -Wall -Wextra -Werror -fsyntax-only -I plugin_api " + file);
    EXPECT_EQ(compiled.exit_status, 0) << compiled.output;
  }
};

TEST_F(WritingPlugins, EveryCommandWorksAsPrinted) {
  ASSERT_GE(Commands().size(), 8u) << "the page's commands were not found";
  RunAll();
}

TEST_F(WritingPlugins, EveryExampleIsAFileOrTheInsideOfAHook) {
  for (const Block& block : blocks_) {
    if (block.language != "c" && block.language != "cpp") continue;
    EXPECT_TRUE(block.marker == "file" || block.marker == "hook") << block.text;
    if (block.marker != "file") continue;
    const auto commands = Commands();
    EXPECT_TRUE(std::any_of(commands.begin(), commands.end(),
                            [&](const std::string& command) {
                              return command.find(" " + block.name + " ") != std::string::npos;
                            }))
        << "no command compiles " << block.name;
  }
}

TEST_F(WritingPlugins, EveryFragmentInCppCompiles) {
  ExpectCompiles("fragments.cc", "#include <callout/plugin.hpp>\n" + Fragments("cpp"),
                 "c++ -std=c++17");
}

TEST_F(WritingPlugins, EveryFragmentInCCompiles) {
  ExpectCompiles("fragments.c", "#include <callout/message.h>\n" + Fragments("c"), "cc -std=c11");
}

TEST_F(WritingPlugins, AnOlderCppIsToldWhatItLacks) {
  std::ofstream(dir_.Path("old.cc")) << "#include <callout/plugin.hpp>\nCALLOUT_PLUGIN();\n";
  const Finished compiled = Run("c++ -std=c++14 -fsyntax-only -I plugin_api old.cc");
  EXPECT_NE(compiled.exit_status, 0);
  EXPECT_THAT(compiled.output, HasSubstr("callout's C++ headers need C++17"));
}

// Its function is exported anyway, so that nothing else would say that the member is never called.
TEST_F(WritingPlugins, AListedStreamEndThatTheClassLacksDoesNotCompile) {
  const auto compile = [&](const std::string& members) {
    std::ofstream(dir_.Path("limiter.cc"))
        << "#include <callout/plugin.hpp>\n"
        << "class Limiter {\n"
        << members << "\n"
        << " public:\n  void on_request_headers(callout::HeadersCall&) {}\n};\n"
        << "CALLOUT_PLUGIN_CLASS(Limiter, (\"limiter\", \"1\", \"Limits\"), request_headers, "
           "stream_end);\n";
    return Run("c++ -std=c++17 -fsyntax-only -I plugin_api limiter.cc");
  };
  for (const char* members : {
           "public: void on_stream_ended(const callout::StreamEnd&) {}",
           "void on_stream_end(const callout::StreamEnd&) {}",  // private
           "public: void on_stream_end(const callout::StreamEnd&) {}\n"
           "void on_stream_end(const callout::StreamEnd&, int) {}",
       }) {
    SCOPED_TRACE(members);
    const Finished compiled = compile(members);
    EXPECT_NE(compiled.exit_status, 0);
    EXPECT_THAT(compiled.output, HasSubstr("lists stream_end, but the class has no public"));
  }
  const Finished good = compile("public: void on_stream_end(const callout::StreamEnd&) {}");
  EXPECT_EQ(good.exit_status, 0) << good.output;
}

TEST_F(WritingPlugins, TheReasonsAreThoseOfTheHost) {
  // The literals of the test that loads such files, put together.
  std::string known = ReadAll(SourceFile("tests/broken/broken_test.cc"));
  known = std::regex_replace(known, std::regex("\"\\s*\n\\s*\""), "");
  known = std::regex_replace(known, std::regex(R"(\\")"), "\"");
  const size_t begin = text_.find("<!-- reasons -->");
  ASSERT_NE(begin, std::string::npos);
  std::istringstream lines(text_.substr(begin, text_.find("\n\n", begin) - begin));
  const std::regex row(R"(\| .* \| `(.*)` \|)");
  size_t count = 0;
  for (std::string line; std::getline(lines, line);) {
    std::smatch match;
    if (!std::regex_match(line, match, row)) continue;
    EXPECT_THAT(known, HasSubstr(match[1].str()));
    ++count;
  }
  EXPECT_GE(count, 5u);
}

TEST_F(WritingPlugins, EveryFunctionItNamesExists) {
  std::string headers;
  for (const char* name : {"answer.h", "headers.h", "plugin.h", "struct.h", "tools.h", "wire.h"}) {
    headers += ReadAll(SourceFile(std::string("plugin_api/callout/") + name));
  }
  const std::regex function(R"(\b(callout_[a-z_]+[a-z])\b)");
  const std::string misspelt = "callout_on_request_header";
  const std::string details = "callout_illegal_header";  // of an immediate response
  const std::set<std::string> metrics = {"callout_queue_seconds",
                                         "callout_timers",
                                         "callout_timer_seconds",
                                         "callout_timer_late_seconds",
                                         "callout_shared_data_refused_total",
                                         "callout_calls",
                                         "callout_calls_refused_total",
                                         "callout_trace_dropped_total"};
  size_t count = 0;
  for (std::sregex_iterator it(text_.begin(), text_.end(), function), end; it != end; ++it) {
    const std::string name = (*it)[1];
    if (name == misspelt || name == details || metrics.count(name) > 0) continue;
    EXPECT_THAT(headers, HasSubstr(name));
    ++count;
  }
  EXPECT_GT(count, 50u);
}

}  // namespace
}  // namespace callout::tests
