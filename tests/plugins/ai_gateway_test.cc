// SPDX-License-Identifier: Apache-2.0

// plugins/ai_gateway.
#include <fstream>

#include "../integration/http_get.h"
#include "sample_envoy.h"
#include "sample_host.h"

namespace callout::tests {
namespace {

using envoy::extensions::filters::http::ext_proc::v3::ProcessingMode;
using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kProviders[] = R"("providers": [
    {"name": "open", "models": ["gpt-", "o1"], "host": "open.example", "credential": "sk-open"},
    {"name": "other", "models": ["gpt-5"], "host": "other.example", "path": "/x?v=1",
     "credential_header": "x-token", "credential": "tok"},
    {"name": "anthropic", "models": ["claude-"], "host": "anthropic.example",
     "shape": "anthropic", "credential": "sk-ant", "max_tokens": 50},
    {"name": "local", "models": ["local"], "host": "localhost:8000"}])";

std::string Config(const std::string& more = "") {
  return std::string("{") + kProviders + more + "}";
}

struct Modes {
  ProcessingMode::BodySendMode request = ProcessingMode::BUFFERED;
  ProcessingMode::BodySendMode response = ProcessingMode::STREAMED;
};

ext_proc::ProcessingRequest Begin(const HeaderList& more = {}, Modes modes = {},
                                  bool end_of_stream = false) {
  HeaderList headers = {{":method", "POST"}, {":path", "/v1/chat/completions"}};
  headers.insert(headers.end(), more.begin(), more.end());
  ext_proc::ProcessingRequest request = RequestHeaders(headers, end_of_stream);
  request.mutable_protocol_config()->set_request_body_mode(modes.request);
  request.mutable_protocol_config()->set_response_body_mode(modes.response);
  return request;
}

std::string Ask(const std::string& model, const std::string& more = "") {
  return R"({"model": ")" + model + R"(", "messages": [{"role": "user", "content": "hi"}])" + more +
         "}";
}

ext_proc::ProcessingRequest Trailers() {
  ext_proc::ProcessingRequest request;
  request.mutable_response_trailers()->mutable_trailers()->add_headers()->set_key("x");
  return request;
}

