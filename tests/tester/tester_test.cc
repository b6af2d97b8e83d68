// SPDX-License-Identifier: Apache-2.0

// callout-test: what cases in YAML say of the plugins of this repository.
#include <gmock/gmock.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "child_process.h"
#include "envoy_process.h"
#include "host_process.h"

namespace callout::tests {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

struct Ran {
  int exit_status = -1;
  std::string output;
};

class TesterTest : public ::testing::Test {
 protected:
  std::string Write(const std::string& name, const std::string& text) const {
    const std::string path = directory_.Path(name);
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    std::ofstream(path) << text;
    return path;
  }
  std::string Read(const std::string& name) const {
    std::stringstream text;
    text << std::ifstream(directory_.Path(name)).rdbuf();
    return text.str();
  }
  // Of the directory, unless `place` names something else.
  Ran Run(std::vector<std::string> options = {}, const std::string& place = "") const {
    const std::string plugins = std::filesystem::path(BuiltPlugin("basic")).parent_path();
    options.insert(options.begin(), {BuiltFile("host/callout-test"), "--plugins_dir=" + plugins,
                                     place.empty() ? directory_.Path("") : place});
    ChildProcess process(std::move(options));
    const int status = process.AwaitEnd();
    return {status, process.Output()};
  }
  // Runs one file with these cases for a chain of one plugin.
  Ran RunCases(const std::string& plugin, const std::string& cases) const {
    Write("cases.yaml", "chain:\n- plugin: " + plugin + ".so\ncases:\n" + cases);
    return Run();
  }

  // Runs its cases with a short time limit of hooks.
  Ran RunMisbehaves(const std::string& what) const;

  const host::TempDir directory_;
};

TEST_F(TesterTest, ShowsWhatBackendAndClientGet) {
  const Ran ran = RunCases("basic", R"(
- name: headers and bodies
  request: {method: POST, path: /a, headers: {foo: bar, keep: [one, two]}, body: text}
  response: {status: 200, headers: {a: b}, body: old}
  expect:
    forwarded: true
    request:
      headers:
        header-request: request
        foo: null
        keep: [one, two]
        ":path": {regex: "/.*"}
        ":method": POST
      body: replaced-body
    response:
      status: 200
      headers: {hello: service-extensions, a: {regex: "[a-z]"}}
      body: null
)");
  EXPECT_EQ(ran.output, "1 passed, 0 failed\n");
  EXPECT_EQ(ran.exit_status, 0);
}

// Whatever is expected in process holds through a real Envoy.
TEST_F(TesterTest, OutcomesAreTheSameInProcessAndThroughEnvoy) {
  const Ran in_process = Run({}, CALLOUT_CASES);
  EXPECT_EQ(in_process.output, "37 passed, 0 failed\n");
  EXPECT_EQ(in_process.exit_status, 0);
  if (!EnvoyProcess::Available()) {
    const char* ci = getenv("CI");
    if (ci != nullptr && std::string(ci) == "true") FAIL() << EnvoyProcess::WhyNot();
    GTEST_SKIP() << EnvoyProcess::WhyNot();
  }
  const Ran by_envoy = Run({"--envoy", "--envoy_path=" + EnvoyProcess::Binary()}, CALLOUT_CASES);
  EXPECT_EQ(by_envoy.output, "36 passed, 0 failed, 1 skipped\n");
  EXPECT_EQ(by_envoy.exit_status, 0);
}

TEST_F(TesterTest, RunsTheCasesOfEveryPlaceThatIsNamed) {
  const std::string first = std::string(CALLOUT_CASES) + "/redirect.yaml";
  const std::string second = std::string(CALLOUT_CASES) + "/basic.yaml";
  const Ran both = Run({first, "--list"}, second);
  EXPECT_EQ(both.exit_status, 0);
  EXPECT_THAT(both.output, HasSubstr(Run({"--list"}, first).output));
  EXPECT_THAT(both.output, HasSubstr(Run({"--list"}, second).output));
}

// --- Plugins that misbehave -----------------------------------------------------------

constexpr char kMisbehaves[] = R"(
- {name: good, request: {}, expect: {forwarded: true}}
- {name: bad, request: {headers: {x-do: WHAT}}, expect: {forwarded: true}}
)";

