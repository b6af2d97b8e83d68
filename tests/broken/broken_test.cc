// SPDX-License-Identifier: Apache-2.0

// Every way a plugin can be refused, with the exact line the operator reads. Those
// the build makes lie beside this program; the others are made from a good one.

#include <callout/plugin.h>
#include <dlfcn.h>
#include <elf.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

#include "envoy/type/v3/http_status.pb.h"
#include "host/metrics/metrics.h"
#include "host/plugin/instance.h"
#include "host/plugin/loader.h"
#include "tests/host/sockets.h"
#include "tests/host/write_file.h"

namespace callout::host {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

std::string BuiltPath(const std::string& file) {
  static const std::filesystem::path directory =
      std::filesystem::read_symlink("/proc/self/exe").parent_path();
  return (directory / file).string();
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream bytes;
  bytes << file.rdbuf();
  EXPECT_TRUE(file.good()) << path;
  return bytes.str();
}

std::string Refusal(const std::string& path) {
  const auto plugin = LoadPlugin(path);
  EXPECT_FALSE(plugin.ok()) << path << " was loaded";
  return std::string(plugin.status().message());
}

struct Built {
  std::string file;
  std::string reason;
};

TEST(Broken, BuiltPluginsAreRefusedWithReasonAndRemedy) {
  const std::vector<Built> kTable = {
      {"no_version.so",
       "it exports no callout_abi_version, so it is no callout plugin or hides its symbols; add "
       "CALLOUT_PLUGIN(); (C), CALLOUT_PLUGIN_CLASS (C++) or #[callout::plugin] (Rust) to one "
       "source file, or build it with callout-build (Go)"},
      {"other_version.so",
       "it was built for ABI version 7 and this host has version 1; build it with the "
       "<callout/plugin.h> of this host"},
      {"version_is_code.so",
       "its callout_abi_version is not plain data; define it by CALLOUT_PLUGIN(); and nothing "
       "else"},
      {"no_hook.so",
       "it exports no callout_on_* hook that this host knows; export at least one, such as "
       "callout_on_request_headers"},
      {"misspelt_hook.so",
       "it exports no callout_on_* hook that this host knows; it exports "
       "callout_on_request_header, which this host does not know; did you mean "
       "callout_on_request_headers?"},
      {"mangled_hook.so",
       "it exports no callout_on_* hook that this host knows; it exports "
       "callout_on_request_headers as a C++ function, which the host does not find; include "
       "<callout/plugin.h> or declare it extern \"C\""},
      {"stream_hooks_only.so",
       "it exports callout_on_stream_open but no hook that gets a message, so it would never "
       "be called; export one, such as callout_on_request_headers"},
      {"misspelt_beside_good.so",
       "it exports callout_on_responce_headers, which this host does not know; did you mean "
       "callout_on_response_headers?"},
      {"misspelt_create.so",
       "it exports callout_plugin_init, which this host does not know; did you mean "
       "callout_plugin_info?"},
      {"mangled_beside_good.so",
       "it exports callout_on_responce_body as a C++ function, which the host does not find; did "
       "you mean callout_on_response_body?"},
      {"two_destroys.so",
       "it exports callout_plugin_destroy and callout_plugin_destroy_with, of which one is called; "
       "export only one"},
      {"short_info.so",
       "its callout_plugin_info has 16 bytes and a struct_size of 32; set it to "
       "sizeof(callout_plugin_info_t)"},
      {"needs_newer.so", "it needs revision 99 of ABI version 1 and this host has revision " +
                             std::to_string(CALLOUT_ABI_REVISION) + "; use a newer host"},
      {"hook_is_data.so", "its callout_on_process is data; define it as a function"},
      {"undefined_symbol.so",
       "the dynamic linker says: undefined symbol: nobody_defines_this; link what defines it into "
       "the plugin (-Wl,-z,defs finds this when linking)"},
      {"missing_dependency.so",
       "the dynamic linker says: libnobody-has-this.so.3: cannot open shared object file: No such "
       "file or directory; install that library, or link it statically"},
      {"full_protobuf.so",
       "it contains protobuf code generated for the full runtime, which aborts the process when a "
       "second copy is loaded; generate it for the lite runtime (protoc --cpp_out=lite:DIR) or "
       "use <callout/message.h>"},
      {"other_protobuf.so",
       "it needs libprotobuf-lite.so.17 and the process runs on libprotobuf.so.32, whose symbols "
       "have the same names; build it with that protobuf, or link its own statically and "
       "hidden"},
      {"executable_stack.so",
       "it asks for an executable stack, which would make every stack of the host executable; "
       "link it with -Wl,-z,noexecstack and use no nested functions"},
      {"executable", "it is an executable, not a shared object; link it with -shared -fPIC"},
  };
  for (const Built& row : kTable) {
    const std::string path = BuiltPath(row.file);
    EXPECT_EQ(Refusal(path), "cannot load plugin " + path + ": " + row.reason);
  }
}

// It would run, until a host is built without that library or with another one.
TEST(Broken, APluginThatBorrowsALibraryOfTheHostIsRefusedWithItsName) {
  const std::string path = BuiltPath("borrows.so");
  EXPECT_EQ(Refusal(path),
            "cannot load plugin " + path +
                ": it uses zlibVersion of libz.so.1, which the host has loaded for itself "
                "and the plugin is not linked with; link it with that library (-Wl,-z,defs finds "
                "this when linking)");
}

TEST(Broken, ASanitizersPluginIsRefusedByAHostWithoutIt) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "this process has started with it";
#endif
  const std::string path = BuiltPath("address_sanitizer.so");
  EXPECT_EQ(Refusal(path),
            "cannot load plugin " + path +
                ": it needs libasan.so.99, which ends a process that did not start with it; build "
                "it without that -fsanitize option, or the host with it");
}

