// SPDX-License-Identifier: Apache-2.0

// What `meson install` puts down is enough to write a plugin anywhere: four ways to
// build one, and each result runs in the installed host and answers the installed
// client. The files are put below another root than they were configured for, as
// packages do, so that nothing may depend on where they lie.
#include <gmock/gmock.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>

#include "child_process.h"
#include "tests/host/sockets.h"

namespace callout::tests {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;

struct Finished {
  int exit_status;
  std::string output;
};

// `commands` by the shell, with what is installed to be found.
Finished Shell(const std::string& folder, const std::string& prefix, const std::string& commands) {
  ChildProcess shell({"/usr/bin/env", "PKG_CONFIG_PATH=" + prefix + "/share/pkgconfig",
                      "PREFIX=" + prefix, "/bin/bash", "-euc", "cd '" + folder + "'\n" + commands});
  const int status = shell.AwaitEnd();
  return {status, shell.Output()};
}

bool Has(const std::string& program) {
  return Shell("/", "", "command -v " + program).exit_status == 0;
}

class Installed : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    root_ = std::make_unique<host::TempDir>();
    const Finished installed =
        Shell("/", "",
              "DESTDIR='" + root_->Path("") +
                  "' meson install --quiet --no-rebuild -C '" CALLOUT_BUILD_ROOT "'");
    ASSERT_EQ(installed.exit_status, 0) << installed.output;
    for (const auto& file : fs::recursive_directory_iterator(root_->Path(""))) {
      if (file.path().filename() == "callout-host") {
        prefix_ = file.path().parent_path().parent_path();
      }
    }
    ASSERT_NE(prefix_, "");
  }
  static void TearDownTestSuite() { root_.reset(); }

  void SetUp() override {
    for (const char* file : {"stamp.cc", "meson.build", "CMakeLists.txt"}) {
      fs::copy_file(std::string(CALLOUT_SOURCE_ROOT "/tests/install/outside/") + file,
                    dir_.Path(file));
    }
  }

  Finished Run(const std::string& commands) { return Shell(dir_.Path(""), prefix_, commands); }

  // Builds with `commands`; the result is `plugin`, seen from the project's folder.
  void ExpectBuilds(const std::string& commands, const std::string& plugin) {
    const Finished built = Run(commands);
    ASSERT_EQ(built.exit_status, 0) << built.output;

    const Finished exported = Run("nm -D --defined-only " + plugin + " | awk '{print $3}'");
    EXPECT_EQ(exported.output,
              "callout_abi_revision\ncallout_abi_version\ncallout_on_request_headers\ncallout_on_"
              "stream_close\n"
              "callout_plugin_create\ncallout_plugin_destroy\ncallout_plugin_info\n");

    const Finished checked = Run("$PREFIX/bin/callout-host --check --plugin=" + plugin);
    EXPECT_EQ(checked.exit_status, 0) << checked.output;
    EXPECT_THAT(checked.output, HasSubstr("callout_on_request_headers"));

    ChildProcess host({prefix_ + "/bin/callout-host", "--plugin=" + dir_.Path(plugin),
                       "--plugin_config=stamp=abc", "--plaintext_address=unix:" + dir_.Path("s"),
                       "--disable_tls", "--combined_health_check", "--admin_address=off"});
    ASSERT_TRUE(host.AwaitLine("serving with ").has_value());
    const Finished answered = Run("$PREFIX/bin/callout-client unix:s --plaintext");
    EXPECT_EQ(answered.exit_status, 0) << answered.output;
    EXPECT_THAT(answered.output, HasSubstr(R"("key":"x-stamp","raw_value":"YWJj")"));
    EXPECT_EQ(host.Terminate(), 0);
  }

  static std::unique_ptr<host::TempDir> root_;
  static std::string prefix_;
  host::TempDir dir_;
};

std::unique_ptr<host::TempDir> Installed::root_;
std::string Installed::prefix_;

// It needs Python's part of it, which lies beside it.
TEST_F(Installed, ThePluginForPythonRunsAScript) {
  fs::path plugin;
  for (const auto& file : fs::recursive_directory_iterator(prefix_)) {
    if (file.path().filename() == "python.so") plugin = file.path();
  }
  if (plugin.empty()) GTEST_SKIP() << "plugins/python is not built: libpython3-dev is missing";
  const std::string server = dir_.Path("server.py");
  std::ofstream(server) << "from extproc.service.callout_server import CalloutServer\n"
                           "import callout_python\n"
                           "print('packages', callout_python.__file__)\n"
                           "class Server(CalloutServer):\n"
                           "  def on_request_headers(self, headers, context): pass\n";
  const Finished checked = Run("$PREFIX/bin/callout-host --check --plugin=" + plugin.string() +
                               " --plugin_config=python='{\"script\": \"" + server + "\"}'");
  EXPECT_EQ(checked.exit_status, 0) << checked.output;
  EXPECT_THAT(checked.output,
              HasSubstr("packages " + plugin.parent_path().string() + "/python/packages/"));
}

TEST_F(Installed, EveryHeaderIsThere) {
  const fs::path include = fs::path(prefix_) / "include" / "callout";
  size_t count = 0;
  for (const auto& file : fs::directory_iterator(CALLOUT_SOURCE_ROOT "/plugin_api/callout")) {
    const std::string name = file.path().filename();
    if (!name.ends_with(".h") && !name.ends_with(".hpp")) continue;
    EXPECT_TRUE(fs::exists(include / name)) << name;
    ++count;
  }
  EXPECT_GE(count, 10u);
}

