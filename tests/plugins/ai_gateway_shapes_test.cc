// SPDX-License-Identifier: Apache-2.0

// plugins/ai_gateway: events, and what is translated between shapes.
#include <gtest/gtest.h>

#include "ai_gateway/anthropic.h"
#include "ai_gateway/openai.h"
#include "ai_gateway/sse.h"

namespace ai_gateway {
namespace {

// --- Events ---

using Strings = std::vector<std::string>;

struct Seen {
  Strings events;  // "NAME|DATA"
  std::string raw;
  bool good = true;
};

Seen ReadPieces(const Strings& pieces, size_t max = 1000) {
  Seen seen;
  SseReader reader(max);
  for (const std::string& piece : pieces) {
    seen.good = reader.Read(piece, [&](const SseEvent& event) {
      seen.raw += event.raw;
      if (!event.data.empty() || !event.name.empty()) {
        seen.events.push_back(event.name + "|" + event.data);
      }
    });
  }
  seen.raw += reader.pending();
  return seen;
}

TEST(SseReaderTest, ReadsEvents) {
  const std::vector<std::pair<std::string, Strings>> rows = {
      {"data: a\n\n", {"|a"}},
      {"data:a\n\n", {"|a"}},
      {"data:  a \n\n", {"| a "}},
      {"event: e\ndata: a\n\n", {"e|a"}},
      {"data: a\ndata\ndata: b\n\n", {"|a\n\nb"}},
      {"data:\ndata: b\n\n", {"|\nb"}},
      {": comment\n\ndata: a\n\n", {"|a"}},
      {"id: 1\nretry: 2\ndata: a\n\n", {"|a"}},
      {"event: e\ndata: a\n\ndata: b\n\n", {"e|a", "|b"}},
      {"\n\n\ndata: a\n\n\n", {"|a"}},
      {"data: unfinished\n", {}},
      {"data: {\"a\": \"b: c\"}\n\n", {"|{\"a\": \"b: c\"}"}},
  };
  for (const auto& [text, events] : rows) EXPECT_EQ(ReadPieces({text}).events, events) << text;
}

TEST(SseReaderTest, IsTheSameHoweverTheStreamIsCutAndLinesEnd) {
  for (const std::string end : {"\n", "\r", "\r\n"}) {
    std::string stream;
    for (const char* line : {"event: e", "data: a", "data: b", "", ": x", "", "data: c", ""}) {
      stream.append(line).append(end);
    }
    stream.append("data: d");
    for (size_t first = 0; first <= stream.size(); ++first) {
      for (size_t second = first; second <= stream.size(); ++second) {
        const Seen seen = ReadPieces(
            {stream.substr(0, first), stream.substr(first, second - first), stream.substr(second)});
        ASSERT_EQ(seen.events, (Strings{"e|a\nb", "|c"})) << first << " " << second;
        ASSERT_EQ(seen.raw, stream) << "every byte belongs to an event or is pending";
      }
    }
  }
}

TEST(SseReaderTest, RefusesEventsOverTheLimitAndKeepsWhatCame) {
  const std::string event = "data: 123456789\n";  // 16 bytes, and one for the blank line
  EXPECT_TRUE(ReadPieces({event + "\n" + event + "\n"}, 17).good);
  for (const Strings& pieces : {Strings{event + "\n"}, Strings{event, "\n"}, Strings{event, "x"},
                                Strings{"data: 1", "23456789", "abcdefgh"}}) {
    const Seen seen = ReadPieces(pieces, 16);
    EXPECT_FALSE(seen.good);
    EXPECT_TRUE(seen.events.empty());
    std::string all;
    for (const std::string& piece : pieces) all += piece;
    EXPECT_EQ(seen.raw, all);
  }
}

// --- Requests ---

std::string TranslationOf(const std::string& request) {
  const std::variant<Json, Problem> result = ToAnthropic(Json::parse(request), 7);
  if (const Problem* problem = std::get_if<Problem>(&result)) return problem->message;
  return std::get<Json>(result).dump();
}

TEST(AnthropicTest, TranslatesRequests) {
  const std::vector<std::pair<std::string, std::string>> rows = {
      {R"({"model": "m", "messages": [{"role": "user", "content": "hi"}]})",
       R"({"max_tokens":7,"messages":[{"content":"hi","role":"user"}],"model":"m"})"},
      {R"({"model": "m", "messages": [{"role": "system", "content": "a"},
           {"role": "user", "content": [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]},
           {"role": "assistant", "content": "yes"}, {"role": "developer", "content": "b"}],
          "max_completion_tokens": 9, "temperature": 0.5, "top_p": 0.9, "stop": "x", "n": 1,
          "stream": true, "stream_options": {"include_usage": true}, "user": "u", "tools": null})",
       R"({"max_tokens":9,"messages":[{"content":"hi","role":"user"},)"
       R"({"content":"yes","role":"assistant"}],"metadata":{"user_id":"u"},"model":"m",)"
       R"("stop_sequences":["x"],"stream":true,"system":"a\n\nb","temperature":0.5,"top_p":0.9})"},
      {R"({"messages": [{"role": "user", "content": "hi"}], "stop": ["x", "y"], "max_tokens": 8})",
       R"({"max_tokens":8,"messages":[{"content":"hi","role":"user"}],"stop_sequences":["x","y"]})"},
  };
  for (const auto& [request, translated] : rows) EXPECT_EQ(TranslationOf(request), translated);
}