std::string Misbehaves(const std::string& what) {
  std::string cases = kMisbehaves;
  return cases.replace(cases.find("WHAT"), 4, what);
}

Ran TesterTest::RunMisbehaves(const std::string& what) const {
  Write("cases.yaml", "chain:\n- plugin: " + BuiltFile("tests/tester/misbehaves.so") +
                          "\ncases:" + Misbehaves(what));
  return Run({"--hook_deadline_ms=100"});
}

TEST_F(TesterTest, AHookThatEndsTheProcessIsNoSuccess) {
  const std::string plugin = BuiltFile("tests/tester/misbehaves");
  const Ran exits = RunCases(plugin, Misbehaves("exit"));
  EXPECT_EQ(exits.exit_status, 1);
  EXPECT_THAT(exits.output, HasSubstr("exit() was called while plugin misbehaves ran "
                                      "callout_on_request_headers"));
  const Ran aborts = RunCases(plugin, Misbehaves("abort"));
  EXPECT_NE(aborts.exit_status, 0);
  EXPECT_THAT(aborts.output,
              HasSubstr("SIGABRT while plugin misbehaves ran callout_on_request_headers"));
}

// --- Services that plugins call -------------------------------------------------

class TesterServicesTest : public TesterTest {
 protected:
  // Asks about a token; `upstreams` is what the file says of them.
  Ran Introspect(const std::string& upstreams, const std::string& expected,
                 const std::vector<std::string>& options = {}) const {
    Write("cases.yaml", "chain:\n- {plugin: oauth2_introspect.so, config: {upstream: tokens}}\n" +
                            upstreams +
                            "cases:\n- name: x\n"
                            "  request: {headers: {authorization: Bearer abc}}\n  expect: " +
                            expected + "\n");
    return Run(options);
  }

  static constexpr char kKnown[] =
      "upstreams:\n  tokens:\n    /introspect: {body: '{\"active\": true, \"sub\": \"ada\"}'}\n";
  static constexpr char kPasses[] = "{request: {headers: {x-auth-subject: ada}}}";
  static constexpr char kRefused[] = "{forwarded: false, response: {status: 503}}";
};

TEST_F(TesterServicesTest, GiveTheResponsesOfTheFile) {
  EXPECT_THAT(Introspect(kKnown, kPasses).output, HasSubstr("1 passed, 0 failed"));
  EXPECT_THAT(Introspect("upstreams: {tokens: {/other: {}}}\n", kRefused).output,
              HasSubstr("1 passed, 0 failed"))
      << "a path that the file does not have is 404";
  EXPECT_THAT(Introspect("upstreams: {tokens: down}\n", kRefused).output,
              HasSubstr("1 passed, 0 failed"));
}

TEST_F(TesterServicesTest, GiveThemThroughEnvoyAsWell) {
  if (!EnvoyProcess::Available()) GTEST_SKIP() << EnvoyProcess::WhyNot();
  const std::vector<std::string> envoy = {"--envoy", "--envoy_path=" + EnvoyProcess::Binary()};
  EXPECT_THAT(Introspect(kKnown, kPasses, envoy).output, HasSubstr("1 passed, 0 failed"));
  EXPECT_THAT(Introspect("upstreams: {tokens: down}\n", kRefused, envoy).output,
              HasSubstr("1 passed, 0 failed"));
}

TEST_F(TesterServicesTest, ComeBeforeThoseOfTheOption) {
  const std::string nobody = directory_.Path("nobody.sock");
  const std::string file =
      Write("upstreams.json", R"({"tokens": {"url": "unix:)" + nobody + "\"}}");
  const std::vector<std::string> option = {"--upstreams=" + file};
  EXPECT_THAT(Introspect("", kRefused, option).output, HasSubstr("1 passed, 0 failed"));
  EXPECT_THAT(Introspect(kKnown, kPasses, option).output, HasSubstr("1 passed, 0 failed"));
}

