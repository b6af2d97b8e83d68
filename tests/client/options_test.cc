// SPDX-License-Identifier: Apache-2.0

// What callout-client refuses before it connects, and what it says then.
#include <gmock/gmock.h>

#include <string>
#include <vector>

#include "run_client.h"
#include "tests/integration/certificates.h"

namespace callout::tests {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// The one line that it says.
std::string Refusal(const std::vector<std::string>& arguments, const std::string& input = "") {
  const ClientRun run = RunClient(arguments, input);
  EXPECT_EQ(run.exit_status, 2) << run.said;
  EXPECT_THAT(run.answers, IsEmpty());
  EXPECT_EQ(run.said.find('\n'), run.said.size() - 1) << run.said;
  EXPECT_TRUE(run.said.starts_with("callout-client: ")) << run.said;
  return run.said.substr(16, run.said.size() - 17);
}

TEST(ClientOptions, HelpTellsTheExitCodes) {
  const ClientRun run = RunClient({"--help"});
  EXPECT_EQ(run.exit_status, 0);
  std::string help;
  for (const std::string& line : run.answers) help += line + "\n";
  EXPECT_THAT(help, AllOf(HasSubstr("Exit code: 0 "), HasSubstr("\n1 "),
                          HasSubstr("; 2 invalid arguments"), HasSubstr("\n3 no connection; 4 "),
                          HasSubstr("--data JSON|@FILE"), HasSubstr("--timeout_ms MS=10000")));
  EXPECT_THAT(RunClient({"--version"}).answers,
              ElementsAre(testing::MatchesRegex("callout-client [0-9.]+")));
}

TEST(ClientOptions, RefusesBadUsageInOneLine) {
  const std::string address = "expected HOST:PORT, [IPV6]:PORT or unix:PATH";
  const std::string number = "expected a whole number from 1 to 2147483647";
  const std::vector<std::pair<std::vector<std::string>, std::string>> table = {
      {{}, "no server ADDRESS; see --help"},
      {{"localhost"}, "ADDRESS localhost: " + address},
      {{":80"}, "ADDRESS :80: " + address},
      {{"localhost:0"}, "ADDRESS localhost:0: " + address},
      {{"localhost:http"}, "ADDRESS localhost:http: " + address},
      {{"unix:"}, "ADDRESS unix:: " + address},
      {{"localhost:1", "localhost:2"},
       "unexpected argument 'localhost:2'; --help lists the options"},
      {{"localhost:1", "--dat={}"}, "unknown option '--dat=…'; did you mean --data?"},
      {{"localhost:1", "--data"}, "--data: no value; expected --OPTION=VALUE"},
      {{"localhost:1", "--timeout_ms=0"}, "--timeout_ms=0: " + number},
      {{"localhost:1", "--timeout-ms=1s"}, "--timeout_ms=1s: " + number},
      {{"localhost:1", "--wait_ms=-1"},
       "--wait_ms=-1: expected a whole number from 0 to 2147483647"},
      {{"localhost:1", "--plaintext=maybe"}, "--plaintext=maybe: expected true or false"},
      {{"localhost:1", "--plaintext", "--cert=/ca"},
       "--plaintext does not use --cert, --client_cert or --client_key; give one or the "
       "other"},
      {{"localhost:1", "--client_cert=/c"},
       "--client_cert and --client_key need each other; give both"},
      {{"localhost:1", "--cert=/nonexistent"},
       "--cert: cannot read the CA file /nonexistent: No such file or directory"},
      {{"localhost:1", "--data=@/nonexistent"},
       "--data 1: cannot read /nonexistent: No such file or directory"},
  };
  for (const auto& [arguments, message] : table) EXPECT_EQ(Refusal(arguments), message);
}

TEST(ClientOptions, RefusesAKeyThatDoesNotFit) {
  const host::TempDir dir;
  const TestCa ca("clients");
  const PairFiles files(dir, {ca.Issue("a").cert_pem, ca.Issue("b").key_pem});
  EXPECT_THAT(Refusal({"localhost:1", "--client_cert=" + files.chain_path,
                       "--client_key=" + files.key_path}),
              AllOf(testing::StartsWith("--client_cert: "), HasSubstr(files.key_path)));
}

std::string BadData(const std::string& json) {
  return Refusal({"localhost:1", "--plaintext", "--data", json});
}

TEST(ClientData, IsNamedWithThePlaceOfItsMistake) {
  EXPECT_THAT(BadData(R"({"request_headers": {})"),
              testing::StartsWith("--data 1: invalid JSON: parse error at line 1, column 23: "));
  EXPECT_THAT(BadData("{\"request_headers\":\n  oops}"), HasSubstr("line 2, column 3: "));
  EXPECT_THAT(BadData(" "),
              testing::StartsWith("--data 1: invalid JSON: parse error at line 1, column 2: "));
  EXPECT_THAT(BadData(R"({"request_headers": {"bogus": 1}})"),
              AllOf(testing::StartsWith("--data 1: message 1 is not a ProcessingRequest: "),
                    HasSubstr("(request_headers) bogus: Cannot find field.")));
  EXPECT_THAT(BadData(R"([{"request_headers": {}}, {"request_body": {"body": "%"}}])"),
              AllOf(HasSubstr("message 2"), HasSubstr("request_body.body")));
  EXPECT_EQ(BadData(std::string(20000, '[') + std::string(20000, ']')),
            "--data 1: invalid JSON: lists and objects are nested more than 100 deep");
  EXPECT_THAT(BadData("[1]"), HasSubstr("message 1 is not a ProcessingRequest"));
  EXPECT_THAT(BadData("\xff"), HasSubstr("invalid JSON: parse error at line 1, column 1: "));
}

TEST(ClientData, IsCountedByOccurrenceAndNamedByItsFile) {
  const ClientRun second = RunClient({"localhost:1", "--plaintext", "--data={}", "--data=[[]]"});
  EXPECT_EQ(second.exit_status, 2);
  EXPECT_THAT(second.said, HasSubstr("--data 2: message 1"));
  const host::TempDir dir;
  WriteFile(dir.Path("bad.json"), "nonsense");
  EXPECT_THAT(Refusal({"localhost:1", "--data=@" + dir.Path("bad.json")}),
              HasSubstr("--data 1 (" + dir.Path("bad.json") + "): invalid JSON: "));
  EXPECT_THAT(Refusal({"localhost:1", "--data", "@-"}, "nonsense"),
              HasSubstr("--data 1 (/dev/stdin): invalid JSON: "));
}

}  // namespace
}  // namespace callout::tests