TEST(AnthropicTest, RefusesWhatHasNoCounterpart) {
  const std::string suffix = " is not supported for the provider of this model";
  const auto with = [](const std::string& message, const std::string& more = "") {
    return R"({"messages": [)" + message + "]" + more + "}";
  };
  const std::string user = R"({"role": "user", "content": "hi"})";
  const std::vector<std::pair<std::string, std::string>> rows = {
      {"{}", "'messages' must be a list of messages"},
      {R"({"messages": []})", "'messages' must be a list of messages"},
      {R"({"messages": "hi"})", "'messages' must be a list of messages"},
      {with("1"), "'messages' must be a list of messages with texts"},
      {with(R"({"role": "user"})"), "'messages' must be a list of messages with texts"},
      {with(R"({"role": "user", "content": [{"type": "image_url"}]})"),
       "'messages.content'" + suffix},
      {with(R"({"role": "tool", "content": "x"})"), "'messages.role'" + suffix},
      {with(R"({"content": "x"})"), "'messages.role'" + suffix},
      {with(R"({"role": "assistant", "content": "", "tool_calls": []})"),
       "'messages.tool_calls'" + suffix},
      {with(R"({"role": "user", "content": "x", "name": "ada"})"), "'messages.name'" + suffix},
      {with(user, R"(, "tools": [])"), "'tools'" + suffix},
      {with(user, R"(, "n": 2)"), "'n'" + suffix},
  };
  for (const auto& [request, problem] : rows) EXPECT_EQ(TranslationOf(request), problem) << request;
}

TEST(OpenaiTest, AsksStreamsForTheirUsageAndTouchesNothingElse) {
  const auto asked = [](const std::string& text) { return AskForUsage(text, Json::parse(text)); };
  for (const std::string text :
       {R"({ "a": 1 })", R"({"stream": false})", R"({"stream": null})",
        R"({"stream": true, "stream_options": {"include_usage": true}})"}) {
    EXPECT_EQ(asked(text), text);
  }
  EXPECT_EQ(
      asked(R"( {"n": 123456789012345678901, "stream": true} )"),
      R"( {"stream_options":{"include_usage":true},"n": 123456789012345678901, "stream": true} )");
  EXPECT_EQ(asked(R"({"stream": true, "stream_options": {"include_usage": false, "x": 1}})"),
            R"({"stream":true,"stream_options":{"include_usage":true,"x":1}})");
  EXPECT_EQ(asked(R"({"stream": true, "stream_options": null})"),
            R"({"stream":true,"stream_options":{"include_usage":true}})");
}

TEST(OpenaiTest, LimitsHowDeepBodiesAre) {
  const auto nested = [](size_t depth) {
    return std::string(depth, '[') + std::string(depth, ']');
  };
  EXPECT_TRUE(ParseBody(nested(64)).has_value());
  EXPECT_FALSE(ParseBody(nested(65)).has_value());
  EXPECT_FALSE(ParseBody(std::string(1000000, '[')).has_value());
}

// --- Answers ---

TEST(AnthropicTest, TranslatesAnswers) {
  const std::optional<Translated> answer = FromAnthropic(
      Json::parse(R"({"type": "message", "id": "i", "model": "m", "stop_reason": "max_tokens",
                      "content": [{"type": "text", "text": "a"}, {"type": "thinking"},
                                  {"type": "text", "text": "b"}],
                      "usage": {"input_tokens": 3, "cache_read_input_tokens": 2,
                                "cache_creation_input_tokens": 1, "output_tokens": 5}})"),
      99);
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->body,
            Json::parse(R"({"id": "i", "object": "chat.completion", "created": 99, "model": "m",
                            "choices": [{"index": 0, "finish_reason": "length",
                                         "message": {"role": "assistant", "content": "ab"}}],
                            "usage": {"prompt_tokens": 6, "completion_tokens": 5,
                                      "total_tokens": 11}})"));
  ASSERT_TRUE(answer->usage.has_value());
  EXPECT_EQ(answer->usage->prompt_tokens, 6u);
  EXPECT_EQ(answer->usage->completion_tokens, 5u);
}

TEST(AnthropicTest, NamesReasonsForTheEnd) {
  const std::vector<std::pair<Json, Json>> rows = {
      {"end_turn", "stop"},       {"stop_sequence", "stop"},     {"max_tokens", "length"},
      {"tool_use", "tool_calls"}, {"refusal", "content_filter"}, {nullptr, nullptr}};
  for (const auto& [reason, finish] : rows) {
    const auto answer = FromAnthropic(
        {{"type", "message"}, {"content", Json::array()}, {"stop_reason", reason}}, 0);
    ASSERT_TRUE(answer.has_value());
    EXPECT_EQ(answer->body["choices"][0]["finish_reason"], finish) << reason;
  }
}