TEST_F(TesterServicesTest, OneThatIsDownIsNotReachedAtTheSocketOfAnother) {
  const std::string file =
      Write("upstreams.json", R"({"tokens": {"url": "unix:/x"}, "others": {"url": "unix:/y"}})");
  const std::string upstreams =
      "upstreams:\n  tokens: down\n  others:\n    /introspect: {body: '{\"active\": true, \"sub\": "
      "\"ada\"}'}\n";
  EXPECT_THAT(Introspect(upstreams, kRefused, {"--upstreams=" + file}).output,
              HasSubstr("1 passed, 0 failed"));
}

TEST_F(TesterServicesTest, AFileOfUpstreamsThatIsWrongIsNamed) {
  const std::string file = Write("upstreams.json", R"({"tokens": {"ulr": "unix:/x"}})");
  const Ran ran = Introspect("", kRefused, {"--upstreams=" + file});
  EXPECT_EQ(ran.exit_status, 2);
  EXPECT_THAT(ran.output, AllOf(HasSubstr("--upstreams=" + file + ": "), HasSubstr("\"ulr\"")));
  EXPECT_THAT(Introspect("", kRefused, {"--upstreams=@" + file}).output,
              HasSubstr("; give the path of the file, without @"));
}

TEST_F(TesterServicesTest, ADirectoryWhosePathIsTooLongForASocketIsNamed) {
  const std::string deep = directory_.Path(std::string(100, 'd'));
  std::filesystem::create_directories(deep);
  const char* const before = std::getenv("TMPDIR");
  const std::string kept = before == nullptr ? "" : before;
  setenv("TMPDIR", deep.c_str(), 1);
  const Ran ran = Introspect(kKnown, kPasses);
  before == nullptr ? unsetenv("TMPDIR") : setenv("TMPDIR", kept.c_str(), 1);
  EXPECT_EQ(ran.exit_status, 2);
  EXPECT_THAT(ran.output, AllOf(HasSubstr(deep), HasSubstr("set TMPDIR to a shorter path")));
}

TEST_F(TesterTest, WhatSettingsDisableOrMakeAShadowDecidesNothing) {
  const std::pair<const char*, const char*> kSettings[] = {
      {"{disabled: true}", "plugin misbehaves does not run: its settings disable it"},
      {"{mode: shadow}", "plugin misbehaves is not called: by its settings it is a shadow"}};
  for (const auto& [settings, why] : kSettings) {
    Write("cases.yaml", "chain:\n- {plugin: " + BuiltFile("tests/tester/misbehaves.so") +
                            ", settings: " + settings + "}\ncases:" + Misbehaves("exit"));
    const Ran ran = Run({});
    EXPECT_EQ(ran.exit_status, 0);
    EXPECT_THAT(ran.output, AllOf(HasSubstr(why), HasSubstr("2 passed, 0 failed")));
  }
}

TEST_F(TesterTest, AHookThatHangsIsNamed) {
  const Ran ran = RunMisbehaves("hang");
  EXPECT_EQ(ran.exit_status, 1);
  EXPECT_THAT(ran.output,
              HasSubstr("plugin misbehaves has been in callout_on_request_headers for "));
}

TEST_F(TesterTest, ADeferredCallThatIsNeverFinishedFailsItsCase) {
  const Ran ran = RunMisbehaves("forget");
  EXPECT_EQ(ran.exit_status, 1);
  EXPECT_THAT(ran.output,
              AllOf(HasSubstr("cases.yaml:5: bad: a plugin has deferred a call, and not finished "
                              "it 1000 ms after the end"),
                    HasSubstr("1 passed, 1 failed")));
}

TEST_F(TesterTest, TwoCasesHaveNoGoldenFileInCommon) {
  const Ran ran = RunCases("basic", R"(
- {name: a b, golden: true, request: {}}
- {name: a_b, golden: true, request: {}}
)");
  EXPECT_EQ(ran.exit_status, 2);
  EXPECT_THAT(ran.output, HasSubstr("cases.a_b.json is that of "));
}

