// SPDX-License-Identifier: Apache-2.0

// plugins/python, with scripts as people write them for the samples' server.
#include <filesystem>
#include <fstream>
#include <thread>
#include <utility>

#include "../host/sockets.h"
#include "sample_envoy.h"
#include "sample_host.h"

namespace callout::tests {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

// As in the samples' page on developing callouts.
constexpr char kPageExample[] = R"(import logging
from grpc import ServicerContext
from envoy.service.ext_proc.v3.external_processor_pb2 import HeadersResponse
from envoy.service.ext_proc.v3.external_processor_pb2 import HttpHeaders
from extproc.service.callout_server import CalloutServer
from extproc.service.callout_tools import add_header_mutation

class BasicCalloutServer(CalloutServer):
    def on_response_headers(self, headers: HttpHeaders, context: ServicerContext) -> HeadersResponse:
        return add_header_mutation(add=[('foo', 'bar')])

if __name__ == '__main__':
    logging.basicConfig(level=logging.INFO)
    BasicCalloutServer().run()
)";

constexpr char kImports[] = R"(
import logging, sys, threading, time
import grpc
from grpc import ServicerContext, StatusCode
from envoy.service.ext_proc.v3.external_processor_pb2 import *
from extproc.service.callout_server import CalloutServer
from extproc.service.callout_tools import *

def path_of(headers):
    return next((h.raw_value.decode() for h in headers.headers.headers if h.key == ':path'), '')
)";

ext_proc::ProcessingRequest Path(const std::string& path) {
  return RequestHeaders({{":path", path}});
}

// A folder with scripts.
class Scripts {
 public:
  // Put in its place as a whole, as editors do.
  std::string Write(const std::string& name, const std::string& text) const {
    const std::string path = directory_.Path(name);
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    std::ofstream(path + ".new") << text;
    std::filesystem::rename(path + ".new", path);
    return path;
  }
  // The configuration for a script, which is written; `more` are further members.
  std::string Config(const std::string& text, const std::string& more = "") const {
    return ConfigOf(Write("server.py", text), more);
  }
  static std::string ConfigOf(const std::string& path, const std::string& more = "") {
    return R"({"script": ")" + path + "\"" + more + "}";
  }
  std::string Path(const std::string& name) const { return directory_.Path(name); }

 private:
  const host::TempDir directory_;
};

// A host with a script; hooks have time, also on a busy machine.
class PythonHost : public SampleHost {
 public:
  explicit PythonHost(const std::string& config, std::vector<std::string> options = {})
      : SampleHost("python", config, WithTime(std::move(options))) {}

 private:
  static std::vector<std::string> WithTime(std::vector<std::string> options) {
    options.insert(options.begin(), "--hook_deadline_ms=10000");  // the last one counts
    return options;
  }
};

class PythonTest : public ::testing::Test {
 protected:
  // A class whose on_request_headers has this body, indented by four spaces.
  std::string WithHook(const std::string& body, const std::string& more = "") const {
    return scripts_.Config(kImports + std::string("class Server(CalloutServer):\n") +
                               "  def on_request_headers(self, headers, context):\n" + body + "\n",
                           more);
  }
  const Scripts scripts_;
};

TEST_F(PythonTest, RunsThePagesExampleAsItStands) {
  PythonHost host(scripts_.Config(kPageExample));
  host.Expect({
      {"a response", ResponseHeaders({{":status", "200"}}), {"response_headers", "set foo: bar"}},
      {"no hook", Path("/"), {"request_headers"}},
      {"nor one for bodies", ResponseBody("text"), {"response_body"}},
  });
}

