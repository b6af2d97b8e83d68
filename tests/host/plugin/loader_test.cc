// SPDX-License-Identifier: Apache-2.0

// How good plugins are loaded; those that are refused are in tests/broken.

#include "host/plugin/loader.h"

#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <thread>
#include <vector>

#include "tests/host/samples.h"
#include "tests/host/sockets.h"

namespace callout::host {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::shared_ptr<const Plugin> Loaded(const std::string& path) {
  auto plugin = LoadPlugin(path);
  EXPECT_TRUE(plugin.ok()) << plugin.status();
  return plugin.ok() ? *plugin : nullptr;
}

TEST(Loader, BindsEveryHookToItsPlace) {
  const auto plugin = Loaded(SamplePath("sample.so"));
  ASSERT_NE(plugin, nullptr);
  const Hooks& hooks = plugin->hooks();
  EXPECT_THAT(
      plugin->hook_names(),
      ElementsAre("callout_plugin_create", "callout_plugin_destroy", "callout_on_stream_open",
                  "callout_on_stream_close", "callout_on_stream_cancel", "callout_on_process",
                  "callout_on_request_headers", "callout_on_response_headers",
                  "callout_on_request_body", "callout_on_response_body",
                  "callout_on_request_trailers", "callout_on_response_trailers"));
  callout_call_t call = {};
  callout_create_args_t args = {};
  EXPECT_EQ(hooks.plugin_create(&args), CALLOUT_OK);
  EXPECT_EQ(hooks.stream_open(&call), CALLOUT_OK);
  EXPECT_EQ(hooks.on_process(&call), CALLOUT_NEXT);
  for (callout_phase_t phase = 2; phase < kPhaseCount; ++phase) {
    call.phase = phase;
    ASSERT_NE(hooks.phases[phase], nullptr) << phase;
    if (phase != CALLOUT_RESPONSE_TRAILERS) {  // which calls into its libraries
      EXPECT_EQ(hooks.phases[phase](&call), static_cast<int>(phase) + 100);
    }
  }
  EXPECT_EQ(hooks.phases[0], nullptr);
  EXPECT_EQ(hooks.phases[1], nullptr);
}

TEST(Loader, TellsWhatThePluginSaysOfItself) {
  const std::string path = SamplePath("sample.so");
  const auto plugin = Loaded(path);
  ASSERT_NE(plugin, nullptr);
  EXPECT_EQ(plugin->path(), path);
  EXPECT_EQ(plugin->name(), "sample");
  EXPECT_EQ(plugin->abi_version(), CALLOUT_ABI_VERSION);
  EXPECT_EQ(plugin->info().name, "sample");
  EXPECT_EQ(plugin->info().version, "1.2.3");
  EXPECT_EQ(plugin->info().description, "Everything a loader looks at");
  EXPECT_THAT(plugin->warnings(), IsEmpty());
}

TEST(Loader, LoadsStrippedFilesAndThoseWithAnOldHashTable) {
  for (const char* file : {"sample_stripped.so", "sample_sysv_hash.so"}) {
    const auto plugin = Loaded(SamplePath(file));
    ASSERT_NE(plugin, nullptr);
    EXPECT_EQ(plugin->hook_names().size(), 12U);
  }
}

TEST(Loader, TakesTheNameFromTheFile) {
  const TempDir directory;
  for (const auto& [file, name] :
       std::vector<std::pair<std::string, std::string>>{{"edge.so", "edge"},
                                                        {"edge.so.1", "edge.so.1"},
                                                        {"edge", "edge"},
                                                        {"a\nb.so", "a\\x0ab"}}) {
    std::filesystem::copy_file(SamplePath("sample_stripped.so"), directory.Path(file));
    const auto plugin = Loaded(directory.Path(file));
    ASSERT_NE(plugin, nullptr);
    EXPECT_EQ(plugin->name(), name);
    EXPECT_EQ(plugin->path(), directory.Path(file));
  }
}

TEST(Loader, TheSameFileIsOneCopyAndAnotherFileAnother) {
  const TempDir directory;
  const std::string path = SamplePath("sample.so");
  std::filesystem::create_symlink(path, directory.Path("link.so"));
  std::filesystem::copy_file(path, directory.Path("copy.so"));
  const auto first = Loaded(path);
  const auto again = Loaded(path);
  const auto link = Loaded(directory.Path("link.so"));
  const auto copy = Loaded(directory.Path("copy.so"));
  EXPECT_EQ(first->hooks().on_process, again->hooks().on_process);
  EXPECT_EQ(first->hooks().on_process, link->hooks().on_process);
  EXPECT_NE(first->hooks().on_process, copy->hooks().on_process);
}

TEST(Loader, TheCodeStaysWhenPluginAndFileAreGone) {
  const TempDir directory;
  const std::string path = directory.Path("gone.so");
  std::filesystem::copy_file(SamplePath("sample.so"), path);
  auto plugin = Loaded(path);
  const auto hook = plugin->hooks().on_process;
  plugin.reset();
  std::filesystem::remove(path);
  callout_call_t call = {};
  EXPECT_EQ(hook(&call), CALLOUT_NEXT);
}

TEST(Loader, SymbolsStayOutOfTheProcess) {
  ASSERT_NE(Loaded(SamplePath("sample.so")), nullptr);
  EXPECT_EQ(dlsym(RTLD_DEFAULT, "sample_number"), nullptr);
}

TEST(Loader, ANameWithoutASlashIsAFileHere) {
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(std::filesystem::path(SamplePath("sample.so")).parent_path());
  const auto plugin = LoadPlugin("sample.so");
  const auto library = LoadPlugin("libm.so.6");
  std::filesystem::current_path(before);
  EXPECT_TRUE(plugin.ok()) << plugin.status();
  EXPECT_EQ(library.status().code(), absl::StatusCode::kNotFound)
      << "libraries of the system are not searched for";
}

TEST(Loader, AFileThatMayNotBeReadIsRefused) {
  if (geteuid() == 0) GTEST_SKIP() << "root may read everything";
  const TempDir directory;
  const std::string path = directory.Path("secret.so");
  std::filesystem::copy_file(SamplePath("sample.so"), path);
  std::filesystem::permissions(path, std::filesystem::perms::none);
  EXPECT_EQ(LoadPlugin(path).status().message(),
            "cannot load plugin " + path +
                ": it cannot be read (Permission denied); see that the host's user may read it");
}

TEST(Loader, ThreadsTakeTurns) {
  const TempDir directory;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    const std::string path = directory.Path(std::to_string(i) + ".so");
    std::filesystem::copy_file(SamplePath("sample_stripped.so"), path);
    threads.emplace_back([path] {
      for (int round = 0; round < 20; ++round) EXPECT_TRUE(LoadPlugin(path).ok());
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace callout::host