TEST_F(TesterTest, ARegexIsForValuesThatTheStackHasRoomFor) {
  const std::string body(4096, 'a');
  const auto cases = [](const std::string& sent) {
    return "- {name: large, request: {body: " + sent +
           "}, expect: {request: {body: {regex: '((.|a)|(b|a))*'}}}}\n";
  };
  EXPECT_EQ(RunCases("set_cookie", cases(body)).output, "1 passed, 0 failed\n");
  EXPECT_THAT(RunCases("set_cookie", cases(body + "a")).output,
              HasSubstr("4097 bytes are too many for a regex, limit 4096"));
}

TEST_F(TesterTest, SaysWhatIsWrongIfEnvoyOrTheHostDoesNotStart) {
  const std::string cases = std::string(CALLOUT_CASES) + "/redirect.yaml";
  const Ran no_envoy = Run({"--envoy", "--envoy_path=/nowhere/envoy"}, cases);
  EXPECT_EQ(no_envoy.exit_status, 2);
  EXPECT_THAT(no_envoy.output, HasSubstr("cannot start /nowhere/envoy: No such file or directory; "
                                         "name one by --envoy_path or CALLOUT_ENVOY"));
  const Ran no_host = Run({"--envoy", "--host_path=/bin/false"}, cases);
  EXPECT_EQ(no_host.exit_status, 2);
  EXPECT_THAT(no_host.output, HasSubstr("callout-host does not serve"));
  EXPECT_THAT(Run({"--envoy", "--update"}, cases).output, HasSubstr("--update"));
}

TEST_F(TesterTest, ARunWhoseCasesAreAllSkippedIsNoSuccess) {
  Write("cases.yaml", R"(
chain: [{plugin: add_header.so}]
cases:
- name: by its phases
  phases:
  - request_headers: {headers: {":path": /}}
  expect: {forwarded: true}
)");
  const std::string json = directory_.Path("report.json");
  const Ran ran = Run({"--envoy", "--envoy_path=/nowhere/envoy", "--json=" + json});
  EXPECT_EQ(ran.exit_status, 2);
  EXPECT_THAT(ran.output,
              AllOf(HasSubstr("0 passed, 0 failed, 1 skipped\n"),
                    HasSubstr("no case ran: no HTTP client can bring about its phases")));
  EXPECT_EQ(nlohmann::json::parse(Read("report.json"))["skipped"], 1);
}

TEST_F(TesterTest, NamesFileAndLineOfWhatIsDifferent) {
  const Ran ran = RunCases("add_header", R"(
- name: wrong in every way
  request: {headers: {foo: bar}}
  response: {headers: {foo: bar}, body: text}
  expect:
    request:
      headers:
        header-request: other
        foo: null
        not-there: {regex: "x+"}
    response:
      headers: {foo: bar}
      status: "404"
      body: {regex: ".{3}"}
    metadata: {space: {key: value}}
    error: INTERNAL
    forwarded: false
- name: right
  request: {}
  expect: {request: {headers: {header-request: request}}}
)");
  EXPECT_EQ(ran.exit_status, 1);
  const std::string at = directory_.Path("cases.yaml:");
  for (const char* line :
       {"11: wrong in every way: request header header-request: expected 'other', got 'request'\n",
        "12: wrong in every way: request header foo: expected none, got 'bar'\n",
        "13: wrong in every way: request header not-there: expected one that matches x+, got "
        "none\n",
        "15: wrong in every way: response header foo: expected 'bar', got none\n",
        "16: wrong in every way: response status: expected '404', got '200'\n",
        "17: wrong in every way: response body: expected one that matches .{3}, got 'text'\n",
        "18: wrong in every way: metadata space/key: expected 'value', got none\n",
        "19: wrong in every way: the RPC's error: expected 'INTERNAL', got none\n",
        "9: wrong in every way: the backend got the request\n"}) {
    EXPECT_THAT(ran.output, HasSubstr(at + line));
  }
  EXPECT_THAT(ran.output, HasSubstr("\n1 passed, 1 failed\n"));
}