TEST_F(PythonTest, TakesEachKindOfResponseOnTheServingThreadAndOnThePool) {
  const std::string script = std::string(kImports) + R"(
class Server(CalloutServer):
  def on_request_headers(self, headers, context):
    path = path_of(headers)
    if path == '/none': return None
    if path == '/headers':
      return add_header_mutation([('a', 'b')], ['c'], clear_route_cache=True)
    if path == '/bare': return add_header_mutation()
    if path == '/immediate': return header_immediate_response(301, [('location', 'http://x/')])
    if path == '/metadata':
      return ProcessingResponse(
          dynamic_metadata=build_dynamic_forwarding_metadata('10.0.0.1', 80))
    if path == '/whole':
      return ProcessingResponse(request_headers=add_header_mutation([('a', 'b')]),
          dynamic_metadata=build_dynamic_forwarding_metadata('2001:db8::1', 80))
  def on_response_headers(self, headers, context):
    return header_immediate_response(503)
  def on_request_body(self, body, context):
    return add_body_mutation(body.body.decode() + '!')
  def on_response_body(self, body, context):
    return add_body_mutation(clear_body=True)
  def on_request_trailers(self, trailers, context):
    response = TrailersResponse()
    option = response.header_mutation.set_headers.add(append_action=2)
    option.header.key, option.header.raw_value = 't', b'r'
    return response
)";
  const std::string namespace_of = "com.google.envoy.dynamic_forwarding.selected_endpoints";
  for (const char* more : {"", R"(, "blocking": false)"}) {
    SCOPED_TRACE(more);
    PythonHost host(scripts_.Config(script, more));
    host.Expect({
        {"None", Path("/none"), {"request_headers"}},
        {"HeadersResponse",
         Path("/headers"),
         {"request_headers", "set a: b", "remove c", "clear route cache"}},
        {"an empty one", Path("/bare"), {"request_headers"}},
        {"beside a response",
         Path("/metadata"),
         {"request_headers", "metadata {\"" + namespace_of + "\":{\"primary\":\"10.0.0.1:80\"}}"}},
        {"a whole response",
         Path("/whole"),
         {"request_headers", "set a: b",
          "metadata {\"" + namespace_of + "\":{\"primary\":\"[2001:db8::1]:80\"}}"}},
        {"BodyResponse", RequestBody("text"), {"request_body", "body \"text!\""}},
        {"a cleared body", ResponseBody("text"), {"response_body", "clear body"}},
        {"trailers", RequestTrailers({}), {"request_trailers", "set t: r"}},
    });
    EXPECT_THAT(host.Ask({Path("/immediate")}),
                AllOf(Contains("immediate 301"), Contains("set location: http://x/")));
    EXPECT_THAT(host.Ask({ResponseHeaders({})}), Contains("immediate 503"));
  }
}