Lines Error(int status, const std::string& message, const std::string& code,
            const std::string& param = "null") {
  return {"immediate " + std::to_string(status), "set content-type: application/json",
          R"(body "{"error":{"code":)" + code + R"(,"message":")" + message + R"(","param":)" +
              param + R"(,"type":"invalid_request_error"}}")"};
}

// The plugin's counter, once it is this: streams that the client has left are closed later.
void ExpectMetric(SampleHost* host, const std::string& name, double expected) {
  double value = -1;
  for (int i = 0; i < 1000 && value != expected; ++i) {
    const std::string page = HttpGet(host->host().address("admin"), "GET", "/metrics");
    const size_t line = page.find("\n" + name + "{");
    if (line != std::string::npos) value = std::stod(page.substr(page.find("} ", line) + 2));
  }
  EXPECT_EQ(value, expected) << name;
}

// --- Requests ---

TEST(AiGatewayTest, TakesTheClientsCredentialsAwayAtOnce) {
  SampleHost host("ai_gateway", Config());
  const Lines cleaned = {
      "request_headers",       "remove accept-encoding", "remove api-key",
      "remove authorization",  "remove cookie",          "remove openai-organization",
      "remove openai-project", "remove x-api-key",       "remove x-token"};
  EXPECT_EQ(host.Ask({Begin()}), cleaned);
  EXPECT_EQ(host.Ask({Begin({{"content-length", "1048576"}, {"authorization", "x"}})}), cleaned);
}

TEST(AiGatewayTest, LeavesOtherRequestsAlone) {
  SampleHost host("ai_gateway", Config());
  host.Expect({
      {"another method",
       RequestHeaders({{":method", "GET"}, {":path", "/v1/chat/completions"}}),
       {"request_headers"}},
      {"another path",
       RequestHeaders({{":method", "POST"}, {":path", "/v1/chat/completions/x"}}),
       {"request_headers"}},
      {"none", RequestHeaders({}), {"request_headers"}},
      {"a body", RequestBody(Ask("gpt-4")), {"request_body"}},
      {"a response", ResponseHeaders({{"content-type", "application/json"}}), {"response_headers"}},
      {"its body", ResponseBody("{}"), {"response_body"}},
      {"its trailers", Trailers(), {"response_trailers"}},
  });
}

TEST(AiGatewayTest, SendsRequestsToTheProviderOfTheLongestPrefix) {
  SampleHost host("ai_gateway", Config());
  const auto sent = [&](const std::string& model) {
    Lines answer = host.Ask({Begin(), RequestBody(Ask(model))});
    std::erase_if(answer, [](const std::string& line) { return line.starts_with("body "); });
    return answer;
  };
  EXPECT_EQ(sent("gpt-4o"), (Lines{"request_body", "set :authority: open.example",
                                   "set :path: /v1/chat/completions",
                                   "set authorization: Bearer sk-open", "clear route cache"}));
  EXPECT_EQ(sent("o1"), sent("gpt-4o"));
  EXPECT_EQ(sent("gpt-5-mini"),
            (Lines{"request_body", "set :authority: other.example", "set :path: /x?v=1",
                   "set x-token: tok", "clear route cache"}));
  EXPECT_EQ(sent("claude-3"), (Lines{"request_body", "set anthropic-version: 2023-06-01",
                                     "set :authority: anthropic.example", "set :path: /v1/messages",
                                     "set x-api-key: sk-ant", "clear route cache"}));
  EXPECT_EQ(sent("local"), (Lines{"request_body", "set :authority: localhost:8000",
                                  "set :path: /v1/chat/completions", "clear route cache"}));
  ExpectMetric(&host, "ai_gateway_open_requests_total", 3);
  ExpectMetric(&host, "ai_gateway_anthropic_requests_total", 1);
}

TEST(AiGatewayTest, TranslatesBodiesWhereTheProviderWantsIt) {
  SampleHost host("ai_gateway", Config());
  EXPECT_EQ(host.Ask({Begin(), RequestBody(Ask("claude-3"))}).at(5),
            R"(body "{"max_tokens":50,"messages":[{"content":"hi","role":"user"}],)"
            R"("model":"claude-3"}")");
  EXPECT_EQ(host.Ask({Begin(), RequestBody(Ask("gpt-4", R"(, "x":  1)"))}).at(4),
            "body \"" + Ask("gpt-4", R"(, "x":  1)") + '"');
  EXPECT_THAT(host.Ask({Begin(), RequestBody(Ask("gpt-4", R"(, "stream": true)"))}).at(4),
              HasSubstr(R"("stream_options":{"include_usage":true})"));
}

TEST(AiGatewayTest, AnswersRequestsThatCannotBeSentOn) {
  SampleHost host("ai_gateway", Config(R"(, "request_bytes_max": 200)"));
  const auto answer = [&](const std::string& body) {
    return host.Ask({Begin(), RequestBody(body)});
  };
  const Lines bad =
      Error(400, "the body is not a JSON object, or names a member twice", R"("invalid_json")");
  for (const std::string text :
       {"", "{", "[]", "\"x\"", "{} {}", R"({"model": "x", "model": "gpt-4"})"})
    EXPECT_EQ(answer(text), bad);
  for (const auto& [text, member] : std::vector<std::pair<std::string, std::string>>{
           {R"({"model": "gpt-4o", "Model": "o1"})", "model"},
           {R"({"model": "gpt-4o", "STREAM": true})", "stream"},
           {R"({"model": "gpt-4o", "stream": 1})", "stream"},
           {R"({"model": "gpt-4o", "Stream_Options": {}})", "stream_options"},
           // What a server in Go takes for an s.
           {R"({"model": "gpt-4o", "\u017ftream": true})", "stream"},
           {R"({"model": "gpt-4o", "ſtream": true})", "stream"},
           {R"({"model": "gpt-4o", "stream": true,
                "stream_options": {"include_usage": true, "Include_Usage": false}})",
            "include_usage"},
           {R"({"model": "gpt-4o", "stream": true,
                "stream_options": {"include_u\u017fage": false}})",
            "include_usage"}}) {
    EXPECT_EQ(answer(text), Error(400,
                                  "'" + member + "' must be there once, written like this, and " +
                                      "'stream' must be true or false",
                                  "null", "\"" + member + "\""));
  }
  const Lines no_model = Error(400, "'model' must be a text", "null", R"("model")");
  for (const std::string text : {"{}", R"({"model": null})", R"({"model": ["gpt-4"]})"}) {
    EXPECT_EQ(answer(text), no_model);
  }
  EXPECT_EQ(answer(Ask("llama")),
            Error(404, "the model 'llama' does not exist", R"("model_not_found")", R"("model")"));
  EXPECT_EQ(answer(R"({"model": ")" + std::string(129, 'x') + "\"}"),
            Error(404, "the model does not exist", R"("model_not_found")", R"("model")"));
  EXPECT_EQ(answer(Ask("claude-3", R"(, "tools": [])")),
            Error(400, "'tools' is not supported for the provider of this model",
                  R"("unsupported_parameter")", R"("tools")"));
  const Lines large = Error(413, "the body is larger than 200 bytes", R"("request_too_large")");
  EXPECT_EQ(answer(std::string(201, ' ')), large);
  EXPECT_EQ(answer(std::string(200, ' ')), bad);
  EXPECT_EQ(host.Ask({Begin({{"content-length", "201"}})}), large);
  EXPECT_EQ(host.Ask({Begin({}, {}, true)}), Error(400, "the request has no body", "null"));
  ExpectMetric(&host, "ai_gateway_refused_total", 24);
}