TEST(Broken, ExportedLiteClassesAreRefused) {
  const std::string path = BuiltPath("exported_lite.so");
  EXPECT_THAT(Refusal(path),
              AllOf(StartsWith("cannot load plugin " + path + ": it exports protobuf classes (_Z"),
                    EndsWith("), which would be mixed up with those of other plugins; compile it "
                             "with -fvisibility=hidden -fvisibility-inlines-hidden "
                             "-fno-gnu-unique, or link it with -Wl,--exclude-libs,ALL and the "
                             "allowlist callout_*")));
}

struct Made {
  std::string file;
  std::function<void(const std::string& path, std::string good)> make;
  std::string reason;
};

// Writes the good plugin with one byte changed.
std::function<void(const std::string&, std::string)> Patch(size_t offset, int value) {
  return [=](const std::string& path, std::string good) {
    good[offset] = static_cast<char>(value);
    WriteFile(path, good);
  };
}

TEST(Broken, FilesThatAreNoPluginsAreRefusedWithReasonAndRemedy) {
  const std::string good = ReadFile(BuiltPath("hook.so"));
  const auto text = [](const std::string& content) {
    return [=](const std::string& path, const std::string&) { WriteFile(path, content); };
  };
  const size_t machine = offsetof(Elf64_Ehdr, e_machine);
  const size_t type = offsetof(Elf64_Ehdr, e_type);
  const std::vector<Made> kTable = {
      {"missing.so", [](const std::string&, const std::string&) {},
       "it cannot be read (No such file or directory); check the path"},
      {"file.so/missing.so",
       [](const std::string& path, const std::string&) {
         WriteFile(std::filesystem::path(path).parent_path(), "x");
       },
       "it cannot be read (Not a directory); check the path"},
      {"directory.so",
       [](const std::string& path, const std::string&) { mkdir(path.c_str(), 0700); },
       "it is a directory, not a regular file; give the path of a shared object"},
      {"fifo.so", [](const std::string& path, const std::string&) { mkfifo(path.c_str(), 0600); },
       "it is a FIFO, not a regular file; give the path of a shared object"},
      {"empty.so", text(""), "it is empty; build or copy it again"},
      {"text.so", text("#!/bin/sh\necho hello\n"),
       "it is not an ELF file (it begins with \"#!/bin/sh\"); give a shared object"},
      {"archive.a", text("!<arch>\nhook.o/         "),
       "it is not an ELF file (it begins with \"!<arch>\"); give a shared object"},
      {"binary.so", text(std::string("\0\1\2\3\xff", 5)),
       "it is not an ELF file (it begins with \"\\x00\\x01\\x02\\x03\\xff\"); give a shared "
       "object"},
      {"magic.so",
       text("\x7f"
            "ELF"),
       "it is truncated: its ELF header ends at byte 64 and the file has 4; copy the whole file"},
      {"bits.so", Patch(EI_CLASS, ELFCLASS32),
       "it is a 32-bit little-endian file for x86-64, and this host is 64-bit little-endian "
       "x86-64; build it for this machine"},
      {"endian.so", Patch(EI_DATA, ELFDATA2MSB),
       "it is a 64-bit big-endian file for machine 15872, and this host is 64-bit little-endian "
       "x86-64; build it for this machine"},
      {"machine.so", Patch(machine, EM_AARCH64),
       "it is a 64-bit little-endian file for AArch64, and this host is 64-bit little-endian "
       "x86-64; build it for this machine"},
      {"object.o", Patch(type, ET_REL),
       "it is an object file, not a shared object; link it with -shared -fPIC"},
      {"core.so", Patch(type, ET_CORE),
       "it is a core dump, not a shared object; link it with -shared -fPIC"},
      {"static", Patch(type, ET_EXEC),
       "it is an executable, not a shared object; link it with -shared -fPIC"},
  };
  const TempDir directory;
  for (const Made& row : kTable) {
    const std::string path = directory.Path(row.file);
    row.make(path, good);
    EXPECT_EQ(Refusal(path), "cannot load plugin " + path + ": " + row.reason);
  }
}

