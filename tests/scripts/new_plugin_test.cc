// SPDX-License-Identifier: Apache-2.0

// scripts/new-plugin: what it makes builds with one command, passes its own test, and
// answers in the host.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>

#include "envoy_process.h"
#include "host_process.h"

namespace callout::tests {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

class NewPlugin : public ::testing::Test {
 protected:
  // The exit status of `commands`, run in a folder of the test's own; what they have printed is in
  // output_. A compiler may take its time: only the time limit of the whole program ends it.
  int Run(const std::string& commands) {
    const std::string script = scripts_.Path("run.sh");
    std::ofstream(script) << "cd '" << dir_.Path("") << "'\n" << commands;
    FILE* const shell = popen(("/bin/bash -eu " + script + " 2>&1 </dev/null").c_str(), "r");
    if (shell == nullptr) return -1;
    output_.clear();
    char buffer[4096];
    while (const size_t size = fread(buffer, 1, sizeof(buffer), shell))
      output_.append(buffer, size);
    return WEXITSTATUS(pclose(shell));
  }
  int Make(const std::string& arguments) {
    return Run(CALLOUT_SOURCE_ROOT "/scripts/new-plugin " + arguments);
  }
  // The one line of a refusal.
  std::string Refusal(const std::string& arguments) {
    EXPECT_EQ(Make(arguments), 1) << arguments << output_;
    EXPECT_TRUE(output_.starts_with("new-plugin: ")) << output_;
    EXPECT_EQ(output_.find('\n'), output_.size() - 1) << output_;
    return output_.substr(12, output_.size() - 13);
  }

  void ExpectWorks(const std::string& language, int cases) {
    ASSERT_EQ(Make("my_stamp --lang=" + language), 0) << output_;
    ASSERT_EQ(Run("make -C my_stamp"), 0) << output_;
    ASSERT_EQ(Run("make -C my_stamp test"), 0) << output_;
    ASSERT_EQ(Run("make -C my_stamp cases"), 0) << output_;
    EXPECT_THAT(output_, HasSubstr(fmt::format("{} passed, 0 failed", cases)));
    ASSERT_EQ(Run("grep -rI '@[a-z_]*@' my_stamp --include='*.*' --exclude-dir=target || true"), 0);
    EXPECT_EQ(output_, "") << "left to be filled in";

    const std::string plugin = dir_.Path("my_stamp/my_stamp.so");
    ASSERT_EQ(Run(BuiltFile("host/callout-host") + " --check --strict --plugin=" + plugin), 0)
        << output_;
    HostProcess host({"--plugin=" + plugin});
    ASSERT_EQ(Run(BuiltFile("host/callout-client") +
                  " --plaintext 127.0.0.1:" + std::to_string(host.port("plaintext"))),
              0)
        << output_;
    EXPECT_THAT(output_, HasSubstr(R"("key":"x-seen-by","raw_value":"bXlfc3RhbXA=")"));
    EXPECT_EQ(host.Terminate(), 0);
  }

  // A header that is set, a path that is denied, a body that is replaced.
  void ExpectWorksBehindEnvoy(int cases) {
    if (!EnvoyProcess::Available()) {
      const char* ci = getenv("CI");
      ASSERT_FALSE(ci != nullptr && std::string_view(ci) == "true") << EnvoyProcess::WhyNot();
      return;
    }
    ASSERT_EQ(Run(BuiltFile("host/callout-test") +
                  " my_stamp/cases --envoy --envoy_path=" + EnvoyProcess::Binary()),
              0)
        << output_;
    EXPECT_THAT(output_, HasSubstr(fmt::format("{} passed, 0 failed", cases)));
  }

  // The plugin's own test fails once `file` says something else in the line with `set`.
  void ExpectItsTestCanFail(const std::string& file, const std::string& set = "x-seen-by") {
    ASSERT_EQ(Run("sed -i '/" + set + "/s/x-seen-by/x-broken/' my_stamp/" + file +
                  " && make -C my_stamp"),
              0);
    EXPECT_NE(Run("make -C my_stamp test"), 0) << output_;
    EXPECT_NE(Run("make -C my_stamp cases"), 0) << output_;
  }

  // `panic`: a statement that panics with "the cache is nil". It is put after `line` of `file`.
  void ExpectAPanicIsTold(const std::string& file, const std::string& line,
                          const std::string& panic) {
    ASSERT_EQ(Run("sed -i '/" + line + "/a " + panic + "' my_stamp/" + file), 0) << output_;
    ASSERT_EQ(Run("make -C my_stamp"), 0) << output_;
    HostProcess host({"--plugin=" + dir_.Path("my_stamp/my_stamp.so")});
    EXPECT_NE(Run(BuiltFile("host/callout-client") +
                  " --plaintext 127.0.0.1:" + std::to_string(host.port("plaintext")) +
                  R"( --data '{"request_headers": {"headers": {"headers": [)"
                  R"({"key": "x-panic", "raw_value": "MQ=="}]}}}')"),
              2)
        << output_;
    EXPECT_EQ(host.Terminate(), 0);
    EXPECT_THAT(host.Output(), HasSubstr("panic: the cache is nil"));
  }