TEST(AnthropicTest, TranslatesErrors) {
  const auto answer = FromAnthropic(
      Json::parse(R"({"type": "error", "error": {"type": "overloaded_error", "message": "m"}})"),
      0);
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->body, Json::parse(R"({"error": {"message": "m", "type": "overloaded_error",
                                          "param": null, "code": null}})"));
  EXPECT_FALSE(answer->usage.has_value());
}

TEST(AnthropicTest, DoesNotKnowOtherAnswers) {
  for (const char* text : {"{}", "[]", "1", R"({"type": "message"})", R"({"type": 1})"}) {
    EXPECT_FALSE(FromAnthropic(Json::parse(text), 0).has_value()) << text;
  }
}

// --- Streams ---

template <class Stream>
std::string TakeAll(Stream* stream, const std::string& events) {
  std::string out;
  SseReader reader(10000);
  reader.Read(events, [&](const SseEvent& event) { out += stream->Take(event); });
  return out;
}

std::string ChunkOf(const std::string& choices, const std::string& more = "") {
  return "data: {\"choices\":" + choices +
         R"(,"created":9,"id":"i","model":"m","object":"chat.completion.chunk")" + more + "}\n\n";
}

TEST(AnthropicTest, TranslatesStreams) {
  const std::string events =
      "event: message_start\n"
      R"(data: {"type": "message_start", "message": {"id": "i", "model": "m", "usage":)"
      R"( {"input_tokens": 3, "output_tokens": 1}}})"
      "\n\n"
      "data: {\"type\": \"ping\"}\n\n: comment\n\ndata: nonsense\n\n"
      R"(data: {"type": "content_block_start", "index": 0})"
      "\n\n"
      R"(data: {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "hi"}})"
      "\n\n"
      R"(data: {"type": "content_block_delta", "delta": {"type": "thinking_delta"}})"
      "\n\n"
      R"(data: {"type": "message_delta", "delta": {"stop_reason": "end_turn"},)"
      R"( "usage": {"output_tokens": 4}})"
      "\n\n"
      "data: {\"type\": \"message_stop\"}\n\n";
  const std::string start =
      ChunkOf(R"([{"delta":{"content":"","role":"assistant"},"finish_reason":null,"index":0}])") +
      ChunkOf(R"([{"delta":{"content":"hi"},"finish_reason":null,"index":0}])") +
      ChunkOf(R"([{"delta":{},"finish_reason":"stop","index":0}])");
  AnthropicStream plain(false, 9);
  EXPECT_EQ(TakeAll(&plain, events), start + "data: [DONE]\n\n");
  ASSERT_TRUE(plain.usage().has_value());
  EXPECT_EQ(plain.usage()->prompt_tokens, 3u);
  EXPECT_EQ(plain.usage()->completion_tokens, 4u);
  AnthropicStream counted(true, 9);
  EXPECT_EQ(
      TakeAll(&counted, events),
      start +
          ChunkOf("[]", R"(,"usage":{"completion_tokens":4,"prompt_tokens":3,"total_tokens":7})") +
          "data: [DONE]\n\n");
}

TEST(AnthropicTest, TranslatesErrorsWithinStreams) {
  AnthropicStream stream(false, 9);
  EXPECT_EQ(
      TakeAll(&stream,
              "data: {\"type\": \"error\", \"error\": {\"type\": \"t\", "
              "\"message\": \"m\"}}\n\n"),
      "data: {\"error\":{\"code\":null,\"message\":\"m\",\"param\":null,\"type\":\"t\"}}\n\n");
}

TEST(OpenaiTest, TakesTheUsageOutOfStreamsThatDidNotAskForIt) {
  const std::string text = "data: {\"choices\": [{\"delta\": {}}], \"usage\": null}\n\n";
  const std::string usage =
      "data: {\"choices\": [], \"usage\": {\"prompt_tokens\": 3, "
      "\"completion_tokens\": 4}}\n\n";
  const std::string done = "data: [DONE]\n\n";
  OpenaiStream plain(false);
  EXPECT_EQ(TakeAll(&plain, text + usage + done), text + done);
  ASSERT_TRUE(plain.usage().has_value());
  EXPECT_EQ(plain.usage()->prompt_tokens, 3u);
  EXPECT_EQ(plain.usage()->completion_tokens, 4u);
  OpenaiStream counted(true);
  EXPECT_EQ(TakeAll(&counted, text + usage + done), text + usage + done);
  OpenaiStream odd(false);
  const std::string others =
      "data: \"usage\"\n\ndata: {\"usage\": 1\n\n: \"usage\"\n\n"
      "data: {\"choices\": [1], \"usage\": {\"prompt_tokens\": -1}}\n\n";
  EXPECT_EQ(TakeAll(&odd, others), others);
  EXPECT_EQ(odd.usage()->prompt_tokens, 0u);
}

}  // namespace
}  // namespace ai_gateway