TEST(Broken, ATruncatedPluginIsRefusedAtEveryLength) {
  const std::string good = ReadFile(BuiltPath("hook.so"));
  const TempDir directory;
  const std::string path = directory.Path("cut.so");
  // A prime, so that the cuts fall anywhere in headers, segments and sections.
  for (size_t size = sizeof(Elf64_Ehdr); size < good.size(); size += 509) {
    WriteFile(path, good.substr(0, size));
    EXPECT_THAT(Refusal(path),
                AllOf(StartsWith("cannot load plugin " + path + ": it is truncated: its "),
                      EndsWith(fmt::format("and the file has {}; copy the whole file", size))));
  }
}

TEST(Broken, TheMessageIsOneLineWhateverThePath) {
  const std::string refusal = Refusal("/nowhere/two\nlines\x1b[31m.so");
  EXPECT_EQ(refusal,
            "cannot load plugin /nowhere/two\\x0alines\\x1b[31m.so: it cannot be read (No such "
            "file or directory); check the path");
  EXPECT_THAT(Refusal(std::string("a\0b", 3)), HasSubstr("the path contains a NUL"));
}

// ---- Why the refusals are there ----

TEST(Broken, FullProtobufWouldAbortTheProcess) {
  // The host's own copy of the class is registered.
  ASSERT_NE(envoy::type::v3::HttpStatus::descriptor(), nullptr);
  const std::string path = BuiltPath("full_protobuf.so");
  EXPECT_DEATH(dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL), "File already exists in database");
  Refusal(path);
  EXPECT_NE(envoy::type::v3::HttpStatus::descriptor(), nullptr) << "and the process lives on";
}

TEST(Broken, ASecondGoRuntimeIsRefusedButNotTheSameOneAgain) {
  const std::string one = BuiltPath("go_one.so");
  const std::string two = BuiltPath("go_two.so");
  ASSERT_TRUE(LoadPlugin(one).ok());
  EXPECT_EQ(Refusal(two),
            "cannot load plugin " + two +
                ": it brings a second Go runtime into the process, which has that of " + one +
                " and can have only one; run it in a host of its own or, to replace that plugin, "
                "restart the host by draining it");
  EXPECT_TRUE(LoadPlugin(one).ok());
  const TempDir directory;
  const std::string link = directory.Path("linked.so");
  std::filesystem::create_symlink(one, link);
  EXPECT_TRUE(LoadPlugin(link).ok()) << "the same file under another name";
}