  host::TempDir dir_, scripts_;
  std::string output_;
};

TEST_F(NewPlugin, InCppBuildsAndPassesItsTest) {
  ExpectWorks("cpp", 1);
  ExpectItsTestCanFail("my_stamp.cc");
}

TEST_F(NewPlugin, InCBuildsAndPassesItsTest) {
  ExpectWorks("c", 1);
  ExpectItsTestCanFail("my_stamp.c");
}

TEST_F(NewPlugin, InRustBuildsAndPassesItsTest) {
  if (Run("command -v cargo") != 0) GTEST_SKIP() << "there is no cargo";
  ExpectWorks("rust", 4);
  ExpectWorksBehindEnvoy(4);
  ExpectAPanicIsTold("src/lib.rs", "fn request_headers",
                     R"(if call.headers().contains("x-panic") { panic!("the cache is nil"); })");
  ExpectItsTestCanFail("src/lib.rs", "set_header(.x-seen-by");
}

TEST_F(NewPlugin, InGoBuildsAndPassesItsTest) {
  if (Run("command -v go") != 0) GTEST_SKIP() << "there is no go";
  ExpectWorks("go", 4);
  ExpectWorksBehindEnvoy(4);
  ExpectAPanicIsTold("plugin.go", "OnRequestHeaders(call",
                     R"(if call.Headers().Has("x-panic") { panic("the cache is nil") })");
  ExpectItsTestCanFail("plugin.go", "SetHeader(.x-seen-by");
}

// Names that mean something to Go: as files a test and a constraint, as a module the SDK.
TEST_F(NewPlugin, InGoTakesEveryName) {
  if (Run("command -v go") != 0) GTEST_SKIP() << "there is no go";
  for (const std::string name : {"auth_test", "limit_arm64", "callout"}) {
    SCOPED_TRACE(name);
    ASSERT_EQ(Make(name + " --lang=go"), 0) << output_;
    EXPECT_EQ(Run("make -C " + name + " && make -C " + name + " test"), 0) << output_;
    EXPECT_EQ(
        Run(BuiltFile("host/callout-host") + " --check --plugin=" + name + "/" + name + ".so"), 0)
        << output_;
  }
}

TEST_F(NewPlugin, IsCppAndInTheCurrentFolderUnlessToldOtherwise) {
  ASSERT_EQ(Make("stamp"), 0) << output_;
  EXPECT_TRUE(fs::exists(dir_.Path("stamp/stamp.cc")));
  fs::create_directory(dir_.Path("else where"));
  ASSERT_EQ(Make("stamp '--dir=else where' --lang=c"), 0) << output_;
  EXPECT_TRUE(fs::exists(dir_.Path("else where/stamp/stamp.c")));
  EXPECT_THAT(output_, HasSubstr("make -C else\\ where/stamp test"));
}

TEST_F(NewPlugin, NeverTouchesWhatIsThere) {
  std::ofstream(dir_.Path("stamp")) << "mine";
  const std::string there = "exists and is not changed; choose another name or --dir";
  EXPECT_EQ(Refusal("stamp"), "'./stamp' " + there);
  EXPECT_EQ(fs::file_size(dir_.Path("stamp")), 4u);
  fs::create_directory(dir_.Path("empty"));
  EXPECT_EQ(Refusal("empty"), "'./empty' " + there);
  EXPECT_TRUE(fs::is_empty(dir_.Path("empty")));
  fs::create_symlink("/nonexistent", dir_.Path("dangling"));
  EXPECT_EQ(Refusal("dangling"), "'./dangling' " + there);
}

TEST_F(NewPlugin, RefusesBadUsageAndLeavesNothing) {
  const auto rule = [](const std::string& name) {
    return fmt::format(
        "invalid name '{}'; expected a lower case letter, then lower case letters, digits and '_', "
        "at most 64 in all",
        name);
  };
  EXPECT_EQ(Refusal(""), "the plugin's name is missing; run: scripts/new-plugin NAME");
  for (const std::string name : {"Stamp", "my-stamp", "1st", "a/b", "../a", "_a", "a.b", "ä"}) {
    EXPECT_EQ(Refusal(name), rule(name));
  }
  EXPECT_EQ(Refusal("''"), rule(" "));
  const std::string longest(64, 'a');
  EXPECT_EQ(Refusal(longest + "a"), rule(longest + "a"));
  EXPECT_EQ(Refusal("a b"), "more than one name: 'a' and 'b'; give one");
  EXPECT_EQ(Refusal("a --language=c"),
            "unknown option '--language=c'; the options are --lang=LANGUAGE and --dir=DIR");
  EXPECT_EQ(Refusal("a --lang go"), "'--lang' has no value; write it as --lang=VALUE");
  for (const std::string language : {"java", "", "../cpp", "C"}) {
    EXPECT_EQ(Refusal("a --lang=" + language),
              "unknown language '" + language + "'; expected cpp, c, rust or go");
  }
  EXPECT_EQ(Refusal("a --dir=missing"),
            "'missing' is not a directory; create it first, or choose another with --dir");
  EXPECT_TRUE(fs::is_empty(dir_.Path("")));
  EXPECT_EQ(Make(longest), 0) << output_;
}

TEST_F(NewPlugin, TellsHowItIsUsed) {
  EXPECT_EQ(Make("--help"), 0) << output_;
  EXPECT_THAT(output_, HasSubstr("\n  scripts/new-plugin NAME --lang=LANGUAGE "));
  EXPECT_THAT(output_, Not(HasSubstr("#")));
}

// The lines that it ends with are commands that work, whatever is in the paths.
TEST_F(NewPlugin, TellsHowToBuildTestAndCheckWhatItMade) {
  fs::create_directory(dir_.Path("it's \"here\" & $there"));
  ASSERT_EQ(Make(R"('--dir=it'\''s "here" & $there' stamp --lang=c)"), 0) << output_;
  std::istringstream lines(output_);
  std::string line, commands;
  while (std::getline(lines, line)) {
    if (const size_t colon = line.find("it:"); colon != line.npos) {
      commands += line.substr(colon + 3) + "\n";
    }
  }
  EXPECT_EQ(Run("PATH=" + BuiltFile("host") + ":$PATH\n" + commands), 0) << output_;
  EXPECT_THAT(output_, HasSubstr("the configuration is good"));
}

// A checkout of its own with a blank in its path, in which nothing is built.
TEST_F(NewPlugin, WorksInACheckoutWithABlankInItsPath) {
  ASSERT_EQ(
      Run("mkdir -p 'a checkout/scripts' && cp -r '" CALLOUT_SOURCE_ROOT
          "/scripts/lib.sh' '" CALLOUT_SOURCE_ROOT "/scripts/new-plugin' '" CALLOUT_SOURCE_ROOT
          "/scripts/new_plugin_files' 'a checkout/scripts' && cp -r '" CALLOUT_SOURCE_ROOT
          "/plugin_api' 'a checkout'"),
      0)
      << output_;
  const std::string make = "PATH=/usr/bin:/bin 'a checkout/scripts/new-plugin' ";
  ASSERT_EQ(Run(make + "stamp --lang=c"), 0) << output_;
  EXPECT_THAT(output_,
              HasSubstr("the host is not built yet, and not installed; build it first:  (cd "));
  EXPECT_THAT(output_, HasSubstr("a\\ checkout/build/host/callout-host --check"));
  EXPECT_EQ(Run("make -C stamp test"), 0) << output_;
  // As soon as the checkout is built, its callout-test is the one that runs.
  EXPECT_EQ(Run("mkdir -p 'a checkout/build/host' && cd 'a checkout/build/host' && printf "
                "'#!/bin/sh\\necho \"ran $0 $*\"\\n' >callout-test && chmod +x callout-test"),
            0);
  EXPECT_EQ(Run("make -C stamp cases"), 0) << output_;
  EXPECT_THAT(output_, HasSubstr("a checkout/build/host/callout-test cases"));
  ASSERT_EQ(Run(make + "go_stamp --lang=go"), 0) << output_;
  EXPECT_THAT(output_, Not(HasSubstr("not built yet")));
  EXPECT_EQ(Run("make -C go_stamp -n && test -f go_stamp/sdk/go/go.mod"), 0) << output_;
}

TEST_F(NewPlugin, SaysWhatToDoWithoutHeaders) {
  ASSERT_EQ(Make("stamp"), 0) << output_;
  EXPECT_NE(Run("PKG_CONFIG_PATH= PKG_CONFIG_LIBDIR= make -C stamp CALLOUT=/nonexistent"), 0);
  EXPECT_THAT(output_, HasSubstr("no headers in /nonexistent, and pkg-config does not "
                                 "find callout-plugin: install callout-host, or give "
                                 "CALLOUT=CHECKOUT/plugin_api"));
}

}  // namespace
}  // namespace callout::tests