TEST(AiGatewayTest, SaysSoWhereEnvoySendsBodiesInAnotherWay) {
  SampleHost host("ai_gateway", Config());
  const Lines request =
      Error(500, "the gateway needs request_body_mode BUFFERED in Envoy's ext_proc filter", "null");
  for (const auto mode : {ProcessingMode::NONE, ProcessingMode::STREAMED,
                          ProcessingMode::BUFFERED_PARTIAL, ProcessingMode::FULL_DUPLEX_STREAMED}) {
    EXPECT_EQ(host.Ask({Begin({}, {.request = mode})}), request) << mode;
  }
  const auto answered = [&](const std::string& model, ProcessingMode::BodySendMode mode) {
    return host.Ask({Begin({}, {.response = mode}), RequestBody(Ask(model)),
                     ResponseHeaders({{"content-type", "application/json"}})});
  };
  const Lines response = Error(
      500, "the gateway needs response_body_mode STREAMED or BUFFERED in Envoy's ext_proc filter",
      "null");
  for (const auto mode : {ProcessingMode::NONE, ProcessingMode::BUFFERED_PARTIAL}) {
    EXPECT_EQ(answered("claude-3", mode), response) << mode;
    EXPECT_EQ(answered("gpt-4", mode), Lines{"response_headers"}) << mode;
  }
}

// --- Answers ---

// A request for `model` and its answer's headers.
std::vector<ext_proc::ProcessingRequest> Answered(const std::string& model, const std::string& type,
                                                  const HeaderList& more = {},
                                                  const std::string& request = "") {
  HeaderList headers = {{":status", "200"}, {"content-type", type}};
  headers.insert(headers.end(), more.begin(), more.end());
  return {Begin(), RequestBody(Ask(model, request)), ResponseHeaders(headers)};
}

// The answer to the last message, after which the client leaves: a stream may be amid a body.
Lines After(SampleHost* host, std::vector<ext_proc::ProcessingRequest> messages,
            const std::vector<ext_proc::ProcessingRequest>& more) {
  messages.insert(messages.end(), more.begin(), more.end());
  LiveStream stream(PlaintextChannel(host->host().address("plaintext")));
  std::optional<ext_proc::ProcessingResponse> answer;
  for (const ext_proc::ProcessingRequest& message : messages) {
    answer = stream.Exchange(message);
    if (!answer.has_value()) break;
  }
  if (!answer.has_value()) return {stream.Finish().error_message()};
  stream.Cancel();
  return DescribeAnswer(*answer);
}

