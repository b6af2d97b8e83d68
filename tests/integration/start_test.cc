// SPDX-License-Identifier: Apache-2.0

// Starts that fail, and what the host prints without serving.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <signal.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "certificates.h"
#include "ext_proc_client.h"
#include "host/net/listener.h"
#include "test_host.h"

namespace callout::tests {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::StartsWith;

// Exit status 2 and one line.
void ExpectRefused(const std::vector<std::string>& options, const std::string& message,
                   const std::vector<std::string>& environment = {}) {
  std::vector<std::string> all = {"--secure_address=127.0.0.1:0", "--plaintext_address=127.0.0.1:0",
                                  "--health_check_address=127.0.0.1:0", "--admin_address=off"};
  all.insert(all.end(), options.begin(), options.end());
  const Finished finished = RunHost(all, environment);
  EXPECT_EQ(finished.exit_status, 2) << finished.output;
  EXPECT_THAT(finished.output, AllOf(StartsWith("callout-host: "), HasSubstr(message)));
  EXPECT_EQ(std::count(finished.output.begin(), finished.output.end(), '\n'), 1) << finished.output;
}

TEST(Start, RefusesATakenPort) {
  auto taken = host::ListenSocket::Open(host::ParsedAddress("127.0.0.1:0"));
  ASSERT_TRUE(taken.ok()) << taken.status();
  const std::string address = taken->bound().ToString();
  for (const std::string name : {"secure", "plaintext", "health_check", "admin"}) {
    const std::string listener = name == "health_check" ? "health" : name;
    ExpectRefused({"--" + name + "_address=" + address},
                  listener + " listener: cannot listen on " + address +
                      ": address already in use; is another callout-host running?");
  }
}

TEST(Start, GoesOnWithoutAdminPagesIfTheirDefaultPortIsTaken) {
  constexpr char kWarning[] =
      "WARNING admin listener: cannot listen on 127.0.0.1:9902: address already in use; is another "
      "callout-host running?; running without the admin pages; set --admin_address";
  // Taken by this or by whatever else has it, which may let it go meanwhile: then once more.
  bool is_ours = false;
  bool warned = false;
  while (!is_ours && !warned) {
    const auto taken = host::ListenSocket::Open(host::ParsedAddress("127.0.0.1:9902"));
    is_ours = taken.ok();
    ChildProcess process(HostCommand({"--disable_tls", "--plaintext_address=127.0.0.1:0",
                                      "--health_check_address=127.0.0.1:0"}));
    process.AwaitLine("serving with ");
    warned = process.Output().find(kWarning) != std::string::npos;
    EXPECT_TRUE(warned || !is_ours) << process.Output();
    EXPECT_EQ(process.Terminate(), 0);
  }
}

TEST(Start, RefusesASecondHostOnTheSameUnixSocket) {
  const host::TempDir dir;
  const std::string option = "--plaintext_address=unix:" + dir.Path("socket");
  TestHost first({option});
  ExpectRefused({option}, "address already in use");
  LiveStream stream(PlaintextChannel(first.address("plaintext")));
  EXPECT_TRUE(stream.Exchange(RequestHeaders({})).has_value());
}

TEST(Start, RefusesBadCertificates) {
  const host::TempDir dir;
  const PairFiles files(dir, TestCa("a").Issue("localhost"));
  ExpectRefused({"--cert_chain_path=/nonexistent", "--private_key_path=" + files.key_path},
                "cannot read the certificate chain /nonexistent: No such file or directory");
  ExpectRefused({"--cert_chain_path=" + files.chain_path, "--private_key_path=/nonexistent"},
                "cannot read the private key /nonexistent: No such file or directory");
  ReplaceFile(files.key_path, TestCa("b").Issue("localhost").key_pem);
  ExpectRefused(files.Options(), "does not belong to the certificate");
  ReplaceFile(files.key_path, "");
  ExpectRefused(files.Options(), "the private key " + files.key_path + " is empty");
  ExpectRefused({"--client_ca_path=/nonexistent"}, "cannot read the CA file /nonexistent");
}

TEST(Start, RefusesAPluginThatCannotLoad) {
  ExpectRefused({"--plugin=/nonexistent/p.so"}, "cannot load plugin /nonexistent/p.so: ");
}

TEST(Start, RefusesBadOptionsOnTheCommandLineAndInTheEnvironment) {
  ExpectRefused({"--plaintext_address=nowhere"},
                "--plaintext_address=nowhere: address 'nowhere': no port");
  ExpectRefused({}, "CALLOUT_LOG_LEVEL=loud: expected debug, info, warning or error",
                {"CALLOUT_LOG_LEVEL=loud"});
}

TEST(Start, WarnsOfAMisspeltVariable) {
  TestHost host({}, {"CALLOUT_LOG_LEVL=debug"});
  EXPECT_THAT(host.Log(), HasSubstr("environment variable CALLOUT_LOG_LEVL is not an option; "
                                    "did you mean CALLOUT_LOG_LEVEL?"));
}

TEST(Start, TakesOptionsFromTheEnvironmentAndAFile) {
  const host::TempDir dir;
  WriteFile(dir.Path("host.conf"), "# comment\ndisable_tls\n");
  TestHost host({"--config=" + dir.Path("host.conf")}, {"CALLOUT_COMBINED_HEALTH_CHECK=true"});
  EXPECT_THAT(host.Log(), ::testing::Not(HasSubstr("listening secure")));
  EXPECT_THAT(host.Log(), ::testing::Not(HasSubstr("listening health")));
}

TEST(Start, WritesItsErrorAsJsonIfThatIsTheFormat) {
  const Finished finished = RunHost(
      {"--log_format=json", "--cert_chain_path=/nonexistent", "--private_key_path=/nonexistent"});
  EXPECT_EQ(finished.exit_status, 2);
  EXPECT_THAT(finished.output,
              AllOf(StartsWith("{\"time\":\""),
                    EndsWith("\"level\":\"error\",\"message\":\"cannot read the certificate chain "
                             "/nonexistent: No such file or directory\"}\n")));
}

// What `env`, `prlimit` and shells pass on stands in place of variables.
using Starter = std::vector<std::string>;

TEST(Inherited, BlockedAndIgnoredSignalsDoNotKeepAHostFromItsEnd) {
  for (const Starter& starter : {Starter{"--block-signal=TERM"}, Starter{"--block-signal"},
                                 Starter{"--ignore-signal=TERM"}}) {
    TestHost host({}, starter);
    EXPECT_EQ(host.Terminate(), 0) << starter[0];
  }
}

TEST(Inherited, ACrashIsReportedWhateverWasDoneToItsSignal) {
  for (const Starter& starter : {Starter{"--block-signal=SEGV"}, Starter{"--ignore-signal=SEGV"}}) {
    TestHost host({}, starter);
    host.Signal(SIGSEGV);
    EXPECT_EQ(host.AwaitEnd(), 128 + SIGSEGV) << starter[0];
    EXPECT_THAT(host.Log(), HasSubstr("SIGSEGV outside of every hook"));
  }
}

TEST(Inherited, TheEndOfAWorkerIsKnownIfChildrenWereIgnored) {
  TestHost host({"--workers=1"}, {"--ignore-signal=CHLD"});
  const std::string serves = host.AwaitLog("worker 1 (process ");
  kill(std::stoi(serves), SIGKILL);
  EXPECT_THAT(host.AwaitLog("worker 1 (process " + std::to_string(std::stoi(serves)) +
                            ") has ended, and its streams are lost: "),
              HasSubstr("SIGKILL"));
  EXPECT_EQ(host.Terminate(), 0);
}

TEST(Inherited, AFileThatMayNotGrowEndsNoHost) {
  ExpectRefused({"--plugin=" + BuiltPlugin("basic")}, "File too large",
                {"prlimit", "--fsize=4096"});
  TestHost host({}, {"prlimit", "--fsize=0"});
  EXPECT_EQ(host.Terminate(), 0);
}

TEST(Inherited, FewDescriptorsAreAnErrorThatSaysSo) {
  for (const char* limit : {"--nofile=16", "--nofile=63"}) {
    ExpectRefused({}, "it needs 64 to start", {"prlimit", limit});
  }
  TestHost host({}, {"prlimit", "--nofile=64"});
  LiveStream stream(PlaintextChannel(host.address("plaintext")));
  EXPECT_TRUE(stream.Exchange(RequestHeaders({})).has_value());
}

TEST(Inherited, AUmaskThatLeavesTheOwnerNothingDoesNotKeepAPluginFromLoading) {
  const host::TempDir temporary;
  TestHost host({"--plugin=" + BuiltPlugin("basic")},
                {"TMPDIR=" + temporary.Path(""), "sh", "-c", "umask 0777; exec \"$0\" \"$@\""});
  for (const auto& entry : std::filesystem::directory_iterator(temporary.Path(""))) {
    EXPECT_EQ(entry.status().permissions(), std::filesystem::perms::owner_all) << entry;
  }
  EXPECT_EQ(host.Terminate(), 0);
}

TEST(Inherited, AnAlarmDoesNotEndTheHost) {
  TestHost host({}, {"perl", "-e", "alarm 1; exec @ARGV"});
  const auto after = std::chrono::steady_clock::now() + std::chrono::milliseconds(1200);
  LiveStream stream(PlaintextChannel(host.address("plaintext")));
  while (std::chrono::steady_clock::now() < after) {
    ASSERT_TRUE(stream.Exchange(RequestBody("x", false)).has_value());
  }
  EXPECT_EQ(host.Terminate(), 0);
}

TEST(Check, PrintsAndServesNothing) {
  const Finished finished = RunHost({"--check"});
  EXPECT_EQ(finished.exit_status, 0);
  EXPECT_EQ(finished.output,
            "no plugins: all messages pass unchanged\nthe configuration is good\n");
  EXPECT_EQ(RunHost({"--list-plugins"}).output, finished.output);
}

// The host would start and send no traces.
TEST(Check, ReadsTheFilesOfTheCollectorsTls) {
  const std::string endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT=https://127.0.0.1:1";
  EXPECT_EQ(RunHost({"--check", "--strict"}, {endpoint}).exit_status, 0);
  for (const char* variable :
       {"OTEL_EXPORTER_OTLP_CERTIFICATE", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"}) {
    const std::vector<std::string> lost = {endpoint, std::string(variable) + "=/nonexistent.pem"};
    const Finished finished = RunHost({"--check"}, lost);
    EXPECT_EQ(finished.exit_status, 0);
    EXPECT_THAT(finished.output,
                AllOf(HasSubstr("warning: no traces are sent: "), HasSubstr("/nonexistent.pem")));
    EXPECT_EQ(RunHost({"--check", "--strict"}, lost).exit_status, 2);
  }
}

TEST(Check, StrictlyAWarningIsAFailure) {
  EXPECT_EQ(RunHost({"--check", "--strict"}).exit_status, 0);
  const std::vector<std::string> misspelt = {"CALLOUT_PLUGIN_DIR=/nowhere"};
  EXPECT_EQ(RunHost({"--check"}, misspelt).exit_status, 0);
  const Finished finished = RunHost({"--check", "--strict"}, misspelt);
  EXPECT_EQ(finished.exit_status, 2);
  EXPECT_THAT(finished.output,
              AllOf(StartsWith("warning: environment variable CALLOUT_PLUGIN_DIR"),
                    HasSubstr("--check --strict: there were warnings (1); fix what they name")));
}

TEST(Check, RefusesWhatAStartRefuses) {
  ExpectRefused({"--check", "--plugin=/nonexistent/p.so"},
                "cannot load plugin /nonexistent/p.so: ");
  ExpectRefused({"--check", "--cert_chain_path=/nonexistent", "--private_key_path=/nonexistent"},
                "cannot read the certificate chain /nonexistent");
}

TEST(Check, RefusesAStateDirectoryThatAStartRefuses) {
  const host::TempDir dir;
  const std::string file = dir.Path("file");
  std::ofstream(file) << "no directory";
  for (const auto& [path, why] : {std::pair(dir.Path("none"), "No such file or directory"),
                                  std::pair(file, "Not a directory")}) {
    const std::string message = "cannot write to --state_dir=" + path + ": " + why +
                                "; create the directory, and let this user write to it\n";
    ExpectRefused({"--state_dir=" + path}, message);
    ExpectRefused({"--check", "--state_dir=" + path}, message);
  }
}

TEST(Check, LeavesNothingInTheStateDirectory) {
  const host::TempDir dir;
  const Finished finished = RunHost({"--check", "--state_dir=" + dir.Path("")});
  EXPECT_EQ(finished.exit_status, 0) << finished.output;
  EXPECT_TRUE(std::filesystem::is_empty(dir.Path("")));
}

TEST(Print, VersionAndHelp) {
  const Finished version = RunHost({"--version"});
  EXPECT_EQ(version.exit_status, 0);
  EXPECT_THAT(version.output, MatchesRegex("callout-host [0-9]+\\.[0-9]+\\.[0-9]+\n"));
  const Finished help = RunHost({"--help"});
  EXPECT_EQ(help.exit_status, 0);
  for (const std::string group :
       {"Plugins:", "Listeners:", "TLS:", "Health:", "Calls:", "Connections:", "Process:"}) {
    EXPECT_THAT(help.output, HasSubstr("\n" + group + "\n"));
  }
}

}  // namespace
}  // namespace callout::tests