// What a crash leaves, an address in a program, leads to a line, though the program is stripped.
TEST_F(Installed, AnAddressInTheStrippedHostLeadsToItsLine) {
  const std::string host = "$PREFIX/bin/callout-host";
  const std::string debug = "$PREFIX/bin/.debug/callout-host.debug";
  if (Run("test -e " + debug).exit_status != 0) GTEST_SKIP() << "built without debug information";
  EXPECT_THAT(Run("readelf -SW " + host).output, Not(HasSubstr(".debug_line ")));
  EXPECT_THAT(Run("nm " + host + " 2>&1").output, HasSubstr("no symbols"));
  const Finished line =
      Run("addr2line -f -e " + host + " $(nm " + debug + " | awk '$3 == \"main\" {print $1}')");
  EXPECT_THAT(line.output, MatchesRegex("main\n.*host/main\\.cc:[0-9]+.*\n"));
  const Finished inner = Run("addr2line -C -f -e " + host + " $(nm " + debug +
                             " | awk '/ParseRequest/ {print $1; exit}')");
  EXPECT_THAT(inner.output, HasSubstr("host/wire/envelope.cc:"));
}

TEST_F(Installed, PkgConfigAndACompilerBuildAPlugin) {
  ExpectBuilds(
      "c++ -shared -fPIC stamp.cc -o stamp.so $(pkg-config --cflags --libs callout-plugin)",
      "stamp.so");
}

TEST_F(Installed, OneCompilerLineBuildsAPlugin) {
  ExpectBuilds(
      "c++ -shared -fPIC -I $PREFIX/include stamp.cc -o stamp.so "
      "-Wl,--version-script=$PREFIX/share/callout/callout.map",
      "stamp.so");
}

TEST_F(Installed, AMesonProjectBuildsAPlugin) {
  ExpectBuilds("meson setup build && ninja -C build", "build/stamp.so");
}

TEST_F(Installed, ACmakeProjectBuildsAPlugin) {
  const char* ci = getenv("CI");
  if (!Has("cmake") && (ci == nullptr || std::string_view(ci) != "true")) {
    GTEST_SKIP() << "there is no cmake";
  }
  ExpectBuilds("cmake -G Ninja -B build && cmake --build build", "build/stamp.so");
}

TEST_F(Installed, AFolderOfNewPluginNeedsNoCheckout) {
  const Finished made = Run(CALLOUT_SOURCE_ROOT
                            "/scripts/new-plugin stamped --lang=c && make -C stamped "
                            "CALLOUT=/nonexistent && make -C stamped CALLOUT=/nonexistent test");
  EXPECT_EQ(made.exit_status, 0) << made.output;
  EXPECT_THAT(made.output, HasSubstr("-I" + prefix_));
}

// The SDKs are installed as sources, which the tools of these languages build.
TEST_F(Installed, AFolderInRustNeedsNoCheckout) {
  if (!Has("cargo")) GTEST_SKIP() << "there is no cargo";
  const Finished made = Run(CALLOUT_SOURCE_ROOT
                            "/scripts/new-plugin stamped --lang=rust && make -C stamped "
                            "CALLOUT=/nonexistent test && readlink stamped/sdk");
  EXPECT_EQ(made.exit_status, 0) << made.output;
  EXPECT_THAT(made.output, HasSubstr(prefix_));
  EXPECT_FALSE(fs::exists(prefix_ + "/share/callout/rust/target"));
}

TEST_F(Installed, AFolderInGoNeedsNoCheckout) {
  if (!Has("go")) GTEST_SKIP() << "there is no go";
  const Finished made = Run(CALLOUT_SOURCE_ROOT
                            "/scripts/new-plugin stamped --lang=go && make -C stamped "
                            "CALLOUT=/nonexistent test && readlink stamped/sdk");
  EXPECT_EQ(made.exit_status, 0) << made.output;
  EXPECT_THAT(made.output, HasSubstr(prefix_));
}

TEST_F(Installed, TheLoopBuildsServesAndTestsAPlugin) {
  const Finished made =
      Run(CALLOUT_SOURCE_ROOT
          "/scripts/new-plugin stamped --lang=c >/dev/null; export CALLOUT=/nonexistent; "
          "$PREFIX/bin/callout-dev stamped --once");
  EXPECT_EQ(made.exit_status, 0) << made.output;
  EXPECT_THAT(made.output, HasSubstr("callout-host serves on 127.0.0.1:"));
  EXPECT_THAT(made.output, HasSubstr("1 passed, 0 failed"));
}

// Testing needs no more than the headers either.
TEST_F(Installed, AUnitTestNeedsOnlyTheHeaders) {
  const Finished tested = Run(R"(
cat >stamp_test.cc <<'END'
#include <callout/testing.hpp>
#include "stamp.cc"
int main() {
  callout::testing::Plugin plugin(callout::testing::kLinked, "abc");
  callout::testing::Stream stream(plugin);
  return stream.request_headers({{":path", "/"}}).header("x-stamp") == "abc" ? 0 : 1;
}
END
c++ $(pkg-config --cflags callout-plugin) stamp_test.cc -o stamp_test && ./stamp_test
)");
  EXPECT_EQ(tested.exit_status, 0) << tested.output;
}

}  // namespace
}  // namespace callout::tests