// What the host says where a body cannot go on.
const Lines kCutOff = {"immediate 500", "details callout_failed_within_a_body"};

constexpr char kOpenAnswer[] =
    R"({"choices": [{}], "usage": {"prompt_tokens": 3, "completion_tokens": 4}})";
constexpr char kAnthropicAnswer[] =
    R"({"type": "message", "id": "i", "model": "m", "content": [{"type": "text", "text": "yes"}],
        "stop_reason": "end_turn", "usage": {"input_tokens": 5, "output_tokens": 6}})";

TEST(AiGatewayTest, CountsTheTokensOfAnswersAndLeavesThemAlone) {
  SampleHost host("ai_gateway", Config());
  const auto open = Answered("gpt-4", "application/json; charset=utf-8");
  const std::string text = kOpenAnswer;
  EXPECT_EQ(After(&host, open, {ResponseBody(text)}), Lines{"response_body"});
  EXPECT_EQ(After(&host, open,
                  {ResponseBody(text.substr(0, 9), false), ResponseBody(text.substr(9), false),
                   ResponseBody("")}),
            Lines{"response_body"});
  EXPECT_EQ(After(&host, open, {ResponseBody(text, false), Trailers()}),
            Lines{"response_trailers"});
  EXPECT_EQ(After(&host, open, {ResponseBody("no JSON")}), Lines{"response_body"});
  const auto packed = Answered("gpt-4", "application/json", {{"content-encoding", "gzip"}});
  EXPECT_EQ(After(&host, packed, {ResponseBody(text)}), Lines{"response_body"});
  EXPECT_EQ(After(&host, Answered("gpt-4", "text/html"), {ResponseBody(text)}),
            Lines{"response_body"});
  ExpectMetric(&host, "ai_gateway_open_prompt_tokens_total", 9);
  ExpectMetric(&host, "ai_gateway_open_completion_tokens_total", 12);
}

TEST(AiGatewayTest, TranslatesAnswersOnceTheyAreWhole) {
  SampleHost host("ai_gateway", Config());
  const auto anthropic = Answered("claude-3", "application/json");
  const std::string text = kAnthropicAnswer;
  const auto pieces = std::vector<ext_proc::ProcessingRequest>{
      ResponseBody(text.substr(0, 20), false), ResponseBody(text.substr(20), false),
      ResponseBody("")};
  EXPECT_EQ(After(&host, anthropic, {pieces[0]}), (Lines{"response_body", "clear body"}));
  const Lines answer = After(&host, anthropic, pieces);
  ASSERT_EQ(answer.size(), 2u);
  EXPECT_THAT(answer[1], AllOf(HasSubstr(R"("content":"yes")"), HasSubstr("chat.completion"),
                               HasSubstr(R"("total_tokens":11)")));
  EXPECT_EQ(After(&host, anthropic, {ResponseBody(text)}).at(1).substr(0, 20),
            answer[1].substr(0, 20));
  EXPECT_EQ(After(&host, anthropic, {ResponseBody("<html>", false), ResponseBody("</html>")}),
            (Lines{"response_body", "body \"<html></html>\""}))
      << "what is no answer of the shape comes as it was";
  EXPECT_EQ(After(&host, anthropic, {pieces[0], pieces[1], Trailers()}), kCutOff);
  ExpectMetric(&host, "ai_gateway_anthropic_prompt_tokens_total", 10);
  ExpectMetric(&host, "ai_gateway_anthropic_completion_tokens_total", 12);
}