TEST(Broken, AThrowingConstructorEndsTheProcessWithItsPluginNamed) {
  const std::string path = BuiltPath("throwing_constructor.so");
  EXPECT_DEATH(LoadPlugin(path).IgnoreError(),
               "cannot load plugin " + path +
                   ": one of its constructors threw an exception \\(no license found\\), which "
                   "ends the process; catch it there");
}

// ---- Creation ----

std::string CreateRefusal(const std::string& file) {
  const auto plugin = LoadPlugin(BuiltPath(file));
  EXPECT_TRUE(plugin.ok()) << plugin.status();
  if (!plugin.ok()) return "";
  Metrics metrics;
  InstanceContext context;
  context.metrics = &metrics;
  const auto instance = Instance::Create(*plugin, "edge", "", InstanceSettings(), context);
  EXPECT_FALSE(instance.ok()) << file;
  return std::string(instance.status().message());
}

TEST(Broken, ACreateThatFailsIsRefusedWithItsStatusAndItsReason) {
  ::testing::internal::CaptureStderr();
  const std::string refusal = CreateRefusal("create_fails.so");
  const std::string log = ::testing::internal::GetCapturedStderr();
  EXPECT_EQ(refusal, "creating plugin edge from " + BuiltPath("create_fails.so") +
                         ": callout_plugin_create returned FAILED_PRECONDITION: no upstream is "
                         "configured");
  EXPECT_THAT(log, AllOf(HasSubstr("no upstream is configured"), HasSubstr("edge")));
}

TEST(Broken, ACreateThatThrowsIsRefusedWithWhatItThrew) {
  EXPECT_EQ(CreateRefusal("create_throws.so"),
            "creating plugin edge from " + BuiltPath("create_throws.so") +
                ": callout_plugin_create threw an exception (cannot parse\\x0athe configuration); "
                "catch it there and return a negative status");
}

// ---- What is not refused ----

TEST(Broken, AGoodPluginIsLoadedWithoutAWarning) {
  const auto plugin = LoadPlugin(BuiltPath("hook.so"));
  ASSERT_TRUE(plugin.ok()) << plugin.status();
  EXPECT_EQ((*plugin)->name(), "hook");
  EXPECT_EQ((*plugin)->abi_version(), 1U);
  EXPECT_THAT((*plugin)->hook_names(), ElementsAre("callout_on_request_headers"));
  EXPECT_THAT((*plugin)->warnings(), ElementsAre());
}

TEST(Broken, APluginWhoseConstructorsStartThreadsIsLoadedWithAWarning) {
  const auto plugin = LoadPlugin(BuiltPath("constructor_thread.so"));
  ASSERT_TRUE(plugin.ok()) << plugin.status();
  EXPECT_THAT((*plugin)->warnings(),
              ElementsAre("its constructors have started 1 thread, also where the file is only "
                          "checked, and nothing stops them; start threads in "
                          "callout_plugin_create and join them in callout_plugin_destroy"));
}

TEST(Broken, SuspiciousPluginsAreLoadedWithWarnings) {
  const auto plugin = LoadPlugin(BuiltPath("suspicious.so"));
  ASSERT_TRUE(plugin.ok()) << plugin.status();
  EXPECT_THAT(
      (*plugin)->warnings(),
      ::testing::UnorderedElementsAre(
          "it exports callout_plugin_destroy without callout_plugin_create, so destroy gets "
          "NULL; export both or neither",
          "it exports callout_future_extension_of_some_kind, which this host does not know; make "
          "it static, or use a newer host",
          "it exports 1 GNU_UNIQUE symbol (_ZN7CounterIiE5countE), which all plugins and "
          "generations share; compile it with -fno-gnu-unique and -fvisibility=hidden"));
  EXPECT_EQ((*plugin)->info().name, "suspicious\\x0a");
  EXPECT_EQ((*plugin)->info().version, "0.1");
  EXPECT_EQ((*plugin)->info().description, "") << "beyond its struct_size";
}

}  // namespace
}  // namespace callout::host