// Envoy 1.40 reads only `append`, and without it overwrites.
TEST_F(PythonTest, SettlesAppendActionsThatEnvoyDoesNotRead) {
  PythonHost host(scripts_.Config(std::string(kImports) + R"(
from envoy.config.core.v3.base_pb2 import HeaderValueOption
ABSENT, EXISTS = HeaderValueOption.ADD_IF_ABSENT, HeaderValueOption.OVERWRITE_IF_EXISTS
KEPT = add_header_mutation([('x-a', '2'), ('x-new', '3'), ('x-new', '4')], append_action=ABSENT)

class Server(CalloutServer):
  def on_request_headers(self, headers, context):
    path = path_of(headers)
    if path == '/absent': return KEPT
    if path == '/exists': return add_header_mutation([('X-A', '2'), ('x-new', '3')], append_action=EXISTS)
    if path == '/removed': return add_header_mutation([('x-a', '2')], ['X-A'], append_action=ABSENT)
    if path == '/whole': return ProcessingResponse(request_headers=KEPT)
    if path == '/immediate':
      return header_immediate_response(301, [('x-a', '2'), ('x-a', '3')], ABSENT)
  def on_request_trailers(self, trailers, context):
    response = TrailersResponse()
    for name in ('t', 'new'):
      option = response.header_mutation.set_headers.add(append_action=ABSENT)
      option.header.key, option.header.raw_value = name, b'2'
    return response
)"));
  const auto ask = [](const std::string& path, const std::string& name) {
    return RequestHeaders({{":path", path}, {name, "1"}});
  };
  host.Expect({
      {"one that is there", ask("/absent", "X-a"), {"request_headers", "set x-new: 3"}},
      {"none, in the same message",
       ask("/absent", "x-b"),
       {"request_headers", "set x-a: 2", "set x-new: 3"}},
      {"only what is there", ask("/exists", "x-a"), {"request_headers", "set X-A: 2"}},
      {"what the response removes",
       ask("/removed", "x-a"),
       {"request_headers", "set x-a: 2", "remove X-A"}},
      {"a whole response", ask("/whole", "x-a"), {"request_headers", "set x-new: 3"}},
      {"trailers", RequestTrailers({{"t", "1"}}), {"request_trailers", "set new: 2"}},
  });
  const Lines immediate = host.Ask({ask("/immediate", "x-a")});
  EXPECT_THAT(immediate, Contains("set x-a: 2"));
  EXPECT_THAT(immediate, Not(Contains("set x-a: 3")));
  EXPECT_THAT(MetricsOf(host.host()), HasSubstr(R"(what="append_action"} 0)"));
}

TEST_F(PythonTest, GivesProcessTheWholeMessageAndItsSuperTheHooks) {
  PythonHost host(scripts_.Config(std::string(kImports) + R"(
class Server(CalloutServer):
  def process(self, callout, context):
    if callout.HasField('response_headers'):
      return None
    response = super().process(callout, context)
    found = callout.metadata_context.filter_metadata['fr'].fields['key'].string_value
    if callout.HasField('request_headers'):
      mutation = response.request_headers.response.header_mutation
      option = mutation.set_headers.add(append_action=2)
      option.header.key, option.header.raw_value = 'metadata', found.encode()
    return response
  def on_request_headers(self, headers, context):
    return add_header_mutation([('a', 'b')])
)"));
  ext_proc::ProcessingRequest request = Path("/");
  (*(*request.mutable_metadata_context()->mutable_filter_metadata())["fr"].mutable_fields())["key"]
      .set_string_value("found");
  host.Expect({
      {"a request", request, {"request_headers", "set a: b", "set metadata: found"}},
      {"None", ResponseHeaders({}), {"response_headers"}},
      {"a phase without a hook", RequestBody("text"), {"request_body"}},
      {"trailers", ResponseTrailers({}), {"response_trailers"}},
  });
}

TEST_F(PythonTest, KeepsOneContextForAStream) {
  PythonHost host(scripts_.Config(std::string(kImports) + R"(
class Server(CalloutServer):
  def on_request_headers(self, headers, context):
    assert not hasattr(context, 'seen')
    context.seen = path_of(headers)
  def on_response_headers(self, headers, context):
    return add_header_mutation([('seen', context.seen)])
)"));
  for (const char* path : {"/one", "/two"}) {
    EXPECT_EQ(host.Ask({Path(path), ResponseHeaders({})}),
              (Lines{"response_headers", std::string("set seen: ") + path}));
  }
}

TEST_F(PythonTest, HasAServicerContext) {
  PythonHost host(WithHook(R"(
    path = path_of(headers)
    if path == '/abort': context.abort(StatusCode.UNAUTHENTICATED, 'who are you')
    if path == '/deny': deny_callout(context, 'not you')
    if path == '/caught':
      try: context.abort(StatusCode.PERMISSION_DENIED, 'caught')
      except Exception: return None
    if path == '/ok': context.abort(StatusCode.OK, 'fine')
    if path == '/code':
      context.set_code(StatusCode.NOT_FOUND)
      context.set_details('unused')
      raise RuntimeError('gone')
    if path == '/set':
      context.set_code(StatusCode.NOT_FOUND)
      return None
    facts = {
        'peer': context.peer().startswith('ipv4:127.0.0.1:'),
        'active': context.is_active(),
        'remaining': 0 < context.time_remaining() <= 10,
        'agent': [m.key for m in context.invocation_metadata()].count('user-agent') == 1,
        'pair': 'grpc' in dict(context.invocation_metadata())['user-agent'],
        'type': isinstance(context, ServicerContext),
        'code': context.code() == 0,
    }
    return add_header_mutation([(k, str(v)) for k, v in facts.items()]))"));
  host.Expect({
      {"facts",
       Path("/"),
       {"request_headers", "set peer: True", "set active: True", "set remaining: True",
        "set agent: True", "set pair: True", "set type: True", "set code: True"}},
      {"abort", Path("/abort"), {"UNAUTHENTICATED: who are you"}},
      {"deny_callout", Path("/deny"), {"PERMISSION_DENIED: not you"}},
      {"an abort that is caught", Path("/caught"), {"PERMISSION_DENIED: caught"}},
      {"an abort with OK",
       Path("/ok"),
       {"status 2: abort() called with StatusCode.OK; ended with UNKNOWN"}},
      {"a code without an error", Path("/set"), {"request_headers"}},
  });
  EXPECT_THAT(host.Ask({Path("/code")}), ElementsAre(StartsWith("status 5: RuntimeError: gone (")));
}

TEST_F(PythonTest, TurnsWhatAScriptDoesWrongIntoFaults) {
  scripts_.Write("helper.py", "def fail(what):\n  raise ValueError('no luck with ' + what)\n");
  PythonHost host(WithHook(R"(
    import helper
    path = path_of(headers)
    if path == '/raise': helper.fail('it')
    if path == '/exit': sys.exit(3)
    if path == '/kind': return BodyResponse()
    if path == '/text': return 'text'
    if path == '/deep': return self.on_request_headers(headers, context)
    if path == '/long': raise RuntimeError('x' * 100000 + '\udc00')
    if path == '/wrong': return ProcessingResponse(response_headers=HeadersResponse())
    if path == '/standin': grpc.insecure_channel('x')
    if path == '/keyboard': raise KeyboardInterrupt())"));
  host.Expect({
      {"another phase's response",
       Path("/kind"),
       {"status 13: on_request_headers returned BodyResponse; return HeadersResponse, "
        "ImmediateResponse, ProcessingResponse or None"}},
      {"no response at all",
       Path("/text"),
       {"status 13: on_request_headers returned str; return HeadersResponse, ImmediateResponse, "
        "ProcessingResponse or None"}},
  });
  const std::vector<std::pair<std::string, std::string>> described = {
      {"/raise", "ValueError: no luck with it (server.py:"},
      {"/raise", "> helper.py:2 in fail: raise ValueError('no luck with ' + what))"},
      {"/exit", "SystemExit: 3 (a script cannot end the host) (server.py:"},
      {"/deep", "RecursionError: maximum recursion depth exceeded"},
      {"/wrong", "wrong_type: field 2 of ProcessingResponse, expected 1"},
      {"/standin", "grpc.insecure_channel needs grpcio"},
      {"/keyboard", "KeyboardInterrupt"},
  };
  for (const auto& [path, text] : described) {
    EXPECT_THAT(host.Ask({Path(path)}),
                ElementsAre(AllOf(StartsWith("status 13: "), HasSubstr(text))))
        << path;
  }
  const Lines lengthy = host.Ask({Path("/long")});
  EXPECT_THAT(lengthy, ElementsAre(AllOf(StartsWith("status 13: RuntimeError: xxx"),
                                         ::testing::EndsWith("xxx..."))));
  EXPECT_LE(lengthy[0].size(), 1100u);
  EXPECT_EQ(host.Ask({Path("/")}), Lines{"request_headers"}) << "and it lives on";
  // Only the first of its kind in a minute.
  host.host().AwaitLog("plugin python: request_headers: error_status: on_request_headers returned");
}

TEST_F(PythonTest, CanBeToldToLetFaultsPass) {
  PythonHost host(WithHook("    raise ValueError('no luck')"),
                  {"--on_plugin_error=python=continue"});
  EXPECT_EQ(host.Ask({Path("/")}), Lines{"request_headers"});
  EXPECT_THAT(MetricsOf(host.host()),
              HasSubstr(R"(faults_total{kind="error_status",plugin="python"} 1)"));
}

TEST_F(PythonTest, InterruptsAHookThatDoesNotEnd) {
  for (const char* more : {"", R"(, "blocking": false)"}) {
    SCOPED_TRACE(more);
    // One thread of the pool: were it held for good, the last request would get no response.
    PythonHost host(WithHook(R"(
    while path_of(headers) == '/loop':
      try:
        while True: pass
      except Exception: pass)",
                             more),
                    {"--blocking_threads=1", "--hook_deadline_ms=300"});
    EXPECT_THAT(host.Ask({Path("/loop")}), ElementsAre(Not(StartsWith("request_headers"))));
    host.host().AwaitLog("WARNING plugin python: on_request_headers runs on after its deadline");
    Lines after;
    while (after != Lines{"request_headers"}) after = host.Ask({Path("/")});
  }
}

TEST_F(PythonTest, WritesOutputAndThreadsErrorsToTheLog) {
  PythonHost host(WithHook(R"(
    print('printed', 'text')
    print('half', end='')
    print(' and half')
    print('printed error', file=sys.stderr)
    sys.stdout.buffer.write(b'bytes\n')
    logging.info('logged %s', 1)
    logging.debug('not shown')
    logging.getLogger('of.mine').error('of mine')
    logging.info('too %s %s', 'few')
    try: {}['key']
    except KeyError: logging.exception('caught')
    def run():
      print('in thread')
      raise ValueError('thread')
    thread = threading.Thread(target=run, name='worker')
    thread.start()
    thread.join())"));
  EXPECT_EQ(host.Ask({Path("/")}), Lines{"request_headers"});
  for (const char* line :
       {"INFO plugin python: printed text", "INFO plugin python: half and half",
        "WARNING plugin python: printed error", "INFO plugin python: bytes",
        "INFO plugin python: logged 1", "ERROR plugin python: of.mine: of mine",
        "INFO plugin python: 'too %s %s': not enough arguments",
        "ERROR plugin python: caught: KeyError: 'key' (server.py:", "INFO plugin python: in thread",
        "ERROR plugin python: the thread worker of the script ended: ValueError: thread ("}) {
    host.host().AwaitLog(line);
  }
  EXPECT_THAT(host.host().Log(), Not(HasSubstr("not shown")));
}

TEST_F(PythonTest, ServesManyStreamsAtOnce) {
  PythonHost host(scripts_.Config(std::string(kImports) + R"(
class Server(CalloutServer):
  def on_request_headers(self, headers, context):
    context.path = path_of(headers)
    time.sleep(0.001)
  def on_response_headers(self, headers, context):
    return add_header_mutation([('path', context.path)])
)"));
  std::vector<std::thread> clients;
  for (int client = 0; client < 4; ++client) {
    clients.emplace_back([&host, client] {
      const ChannelPtr channel = PlaintextChannel(host.host().address("plaintext"));
      for (int i = 0; i < 50; ++i) {
        const std::string path = "/" + std::to_string(client) + "/" + std::to_string(i);
        LiveStream stream(channel);
        ASSERT_TRUE(stream.Exchange(Path(path)).has_value());
        const auto response = stream.Exchange(ResponseHeaders({}));
        ASSERT_TRUE(response.has_value());
        EXPECT_THAT(DescribeAnswer(*response), Contains("set path: " + path));
      }
    });
  }
  for (std::thread& client : clients) client.join();
}

TEST_F(PythonTest, RunsInWorkers) {
  PythonHost host(scripts_.Config(kPageExample), {"--workers=2"});
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(host.Ask({ResponseHeaders({})}), (Lines{"response_headers", "set foo: bar"}));
  }
}

TEST_F(PythonTest, KeepsTheModulesOfScriptsApart) {
  const std::string text = std::string(kImports) + R"(
import helper, importlib
from package import inner
import package.inner as again
shared = logging.shared = getattr(logging, 'shared', 0) + 1
class Server(CalloutServer):
  def on_request_headers(self, headers, context):
    import helper as late
    assert late is helper is importlib.import_module('helper') and again is inner
    name = helper.NAME
    return add_header_mutation([('x-' + name, inner.TEXT)])
)";
  for (const std::string name : {"one", "two"}) {
    scripts_.Write(name + "/server.py", text);
    scripts_.Write(name + "/helper.py", "NAME = '" + name + "'\n");
    scripts_.Write(name + "/package/__init__.py", "");
    scripts_.Write(
        name + "/package/inner.py",
        "from . import deep\nfrom package.deep import D\nTEXT = deep.D + '" + name + "'");
    scripts_.Write(name + "/package/deep.py", "D = 'deep in '");
  }
  const std::string plugin = BuiltPlugin("python");
  TestHost host({"--hook_deadline_ms=10000", "--plugin=one=" + plugin, "--plugin=two=" + plugin,
                 "--plugin_config=one=" + Scripts::ConfigOf(scripts_.Path("one/server.py")),
                 "--plugin_config=two=" + Scripts::ConfigOf(scripts_.Path("two/server.py"))});
  LiveStream stream(PlaintextChannel(host.address("plaintext")));
  const auto response = stream.Exchange(Path("/"));
  ASSERT_TRUE(response.has_value()) << stream.Finish().error_message();
  EXPECT_THAT(DescribeAnswer(*response),
              AllOf(Contains("set x-one: deep in one"), Contains("set x-two: deep in two")));
}

TEST_F(PythonTest, LoadsAScriptAnewWhenItOrAModuleOfItsChanges) {
  scripts_.Write("helper.py", "TEXT = 'first'\n");
  const std::string script = kImports + std::string(R"(
import helper
class Server(CalloutServer):
  def on_request_headers(self, headers, context):
    return add_header_mutation([('v', helper.TEXT)])
  def shutdown(self):
    print('shut down', helper.TEXT)
)");
  PythonHost host(scripts_.Config(script), {"--watch_plugins"});
  const auto awaited = [&](const std::string& text) {
    const Lines expected = {"request_headers", "set v: " + text};
    while (host.Ask({Path("/")}) != expected) std::this_thread::yield();
  };
  awaited("first");
  // Of the same size, and perhaps within the same second.
  scripts_.Write("helper.py", "TEXT = 'other'\n");
  awaited("other");
  host.host().AwaitLog("INFO plugin python: shut down first");
  // What is wrong changes nothing, and what is mended does.
  scripts_.Write("helper.py", "TEXT = \n");
  host.host().AwaitLog("ERROR plugin python: SyntaxError: invalid syntax at helper.py:1");
  awaited("other");
  scripts_.Write("helper.py", "TEXT = 'mended'\n");
  awaited("mended");
  scripts_.Write("server.py", "raise RuntimeError('not yet')\n");
  host.host().AwaitLog("ERROR plugin python: RuntimeError: not yet (server.py:1 in <module>");
  awaited("mended");
  scripts_.Write("server.py", script + "helper.TEXT = 'script'\n");
  awaited("script");
}

TEST_F(PythonTest, SaysWhichThreadsAScriptLeavesBehind) {
  const std::string script = std::string(kImports) + R"(
stop = threading.Event()
def run():
  stop.wait()
  print('the old one prints')
thread = threading.Thread(target=run, name='refresher', daemon=True)
thread.start()
class Server(CalloutServer):
  def on_request_headers(self, headers, context):
    return add_header_mutation([('v', '1')])
)";
  PythonHost host(scripts_.Config(script), {"--watch_plugins"});
  scripts_.Write("server.py", script + "# changed\n");
  host.host().AwaitLog("WARNING plugin python: the script has left 1 thread running (refresher)");
  EXPECT_EQ(host.Ask({Path("/")}), (Lines{"request_headers", "set v: 1"}));
}

TEST_F(PythonTest, SaysWhatIsWrongWithAConfiguration) {
  const std::string server = scripts_.Write("server.py", kPageExample);
  const std::string two = scripts_.Write("two.py", std::string(kPageExample) + R"(
class Other(CalloutServer): pass
class Base(CalloutServer): pass
class Derived(Base): pass
)");
  const auto refusal = [](const std::string& config) { return RefusalOf("python", config); };
  EXPECT_THAT(refusal("{}"), HasSubstr("configuration: \"script\" is missing"));
  EXPECT_THAT(refusal(R"({"scripts": "x"})"), HasSubstr("did you mean it by \"scripts\"?"));
  EXPECT_THAT(refusal(Scripts::ConfigOf("/nowhere/x.py")),
              HasSubstr("the script /nowhere/x.py is not there; give its path by \"script\""));
  EXPECT_THAT(refusal(Scripts::ConfigOf(two)),
              HasSubstr("two.py has several subclasses of CalloutServer (BasicCalloutServer, "
                        "Derived, Other); name one by \"class\""));
  EXPECT_THAT(refusal(Scripts::ConfigOf(two, R"(, "class": "logging")")),
              HasSubstr("\"class\": \"logging\" is to be a subclass of CalloutServer in"));
  EXPECT_THAT(refusal(Scripts::ConfigOf(scripts_.Write("none.py", "x = 1"))),
              HasSubstr("none.py has no subclass of extproc.service.callout_server.CalloutServer"));
  EXPECT_THAT(refusal(Scripts::ConfigOf(scripts_.Write("bad.py", "x = (\n"))),
              HasSubstr("SyntaxError: '(' was never closed at bad.py:1"));
  EXPECT_THAT(refusal(Scripts::ConfigOf(scripts_.Write("missing.py", "import not_there\n"))),
              HasSubstr("ModuleNotFoundError: No module named 'not_there' (missing.py:1 in"));
  EXPECT_THAT(refusal(Scripts::ConfigOf(scripts_.Write("exit.py", "import sys; sys.exit(0)\n"))),
              HasSubstr("SystemExit: 0 (a script cannot end the host)"));
  EXPECT_THAT(refusal(Scripts::ConfigOf(scripts_.Write("indented.py", "x = 1\n  y = 2\n"))),
              HasSubstr("IndentationError: unexpected indent at indented.py:2"));
  const std::vector<std::pair<std::string, std::string>> no_plain_functions = {
      {"async def process", ": pass"},
      {"async def on_request_headers", ": pass"},
      {"def on_request_body", ": yield"},
      {"async def on_response_trailers", ": yield"},
  };
  for (const auto& [hook, body] : no_plain_functions) {
    const std::string name = hook.substr(hook.rfind(' ') + 1);
    EXPECT_THAT(refusal(scripts_.Config(std::string(kImports) + "class S(CalloutServer):\n  " +
                                        hook + "(self, message, context)" + body + "\n")),
                HasSubstr("S." + name +
                          " is a coroutine or a generator; a hook is a plain "
                          "function that returns its response"));
  }
  EXPECT_THAT(
      refusal(scripts_.Config(std::string(kImports) +
                              "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n")),
      HasSubstr("signal only works in main thread"));
  EXPECT_THAT(refusal(Scripts::ConfigOf(server, R"(, "path": ["/nowhere"])")),
              HasSubstr("\"path\" has /nowhere, which is no folder"));
  EXPECT_THAT(refusal(Scripts::ConfigOf(server, R"(, "venv": "/nowhere")")),
              HasSubstr("/nowhere is no virtual environment: it has no pyvenv.cfg"));
  scripts_.Write("venv/pyvenv.cfg", "");
  scripts_.Write("venv/lib/python3.4/site-packages/x.py", "");
  EXPECT_THAT(refusal(Scripts::ConfigOf(server, ", \"venv\": \"" + scripts_.Path("venv") + "\"")),
              AllOf(HasSubstr("is for python3.4, and this plugin has python3."),
                    HasSubstr("make it anew by python3.")));
}

TEST_F(PythonTest, TakesModulesFromAVirtualEnvironmentAndFromMoreFolders) {
  const std::string site = "venv/lib/" CALLOUT_PYTHON_NAME "/site-packages/";
  scripts_.Write("venv/pyvenv.cfg", "");
  scripts_.Write(site + "installed.py", "TEXT = 'of the environment'\n");
  scripts_.Write(site + "envoy/__init__.py", "raise ImportError('not this one')\n");
  scripts_.Write("more/further.py", "TEXT = 'of the folder'\n");
  const std::string script = std::string(kImports) + R"(
import installed, further
class Server(CalloutServer):
  def on_request_headers(self, headers, context):
    return add_header_mutation([('installed', installed.TEXT), ('further', further.TEXT)])
)";
  PythonHost host(scripts_.Config(script, ", \"venv\": \"" + scripts_.Path("venv") +
                                              "\", \"path\": [\"" + scripts_.Path("more") + "\"]"));
  EXPECT_EQ(host.Ask({Path("/")}), (Lines{"request_headers", "set installed: of the environment",
                                          "set further: of the folder"}));
}

TEST_F(PythonTest, RefusesASecondVirtualEnvironmentInTheProcess) {
  const std::string plugin = BuiltPlugin("python");
  std::vector<std::string> options = {"--check"};
  for (const std::string name : {"one", "two"}) {
    scripts_.Write(name + "/pyvenv.cfg", "");
    scripts_.Write(name + "/lib/" CALLOUT_PYTHON_NAME "/site-packages/x.py", "");
    options.push_back("--plugin=" + name + "=" + plugin);
    options.push_back("--plugin_config=" + name + "=" +
                      scripts_.Config(kPageExample, ", \"venv\": \"" + scripts_.Path(name) + "\""));
  }
  const Finished finished = RunHost(options);
  EXPECT_EQ(finished.exit_status, 2);
  EXPECT_THAT(finished.output, HasSubstr("a process has one set of packages; give all instances "
                                         "the same \"venv\""));
}

TEST_F(PythonTest, IsOnePythonForSeveralFilesOfThePlugin) {
  const std::string built = BuiltPlugin("python");
  std::filesystem::create_directory(scripts_.Path("copy"));
  std::filesystem::copy_file(built, scripts_.Path("copy/python.so"));
  const std::string config = scripts_.Config(kPageExample);
  TestHost host({"--hook_deadline_ms=10000", "--plugin=one=" + built,
                 "--plugin=two=" + scripts_.Path("copy/python.so"), "--plugin_config=one=" + config,
                 "--plugin_config=two=" + config});
  LiveStream stream(PlaintextChannel(host.address("plaintext")));
  EXPECT_TRUE(stream.Exchange(ResponseHeaders({})).has_value());
  EXPECT_TRUE(stream.Finish().ok());
  EXPECT_EQ(host.Terminate(), 0) << host.Log();
}

class PythonEnvoyTest : public SampleEnvoy {
 protected:
  const Scripts scripts_;
};

TEST_F(PythonEnvoyTest, RunsThePagesExampleAsItStands) {
  Start("python", nlohmann::json::object(), scripts_.Config(kPageExample));
  const HttpMessage response = Send({});
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.Header("foo"), "bar");
  Received();
}

TEST_F(PythonEnvoyTest, ChangesHeadersAndBodiesAndRefuses) {
  Start("python", BufferedBodies(), scripts_.Config(std::string(kImports) + R"(
class Server(CalloutServer):
  def on_request_headers(self, headers, context):
    if headers_contain(headers, 'x-secret', '1'): return header_immediate_response(403)
    context.traced = any(m.key == 'user-agent' or m.key.startswith('x-') for m in context.invocation_metadata())
    return add_header_mutation([('a', 'b')], ['foo'])
  def on_request_body(self, body, context):
    return add_body_mutation(body.body.decode() + '!')
  def on_response_body(self, body, context):
    return add_body_mutation('new')
)"));
  backend().Answer({.headers = {{"foo", "bar"}}, .body = {.pieces = {"old"}}});
  const HttpMessage response =
      Send({.method = "POST", .headers = {{"foo", "bar"}}, .body = {.pieces = {"text"}}});
  const HttpMessage request = Received();
  EXPECT_EQ(request.Header("a"), "b");
  EXPECT_EQ(request.Header("foo"), std::nullopt);
  EXPECT_EQ(request.body, "text!");
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.body, "new");
  EXPECT_EQ(Send({.headers = {{"x-secret", "1"}}}).status, 403);
  EXPECT_FALSE(BackendGotOne());
}

}  // namespace
}  // namespace callout::tests