TEST(AiGatewayTest, LimitsAnswersThatAreReadAsAWhole) {
  SampleHost host("ai_gateway", Config(R"(, "response_bytes_max": 100)"));
  const auto chunk = ResponseBody(std::string(60, ' '), false);
  EXPECT_EQ(After(&host, Answered("claude-3", "application/json"), {chunk, chunk}), kCutOff);
  EXPECT_EQ(After(&host, Answered("gpt-4", "application/json"), {chunk, chunk}),
            Lines{"response_body"});
  EXPECT_EQ(After(&host, Answered("gpt-4", "application/json"),
                  {chunk, chunk, ResponseBody(kOpenAnswer)}),
            Lines{"response_body"});
  ExpectMetric(&host, "ai_gateway_open_prompt_tokens_total", 0);
}

TEST(AiGatewayTest, CountsTheAnswersWhoseTokensItDoesNotKnow) {
  SampleHost host("ai_gateway", Config(R"(, "response_bytes_max": 100, "event_bytes_max": 100)"));
  const std::string large = std::string(60, ' ') + kOpenAnswer;
  ASSERT_GT(large.size(), 100u);
  After(&host, Answered("gpt-4", "application/json"), {ResponseBody(large)});
  ExpectMetric(&host, "ai_gateway_uncounted_total", 1);
  EXPECT_THAT(host.host().Log(), ::testing::HasSubstr("it is larger than response_bytes_max"));
  After(&host, Answered("gpt-4", "text/event-stream"),
        {ResponseBody("data: " + std::string(100, 'x') + "\n\n")});
  After(&host, Answered("gpt-4", "text/plain"), {ResponseBody("text")});
  After(&host, Answered("gpt-4", "application/json"), {ResponseBody("{}")});
  ExpectMetric(&host, "ai_gateway_uncounted_total", 4);
  After(&host, Answered("gpt-4", "application/json"), {ResponseBody(kOpenAnswer)});
  ExpectMetric(&host, "ai_gateway_uncounted_total", 4);
}

constexpr char kUsageEvent[] =
    "data: {\"choices\": [], \"usage\": {\"prompt_tokens\": 7, \"completion_tokens\": 8}}\n\n";

TEST(AiGatewayTest, PassesStreamsOnEventByEventWithoutWhatTheClientDidNotAskFor) {
  SampleHost host("ai_gateway", Config());
  const auto stream = Answered("gpt-4", "text/event-stream", {}, R"(, "stream": true)");
  const auto asked = Answered("gpt-4", "text/event-stream", {},
                              R"(, "stream": true, "stream_options": {"include_usage": true})");
  const std::string usage = kUsageEvent;
  const auto body = [](const std::string& text) {
    return Lines{"response_body", "body \"" + text + '"'};
  };
  EXPECT_EQ(After(&host, stream, {ResponseBody("data: a\n\n", false)}), Lines{"response_body"});
  EXPECT_EQ(After(&host, stream, {ResponseBody("data: a\n\ndata: b", false)}), body("data: a\n\n"));
  EXPECT_EQ(After(&host, stream, {ResponseBody("data: b", false)}),
            (Lines{"response_body", "clear body"}));
  EXPECT_EQ(After(&host, stream, {ResponseBody("data: b", false), ResponseBody("\n\n", false)}),
            body("data: b\n\n"));
  EXPECT_EQ(After(&host, stream, {ResponseBody("data: b", false), ResponseBody("c")}),
            body("data: bc"))
      << "the end of a broken stream is passed on";
  EXPECT_EQ(After(&host, stream,
                  {ResponseBody(usage.substr(0, 30), false),
                   ResponseBody(usage.substr(30) + "data: [DONE]\n\n")}),
            body("data: [DONE]\n\n"));
  EXPECT_EQ(After(&host, asked, {ResponseBody(usage)}), Lines{"response_body"});
  ExpectMetric(&host, "ai_gateway_open_prompt_tokens_total", 14);
  ExpectMetric(&host, "ai_gateway_open_completion_tokens_total", 16);
}

constexpr char kDelta[] =
    "event: content_block_delta\n"
    "data: {\"type\": \"content_block_delta\", \"delta\": {\"type\": \"text_delta\", \"text\": "
    "\"yes\"}}\n\n";

