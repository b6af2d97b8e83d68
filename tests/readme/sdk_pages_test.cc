// SPDX-License-Identifier: Apache-2.0

// docs/writing-plugins-in-rust.md and docs/writing-plugins-in-go.md: their files are written and
// their commands run, where the language's tool is installed.
#include <gmock/gmock.h>
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <string_view>

#include "page.h"

namespace callout::tests {
namespace {

class SdkPage : public Page {
 protected:
  SdkPage(const std::string& path, const std::string& tool) : Page(path), tool_(tool) {}

  // Without CI=true the page is skipped where the tool is missing.
  void SetUp() override {
    const char* const ci = getenv("CI");
    if (Run("command -v " + tool_).exit_status == 0) return;
    if (ci != nullptr && std::string_view(ci) == "true") FAIL() << "there is no " << tool_;
    GTEST_SKIP() << "there is no " << tool_;
  }

  // A compiler may take its time: only the time limit of the whole program ends it.
  Finished Run(const std::string& commands) override {
    const std::string script = scripts_.Path("run.sh");
    std::ofstream(script) << "cd '" << dir_.Path("") << "'\n"
                          << "trap 'status=$?; kill $(jobs -p) 2>/dev/null || true; exit $status' "
                             "EXIT\n"
                          << commands;
    FILE* const shell = popen(("/bin/bash -eu " + script + " 2>&1 </dev/null").c_str(), "r");
    if (shell == nullptr) return {-1, "bash does not start"};
    std::string output;
    char buffer[4096];
    while (const size_t size = fread(buffer, 1, sizeof(buffer), shell)) output.append(buffer, size);
    return {WEXITSTATUS(pclose(shell)), output};
  }

  const std::string tool_;
  host::TempDir scripts_;
};

class RustPage : public SdkPage {
 protected:
  RustPage() : SdkPage("docs/writing-plugins-in-rust.md", "cargo") {}
};

TEST_F(RustPage, EveryCommandWorksAsPrinted) {
  ASSERT_GE(Commands().size(), 6u) << "the page's commands were not found";
  RunAll();
}

class GoPage : public SdkPage {
 protected:
  GoPage() : SdkPage("docs/writing-plugins-in-go.md", "go") {}
};

TEST_F(GoPage, EveryCommandWorksAsPrinted) {
  ASSERT_GE(Commands().size(), 6u) << "the page's commands were not found";
  RunAll();
}

}  // namespace
}  // namespace callout::tests