TEST_F(TesterTest, ShowsImmediateResponsesAndErrors) {
  EXPECT_EQ(RunCases("redirect", R"(
- name: the client is sent elsewhere
  request: {}
  response: {status: 200}
  expect:
    forwarded: false
    response:
      status: 301
      headers: {location: "http://service-extensions.com/redirect"}
)")
                .output,
            "1 passed, 0 failed\n");
  const std::string denied = R"(
- name: no mark
  request: {}
)";
  EXPECT_EQ(RunCases("log_callouts", denied + R"(
  expect: {forwarded: false, error: {regex: "PERMISSION_DENIED: .*"}, response: {status: 500}}
)")
                .output,
            "1 passed, 0 failed\n");
  EXPECT_THAT(RunCases("log_callouts", denied + "  expect: {}\n").output,
              HasSubstr("cases.yaml:7: no mark: the RPC ended with PERMISSION_DENIED: "));
}

TEST_F(TesterTest, TakesPhasesModesMetadataAndAChain) {
  Write("chain.yaml", R"(
chain:
- {plugin: add_body.so, name: first}
- {plugin: add_header.so}
cases:
- name: chunks
  request_body_mode: STREAMED
  phases:
  - request_headers: {headers: {":path": /, a: b}}
  - request_body: {body: one}
  - request_body: {body: two, end_of_stream: true}
  expect: {request: {headers: {a: b, header-request: request}, body: {regex: "one.*two.*"}}}
- name: a body in FULL_DUPLEX_STREAMED
  request_body_mode: FULL_DUPLEX_STREAMED
  phases:
  - request_headers: {headers: {":path": /}}
  - request_body: {body: one}
  - request_body: {body: two, end_of_stream: true}
  expect: {request: {body: {regex: "one.*two.*"}}}
- name: trailers
  request: {body: text, trailers: {t: r}}
  expect: {request: {trailers: {t: r}}}
)");
  Write("metadata.yaml", R"(
chain: [{plugin: dynamic_forwarding.so}]
cases:
- name: an endpoint
  request: {headers: {ip-to-return: 10.1.10.2}}
  expect:
    metadata: {com.google.envoy.dynamic_forwarding.selected_endpoints: {primary: "10.1.10.2:80"}}
)");
  EXPECT_EQ(Run().output, "4 passed, 0 failed\n");
}

// Envoy drops it, and so does the model.
TEST_F(TesterTest, MetadataWithoutANamespaceReachesNobody) {
  const Ran ran = RunCases(BuiltFile("tests/tester/misbehaves"), R"(
- {name: bare, request: {headers: {x-do: bare-metadata}}, golden: true}
)");
  EXPECT_THAT(ran.output, HasSubstr("bare: there is no "));
  EXPECT_EQ(ran.exit_status, 1);
  EXPECT_EQ(Run({"--update"}).exit_status, 0);
  EXPECT_FALSE(nlohmann::json::parse(Read("golden/cases.bare.json")).contains("metadata"));
}

TEST_F(TesterTest, ComparesWithGoldenFilesAndWritesThem) {
  Write("cases.yaml", R"(
chain: [{plugin: add_header.so}]
cases:
- {name: as before!, request: {headers: {a: b}}, response: {}, golden: true}
)");
  const std::string golden = directory_.Path("golden/cases.as_before_.json");
  EXPECT_THAT(Run().output, HasSubstr("cases.yaml:4: as before!: there is no " + golden));
  EXPECT_EQ(Run({"--update"}).exit_status, 0);
  EXPECT_EQ(Run().output, "1 passed, 0 failed\n");
  std::string text = Read("golden/cases.as_before_.json");
  EXPECT_EQ(nlohmann::json::parse(text)["response"]["headers"],
            nlohmann::json::parse(R"([[":status", "200"], ["header-response", "response"]])"));
  text.replace(text.find("header-request"), 14, "something-else");
  Write("golden/cases.as_before_.json", text);
  EXPECT_THAT(Run().output, AllOf(HasSubstr("cases.yaml:4: as before!: the outcome is not that of"),
                                  HasSubstr("expected '\"something-else\",', got "
                                            "'\"header-request\",'; take it over by --update")));
}