TEST(AiGatewayTest, TranslatesStreamsEventByEvent) {
  SampleHost host("ai_gateway", Config());
  const auto stream = Answered("claude-3", "text/event-stream", {}, R"(, "stream": true)");
  const std::string start =
      "data: {\"type\": \"message_start\", \"message\": {\"usage\": {\"input_tokens\": 2}}}\n\n";
  const std::string end =
      "data: {\"type\": \"message_delta\", \"delta\": {}, \"usage\": {\"output_tokens\": 9}}\n\n"
      "data: {\"type\": \"message_stop\"}\n\n";
  const std::string delta = kDelta;
  EXPECT_THAT(After(&host, stream, {ResponseBody(start, false)}).at(1), HasSubstr("assistant"));
  EXPECT_EQ(After(&host, stream, {ResponseBody(delta.substr(0, 50), false)}),
            (Lines{"response_body", "clear body"}));
  EXPECT_THAT(
      After(&host, stream,
            {ResponseBody(delta.substr(0, 50), false), ResponseBody(delta.substr(50), false)})
          .at(1),
      HasSubstr(R"("delta":{"content":"yes"})"));
  EXPECT_THAT(After(&host, stream, {ResponseBody(start + delta, false), ResponseBody(end)}).at(1),
              HasSubstr("data: [DONE]\n\n"));
  ExpectMetric(&host, "ai_gateway_anthropic_prompt_tokens_total",
               4);  // also of a stream that the client has left
  ExpectMetric(&host, "ai_gateway_anthropic_completion_tokens_total", 9);
}

TEST(AiGatewayTest, LimitsEvents) {
  SampleHost host("ai_gateway", Config(R"(, "event_bytes_max": 20)"));
  const auto large = ResponseBody("data: a\n\ndata: " + std::string(30, 'x'), false);
  const auto open = Answered("gpt-4", "text/event-stream");
  EXPECT_EQ(After(&host, open, {large}), Lines{"response_body"});
  EXPECT_EQ(After(&host, open, {large, ResponseBody("x")}), Lines{"response_body"});
  const auto anthropic = Answered("claude-3", "text/event-stream");
  EXPECT_THAT(After(&host, anthropic, {large}).at(1),
              HasSubstr("an event of the provider is too large"));
  EXPECT_EQ(After(&host, anthropic, {large, ResponseBody("x")}),
            (Lines{"response_body", "clear body"}));
}

// --- Configuration ---

TEST(AiGatewayTest, ReadsCredentialsFromFiles) {
  const host::TempDir directory;
  std::ofstream(directory.Path("key")) << "sk-file\r\nmore\n";
  SampleHost host("ai_gateway", R"({"providers": [{"name": "a", "models": [""], "host": "h",
                                   "credential_path": ")" +
                                    directory.Path("key") + "\"}]}");
  EXPECT_EQ(host.Ask({Begin(), RequestBody(Ask("any"))}).at(3),
            "set authorization: Bearer sk-file");
}

