// SPDX-License-Identifier: Apache-2.0

// Sends OpenAI-style requests on to the provider of their model. See README.md.
#include <atomic>
#include <callout/plugin.hpp>
#include <charconv>
#include <chrono>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "openai.h"
#include "providers.h"
#include "reader.h"
#include "support/json_config.hpp"

namespace ai_gateway {
namespace {

using Clock = std::chrono::steady_clock;

constexpr char kWrongRequestMode[] =
    "the gateway needs request_body_mode BUFFERED in Envoy's ext_proc filter";
constexpr char kWrongResponseMode[] =
    "the gateway needs response_body_mode STREAMED or BUFFERED in Envoy's ext_proc filter";
// A longer name is not repeated to the client.
constexpr size_t kModelShownBytesMax = 128;

class Gateway {
 public:
  explicit Gateway(callout::Setup& setup) : host_(setup.host()) {
    callout::plugins::JsonConfig config(setup.config());
    path_ = config.text("path", "/v1/chat/completions");
    if (path_.empty() || path_[0] != '/' || path_.find_first_of("?# ") != std::string::npos) {
      config.refuse("path", "must begin with / and have no ?, # or blank");
    }
    const auto bytes = [&](const char* key, int64_t fallback) {
      return static_cast<size_t>(
          config.integer(key, {.fallback = fallback, .min = 1, .max = int64_t{1} << 30}));
    };
    request_bytes_max_ = bytes("request_bytes_max", 1 << 20);
    limits_.response_bytes_max = bytes("response_bytes_max", 4 << 20);
    limits_.event_bytes_max = bytes("event_bytes_max", 1 << 20);
    providers_ = ReadProviders(&config, &setup);
    config.done();
    for (const Provider& provider : providers_) removed_.insert(provider.credential_header);
    refused_ = setup.counter("ai_gateway_refused_total", "Requests answered with an error");
    uncounted_ = setup.counter("ai_gateway_uncounted_total",
                               "Good answers of providers whose tokens are not known");
  }

  struct Stream {
    ~Stream() {
      if (!reader.has_value()) return;
      const std::optional<Usage> usage = reader->usage();
      if (!usage.has_value()) {
        if (is_answered) gateway->TellUncounted(*provider, reader->WhyUncounted());
        return;
      }
      provider->prompt_tokens.add(static_cast<double>(usage->prompt_tokens));
      provider->completion_tokens.add(static_cast<double>(usage->completion_tokens));
    }
    const Gateway* gateway = nullptr;
    bool is_ours = false;
    bool is_answered = false;  // with a status of success: what costs something
    const Provider* provider = nullptr;
    std::optional<Reader> reader;
  };

  void on_request_headers(const callout::HeadersCall& call, Stream& stream) const {
    const std::string_view path = call.headers().get(":path", "");
    if (call.headers().get(":method") != "POST" || path.substr(0, path.find('?')) != path_) return;
    stream.is_ours = true;
    if (call.body_mode() != callout::BodyMode::kBuffered)
      return Misconfigured(call, kWrongRequestMode);
    if (call.end_of_stream()) return Refuse(call, {.message = "the request has no body"});
    if (Length(call.headers()) > request_bytes_max_) return RefuseLarge(call);
    for (const std::string& name : removed_) call.remove_header(name);
  }

  void on_request_body(const callout::BodyCall& call, Stream& stream) const {
    if (!stream.is_ours) return;
    if (call.body_mode() != callout::BodyMode::kBuffered)
      return Misconfigured(call, kWrongRequestMode);
    if (call.body().size() > request_bytes_max_) return RefuseLarge(call);
    const std::optional<Json> body = ParseRequest(call.body());
    if (!body.has_value()) {
      return Refuse(call, {.message = "the body is not a JSON object, or names a member twice",
                           .code = "invalid_json"});
    }
    if (const char* wrong = FindAmbiguous(*body)) {
      return Refuse(call, {.message = std::string("'") + wrong + "' must be there once, " +
                                      "written like this, and 'stream' must be true or false",
                           .param = wrong});
    }
    const Json& model = Member(*body, "model");
    if (!model.is_string()) {
      return Refuse(call, {.message = "'model' must be a text", .param = "model"});
    }
    const std::string& name = model.get_ref<const std::string&>();
    stream.provider = Choose(providers_, name);
    if (stream.provider == nullptr) return RefuseModel(call, name);
    Send(call, *body, *stream.provider);
    stream.gateway = this;
    stream.reader.emplace(*stream.provider, WantsUsage(*body), limits_);
  }