TEST_F(TesterTest, ChoosesCasesByTagAndWritesReports) {
  Write("a/one.yaml", R"(
chain: [{plugin: add_header.so}]
cases:
- {name: quick, tags: [smoke], request: {}, expect: {forwarded: true}}
- {name: "slow <&>", tags: [slow, all], request: {}, expect: {forwarded: false}}
- {name: plain, request: {}, expect: {forwarded: true}}
)");
  const std::string junit = directory_.Path("junit.xml"), json = directory_.Path("report.json");
  const Ran ran = Run({"--tag=smoke", "--tag=all", "--junit=" + junit, "--json=" + json});
  EXPECT_EQ(ran.exit_status, 1);
  EXPECT_THAT(ran.output, HasSubstr("1 passed, 1 failed"));
  EXPECT_THAT(
      Read("junit.xml"),
      AllOf(HasSubstr("tests=\"2\" failures=\"1\""), HasSubstr("name=\"slow &lt;&amp;&gt;\""),
            HasSubstr("<failure message=\"the backend got the request\">")));
  const auto report = nlohmann::json::parse(Read("report.json"));
  EXPECT_EQ(report["failed"], 1);
  EXPECT_EQ(report["cases"][1]["name"], "slow <&>");
  EXPECT_EQ(report["cases"][1]["differences"][0]["line"], 5);
  EXPECT_THAT(Run({"--tag=none"}).output, HasSubstr("no case has such a tag"));
  EXPECT_THAT(Run({"--list", "--tag=smoke"}).output,
              AllOf(HasSubstr("one.yaml:4: quick\n"), Not(HasSubstr("slow"))));
}

TEST_F(TesterTest, WritesReportsOfAFileWhoseNameIsNotUtf8) {
  const std::string path = Write("\xff.yaml", R"(
chain: [{plugin: add_header.so}]
cases: [{name: x, request: {}, expect: {forwarded: true}}]
)");
  const std::string json = directory_.Path("report.json");
  EXPECT_EQ(Run({"--json=" + json}, path).exit_status, 0);
  EXPECT_EQ(nlohmann::json::parse(Read("report.json"))["passed"], 1);
}

std::string Repeated(const std::string& text, int count) {
  std::string all = text;
  for (int i = 1; i < count; ++i) all += ", " + text;
  return all;
}

// Nine lines that mean ten to the power of nine values.
std::string Laughs() {
  std::string text = "l0: &l0 [" + Repeated("lol", 10) + "]";
  for (char i = '1'; i <= '9'; ++i) {
    const std::string last(1, static_cast<char>(i - 1));
    text += std::string(",\n l") + i + ": &l" + i + " [" + Repeated("*l" + last, 10) + "]";
  }
  return text;
}