TEST(AiGatewayTest, RefusesAConfigurationThatCannotWork) {
  const host::TempDir directory;
  std::ofstream(directory.Path("empty")) << "\n";
  const auto with = [](const std::string& more, const std::string& name = "a",
                       const std::string& model = "m") {
    return R"({"name": ")" + name + R"(", "host": "h", "models": [")" + model + "\"]" + more + "}";
  };
  const auto all = [](const std::string& providers) {
    return R"({"providers": [)" + providers + "]}";
  };
  std::string many = with("");
  for (int i = 0; i < 16; ++i) {
    many += "," + with("", "p" + std::to_string(i), "m" + std::to_string(i));
  }
  const std::string first = "\"providers[0].";
  const std::vector<std::pair<std::string, std::string>> rows = {
      {"", R"("providers" must have at least one)"},
      {R"({"path": "v1/chat"})", R"("path" must begin with / and have no ?, # or blank)"},
      {R"({"path": "/v1?a"})", R"("path" must begin with / and have no ?, # or blank)"},
      {all(many), R"("providers" has more than 16)"},
      {all(R"({"host": "h", "models": ["m"]})"), first + R"(name" is missing)"},
      {all(with("", "A")), first + R"(name" must be like [a-z][a-z0-9_]*)"},
      {all(with("") + "," + with("", "a", "n")), R"("providers[1].name" is there twice)"},
      {all(with("") + "," + with("", "b")), R"("providers[1].models" names "m" again)"},
      {all(R"({"name": "a", "host": "h", "models": []})"),
       first + R"(models" must name at least one)"},
      {all(R"({"name": "a", "host": "a b", "models": ["m"]})"),
       first + R"(host" must be characters of ASCII without blanks)"},
      {all(with(R"(, "path": "/\n")")), first + R"(path" must be characters of ASCII)"},
      {all(with(R"(, "shape": "x")")), first + R"(shape" must be "openai" or "anthropic")"},
      {all(with(R"(, "credential": "a b")")),
       first + R"(credential" must be characters of ASCII without blanks)"},
      {all(with(R"(, "credential": "a", "credential_path": "b")")),
       first + R"(credential" and "credential_path" exclude each other)"},
      {all(with(R"(, "credential_path": "/nowhere/key")")),
       first + R"(credential_path" cannot read /nowhere/key: No such file or directory)"},
      {all(with(R"(, "credential_path": ")" + directory.Path("empty") + "\"")),
       first + "credential_path\" " + directory.Path("empty") +
           " does not begin with a credential"},
      {all(with(R"(, "credential_header": "X Y")")),
       first + R"(credential_header" must be like [a-z][a-z0-9-]*)"},
      {all(with(R"(, "max_tokens": 0)")),
       first + R"(max_tokens" must be an integer from 1 to 2147483647, not a number)"},
      {all(with(R"(, "key": 1)")), first + R"(key" is not known; there is: )"},
      {Config(R"(, "request_bytes_max": 0)"),
       R"("request_bytes_max" must be an integer from 1 to 1073741824, not a number)"},
  };
  for (const auto& [config, reason] : rows) {
    EXPECT_THAT(RefusalOf("ai_gateway", config), HasSubstr(reason));
  }
}

// --- Behind Envoy, whose backend is every provider ---

class AiGatewayEnvoyTest : public SampleEnvoy {
 protected:
  void Start(const std::string& response_mode) {
    SampleEnvoy::Start(
        "ai_gateway",
        {{"processing_mode",
          {{"request_body_mode", "BUFFERED"}, {"response_body_mode", response_mode}}},
         {"mutation_rules", {{"allow_all_routing", true}}}},
        Config(), json::array({Route("open.example"), Route("anthropic.example")}));
  }
  // By which it shows that the route was chosen anew.
  static json Route(const std::string& host) {
    return {{"match",
             {{"prefix", "/"},
              {"headers", {{{"name", ":authority"}, {"string_match", {{"exact", host}}}}}}}},
            {"request_headers_to_add", {{{"header", {{"key", "x-route"}, {"value", host}}}}}},
            {"route", {{"cluster", "backend"}}}};
  }
  HttpMessage Post(const std::string& body) {
    return Send({.method = "POST",
                 .target = "/v1/chat/completions",
                 .headers = {{"content-type", "application/json"},
                             {"authorization", "Bearer mine"},
                             {"x-api-key", "mine"}},
                 .body = {.pieces = {body}}});
  }
  static BackendAnswer JsonAnswer(const std::string& text) {
    return {.headers = {{"content-type", "application/json"}}, .body = {.pieces = {text}}};
  }
};