  void on_response_headers(const callout::HeadersCall& call, Stream& stream) const {
    if (!stream.reader.has_value()) return;
    const callout::Headers headers = call.headers();
    stream.is_answered = headers.get(":status", "").substr(0, 1) == "2";
    const bool is_plain = headers.get("content-encoding", "identity") == "identity";
    stream.reader->Begin(is_plain ? headers.get("content-type", "") : "");
    if (!stream.reader->is_translating() || call.end_of_stream()) return;
    switch (call.body_mode()) {
      case callout::BodyMode::kStreamed:
      case callout::BodyMode::kBuffered:
      case callout::BodyMode::kFullDuplexStreamed:
        return;
      default:
        Misconfigured(call, kWrongResponseMode);
    }
  }

  void on_response_body(const callout::BodyCall& call, Stream& stream) const {
    if (!stream.reader.has_value()) return;
    const bool is_last = call.is_last() || call.body_mode() == callout::BodyMode::kBuffered;
    Piece piece = stream.reader->Take(call.body(), is_last);
    if (piece.failure != nullptr) return call.fail(piece.failure);
    if (!piece.body.has_value() || *piece.body == call.body()) return;
    if (piece.body->empty()) return call.clear_body();
    call.set_body(*std::move(piece.body));
  }

  // A body that ends with trailers cannot be given back any more.
  void on_response_trailers(const callout::TrailersCall& call, Stream& stream) const {
    if (stream.reader.has_value() && stream.reader->is_cut_off()) {
      call.fail("the provider's answer ends with trailers; use response_body_mode BUFFERED");
    }
  }

 private:
  // Of the body that follows; 0 if it is not announced.
  static size_t Length(const callout::Headers& headers) {
    const std::string_view text = headers.get("content-length", "");
    size_t length = 0;
    std::from_chars(text.data(), text.data() + text.size(), length);
    return length;
  }

  void Send(const callout::BodyCall& call, const Json& body, const Provider& provider) const {
    if (provider.shape == Shape::kOpenai) {
      call.set_body(AskForUsage(call.body(), body));
    } else {
      std::variant<Json, Problem> translated = ToAnthropic(body, provider.max_tokens);
      if (const Problem* problem = std::get_if<Problem>(&translated)) return Refuse(call, *problem);
      call.set_header("anthropic-version", "2023-06-01");
      call.set_body(Dump(std::get<Json>(translated)));
    }
    call.set_header(":authority", provider.host);
    call.set_header(":path", provider.path);
    if (!provider.credential.empty()) {
      call.set_header(provider.credential_header, provider.credential);
    }
    call.clear_route_cache();
    provider.requests.add();
  }

  void RefuseLarge(const callout::Call& call) const {
    Refuse(call,
           {.status = 413,
            .message = "the body is larger than " + std::to_string(request_bytes_max_) + " bytes",
            .code = "request_too_large"});
  }
  void RefuseModel(const callout::Call& call, const std::string& model) const {
    const std::string shown = model.size() <= kModelShownBytesMax ? " '" + model + "'" : "";
    Refuse(call, {.status = 404,
                  .message = "the model" + shown + " does not exist",
                  .param = "model",
                  .code = "model_not_found"});
  }
  void Misconfigured(const callout::Call& call, const char* message) const {
    call.host().error(message);
    Refuse(call, {.status = 500, .message = message});
  }
  void Refuse(const callout::Call& call, const Problem& problem) const {
    refused_.add();
    call.reply(problem.status)
        .set_header("content-type", "application/json")
        .body(ErrorBody(problem));
  }

  // The log has one line in ten seconds; the counter has them all.
  void TellUncounted(const Provider& provider, const char* why) const {
    uncounted_.add();
    constexpr Clock::rep kPause = Clock::duration(std::chrono::seconds(10)).count();
    const Clock::rep now = Clock::now().time_since_epoch().count();
    Clock::rep last = warned_.load();
    if (last != 0 && now - last < kPause) return;
    if (!warned_.compare_exchange_strong(last, now)) return;
    host_.warning("the tokens of an answer of ", provider.name, " are not counted: ", why);
  }

  const callout::Host host_;
  std::string path_;
  size_t request_bytes_max_ = 0;
  Limits limits_;
  std::vector<Provider> providers_;
  // The client's credentials are for the gateway; and answers have to be readable.
  std::set<std::string> removed_ = {
      "accept-encoding",     "api-key",        "authorization", "cookie",
      "openai-organization", "openai-project", "x-api-key"};
  callout::Counter refused_, uncounted_;
  mutable std::atomic<Clock::rep> warned_{0};
};

}  // namespace
}  // namespace ai_gateway

CALLOUT_PLUGIN();
CALLOUT_PLUGIN_INFO("ai_gateway", "1.0.0", "Sends requests for language models to their providers");
CALLOUT_PLUGIN_CLASS(ai_gateway::Gateway, request_headers, request_body, response_headers,
                     response_body, response_trailers);