TEST_F(TesterTest, SaysWhatIsWrongWithAFileAndWhere) {
  const std::string chain = "chain: [{plugin: add_header.so}]\ncases:\n";
  const std::vector<std::pair<std::string, std::string>> files = {
      {"chain: [", ":1: "},
      {"cases: []\n", ":1: the file has no list chain"},
      {chain + "- {nam: x}\n", ":3: a case has no key nam; did you mean name?"},
      {chain + "- {request: {}, expect: {}}\n", ":3: the case has no name"},
      {chain + "- {name: x, expect: {}}\n", ":3: the case has no request, response or phases"},
      {chain + "- {name: x, request: {}}\n", ":3: the case expects nothing"},
      {chain + "- {name: x, request: {}, expect: {}}\n- {name: x, request: {}, expect: {}}\n",
       ":4: the name 'x' is that of the case in line 3"},
      {chain + "- name: x\n  request: {}\n  expect:\n    response: {body: {regex: '('}}\n",
       ":6: the regex is invalid"},
      {chain + "- {name: x, request: {}, request_body_mode: ALL, expect: {}}\n",
       ":3: request_body_mode is to be NONE, STREAMED"},
      {"chain: [{plugin: nowhere.so}]\ncases:\n- {name: x, request: {}, expect: {}}\n",
       ":1: cannot load plugin "},
      {"chain:\n- plugin: dynamic_forwarding.so\n  config: {x: 1}\ncases:\n"
       "- {name: x, request: {}, expect: {}}\n",
       ":2: creating plugin dynamic_forwarding"},
      {"", ":1: the file is to be a map"},
      {chain + "- {name: x, request: {}, ? [a] : b, expect: {}}\n", ":3: a key is to be a text"},
      {chain + "- {name: x, request: {headers: {? {a: b} : c}}, expect: {}}\n",
       ":3: a key is to be a text"},
      {chain + "- {name: x, request: {}, attributes: " + std::string(3000, '[') +
           std::string(3000, ']') + "}\n",
       ":4: values are nested too deep"},  // the scanner is a line ahead
      {chain + "- {name: x, request: {}, response: {status: 2OO}, expect: {}}\n",
       ":3: status is to be a number from 200 to 599"},
      {chain + "- {name: x, request: {}, response: {status: 101}, expect: {}}\n",
       ":3: status is to be a number from 200 to 599"},
      {chain + "- {name: x, request: {}, expect: {}}\n---\ncases: []\n",
       ":5: the file has a second document"},
      {chain + "- {name: x, request: {}, attributes: {" + Laughs() + "}, expect: {}}\n",
       ":8: more than 1000000 values, the limit, counting what aliases (*NAME) repeat; split the "
       "file, or repeat less"},
      {chain + "- name: x\n  request: {headers: {a: &a '" + std::string(1 << 20, 'x') + "', b: [" +
           Repeated("*a", 64) + "]}}\n  expect: {}\n",
       ":4: more than 67108864 bytes, the limit"},
      {chain + "- name: x\n  request: {}\n  attributes: &a {b: *a}\n  expect: {}\n",
       ":5: an alias (*NAME) stands within what it repeats"},
      {"upstreams: [a]\n" + chain + "- {name: x, request: {}, expect: {}}\n",
       ":1: upstreams is to be a map of names"},
      {"upstreams: {a: dwon}\n" + chain + "- {name: x, request: {}, expect: {}}\n",
       ":1: upstream a is to be a map of paths, or down"},
      {"upstreams: {a: {path: {}}}\n" + chain + "- {name: x, request: {}, expect: {}}\n",
       ":1: path of upstream a is no path: it is to begin with /"},
      {"upstreams: {a: {/: {state: 1}}}\n" + chain + "- {name: x, request: {}, expect: {}}\n",
       ":1: response has no key state; did you mean status?"},
      {"upstreams: {a b: down}\n" + chain + "- {name: x, request: {}, expect: {}}\n",
       ": upstreams: "},
      {"upstreams: {a: down, a: {}}\n" + chain + "- {name: x, request: {}, expect: {}}\n",
       ":1: the key a is there twice"},
      {"upstreams: {a: {/: {}, /: {}}}\n" + chain + "- {name: x, request: {}, expect: {}}\n",
       ":1: the key / is there twice"},
      {"chain: [{plugin: add_header.so, config: {b: {a: 1, a: 2}}}]\ncases:\n"
       "- {name: x, request: {}, expect: {}}\n",
       ":1: the key a is there twice"},
      {"# a comment\nchain: [{plugin: add_header.so, config: {a: \"\xff\"}}]\n",
       ":2: the text is not UTF-8"},
  };
  for (const auto& [text, expected] : files) {
    const std::string path = Write("cases.yaml", text);
    const Ran ran = Run();
    EXPECT_EQ(ran.exit_status, 2) << text;
    EXPECT_THAT(ran.output, HasSubstr("callout-test: " + path + expected)) << text;
  }
  EXPECT_THAT(Run({}, "/nowhere.yaml").output, HasSubstr("/nowhere.yaml: the file cannot be read"));
}

}  // namespace
}  // namespace callout::tests