TEST_F(AiGatewayEnvoyTest, ServesTwoProvidersInOneShape) {
  for (const std::string mode : {"STREAMED", "BUFFERED"}) {
    if (mode == "BUFFERED") TearDown();
    Start(mode);
    backend().AnswerBy([](const HttpMessage& request) {
      return JsonAnswer(request.target == "/v1/messages" ? kAnthropicAnswer : kOpenAnswer);
    });
    const HttpMessage open = Post(Ask("gpt-4"));
    EXPECT_EQ(open.status, 200);
    EXPECT_EQ(open.body, kOpenAnswer);
    HttpMessage received = Received();
    EXPECT_EQ(received.target, "/v1/chat/completions");
    EXPECT_EQ(received.Header("host"), "open.example");
    EXPECT_EQ(received.Header("x-route"), "open.example");
    EXPECT_EQ(received.Header("authorization"), "Bearer sk-open");
    EXPECT_EQ(received.Header("x-api-key"), std::nullopt);
    EXPECT_EQ(received.body, Ask("gpt-4"));

    const HttpMessage anthropic = Post(Ask("claude-3"));
    EXPECT_EQ(anthropic.status, 200);
    EXPECT_TRUE(anthropic.complete);
    const json answer = json::parse(anthropic.body, nullptr, false);
    ASSERT_TRUE(answer.is_object()) << anthropic.body;
    EXPECT_EQ(answer["choices"][0]["message"]["content"], "yes");
    EXPECT_EQ(answer["usage"]["total_tokens"], 11);
    received = Received();
    EXPECT_EQ(received.target, "/v1/messages");
    EXPECT_EQ(received.Header("x-route"), "anthropic.example");
    EXPECT_EQ(received.Header("x-api-key"), "sk-ant");
    EXPECT_EQ(received.Header("authorization"), std::nullopt);
    EXPECT_EQ(json::parse(received.body)["max_tokens"], 50);
  }
}

TEST_F(AiGatewayEnvoyTest, PassesStreamsOnInTheClientsShape) {
  Start("STREAMED");
  const std::string delta = kDelta;
  backend().AnswerBy([&](const HttpMessage& request) {
    BackendAnswer answer = {.headers = {{"content-type", "text/event-stream"}}};
    answer.body.chunked = true;
    if (request.target == "/v1/messages") {
      answer.body.pieces = {delta.substr(0, 60), delta.substr(60), delta,
                            "data: {\"type\": \"message_stop\"}\n\n"};
    } else {
      answer.body.pieces = {"data: {\"choices\": [1]}\n", "\n", kUsageEvent, "data: [DONE]\n\n"};
    }
    return answer;
  });
  const HttpMessage anthropic = Post(Ask("claude-3", R"(, "stream": true)"));
  EXPECT_EQ(anthropic.Header("content-type"), "text/event-stream");
  EXPECT_TRUE(anthropic.complete);
  size_t deltas = 0;
  for (size_t at = 0; (at = anthropic.body.find("\"yes\"", at)) != std::string::npos; ++at)
    ++deltas;
  EXPECT_EQ(deltas, 2u) << anthropic.body;
  EXPECT_TRUE(anthropic.body.ends_with("data: [DONE]\n\n")) << anthropic.body;

  const HttpMessage open = Post(Ask("gpt-4", R"(, "stream": true)"));
  EXPECT_EQ(open.body, "data: {\"choices\": [1]}\n\ndata: [DONE]\n\n");
  EXPECT_EQ(json::parse(Received().body)["stream_options"]["include_usage"], true);
}

TEST_F(AiGatewayEnvoyTest, AnswersErrorsInTheClientsShape) {
  Start("STREAMED");
  const HttpMessage unknown = Post(Ask("llama"));
  EXPECT_EQ(unknown.status, 404);
  EXPECT_EQ(unknown.Header("content-type"), "application/json");
  EXPECT_EQ(json::parse(unknown.body)["error"]["code"], "model_not_found");
  EXPECT_EQ(Post("{").status, 400);
  EXPECT_EQ(Post(std::string((1 << 20) + 1, ' ')).status, 413);
  EXPECT_FALSE(BackendGotOne());

  BackendAnswer overloaded =
      JsonAnswer(R"({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}})");
  overloaded.status = 529;
  backend().Answer(overloaded);
  const HttpMessage failed = Post(Ask("claude-3"));
  EXPECT_EQ(failed.status, 529);
  EXPECT_EQ(json::parse(failed.body)["error"]["message"], "busy");
}

}  // namespace
}  // namespace callout::tests
