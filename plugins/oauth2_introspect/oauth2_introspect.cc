// SPDX-License-Identifier: Apache-2.0

// Asks a token service whether a request's bearer token is good (RFC 7662), and tells the services
// behind whose it is. See README.md.
#include <algorithm>
#include <atomic>
#include <callout/calls.hpp>
#include <callout/plugin.hpp>
#include <callout/shared_data.hpp>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "introspection.h"
#include "support/json_config.hpp"

extern "C" CALLOUT_EXPORT const char callout_plugin_config_schema[];
// On one line: the host shows it on one.
// clang-format off
const char callout_plugin_config_schema[] =
    R"({)"
    R"("$schema": "https://json-schema.org/draft/2020-12/schema", )"
    R"("type": "object", )"
    R"("required": ["upstream"], )"
    R"("additionalProperties": false, )"
    R"("properties": {)"
    R"("upstream": {"type": "string", "description": "the name of the token service in the file of --upstreams"}, )"
    R"("path": {"type": "string", "default": "/introspect"}, )"
    R"("client_id": {"type": "string", "default": ""}, )"
    R"("client_secret": {"type": "string", "default": ""}, )"
    R"("scopes": {"type": "array", "items": {"type": "string"}, "default": []}, )"
    R"("issuer": {"type": "string", "default": ""}, )"
    R"("audience": {"type": "string", "default": ""}, )"
    R"("realm": {"type": "string", "default": "callout"}, )"
    R"("header_prefix": {"type": "string", "default": "x-auth-"}, )"
    R"("forward_token": {"type": "boolean", "default": true}, )"
    R"("cache_seconds": {"type": "integer", "minimum": 0, "maximum": 86400, "default": 60}, )"
    R"("inactive_cache_seconds": {"type": "integer", "minimum": 0, "maximum": 86400, "default": 5}, )"
    R"("unavailable_status": {"type": "integer", "minimum": 400, "maximum": 599, "default": 503})"
    R"(})"
    R"(})";
// clang-format on

namespace oauth2_introspect {
namespace {

using Clock = std::chrono::steady_clock;

int64_t NowSeconds() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::seconds>(now).count();
}

// What becomes of a request.
struct Decision {
  uint32_t status = 0;       // 0: it passes
  std::string authenticate;  // www-authenticate; "": none
  Claims claims;             // of a request that passes
};

// It stands between quotes in www-authenticate.
bool IsQuotable(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return c >= ' ' && c < 0x7f && c != '"' && c != '\\'; });
}

bool IsAuthorization(std::string_view name) {
  constexpr std::string_view kName = "authorization";
  return std::equal(name.begin(), name.end(), kName.begin(), kName.end(),
                    [](char a, char b) { return a == b || (a >= 'A' && a <= 'Z' && a + 32 == b); });
}

class OAuth2Introspect {
 public:
  explicit OAuth2Introspect(callout::Setup& setup)
      : OAuth2Introspect(setup, callout::plugins::JsonConfig(setup.config())) {}

  void on_request_headers(callout::HeadersCall& call) { Decide(call); }
  void on_check(callout::CheckCall& call) { Decide(call); }

 private:
  using Waiting = std::function<void(const Decision& decision)>;

  OAuth2Introspect(callout::Setup& setup, callout::plugins::JsonConfig config)
      : host_(setup.host()), service_(setup, config.text("upstream")), cache_(setup) {
    path_ = config.text("path", "/introspect");
    const std::string id = config.text("client_id", "");
    const std::string secret = config.text("client_secret", "");
    if (!id.empty()) authorization_ = BasicAuthorization(id, secret);
    if (id.empty() && !secret.empty()) config.refuse("client_secret", "needs \"client_id\"");
    scopes_ = config.texts("scopes", std::vector<std::string>());
    wanted_ = {config.text("issuer", ""), config.text("audience", "")};
    realm_ = config.text("realm", "callout");
    prefix_ = config.text("header_prefix", "x-auth-");
    forward_token_ = config.boolean("forward_token", true);
    cache_for_ = Seconds(&config, "cache_seconds", 60);
    inactive_for_ = Seconds(&config, "inactive_cache_seconds", 5);
    unavailable_status_ = static_cast<uint32_t>(
        config.integer("unavailable_status", {.fallback = 503, .min = 400, .max = 599}));
    CheckTexts(config);
    config.done();
    // Another question, or another service, makes what is in the cache worthless. So do other
    // times: who lowers them means the tokens that are in it already, too.
    question_ =
        DigestOf({service_.name(), path_, id, wanted_.issuer, wanted_.audience,
                  std::to_string(cache_for_.count()), std::to_string(inactive_for_.count())});
    DefineMetrics(setup);
  }

  static std::chrono::seconds Seconds(callout::plugins::JsonConfig* config, const char* key,
                                      int64_t fallback) {
    return std::chrono::seconds(
        config->integer(key, {.fallback = fallback, .min = 0, .max = 86400}));
  }

  void CheckTexts(const callout::plugins::JsonConfig& config) const {
    if (path_.empty() || path_[0] != '/') config.refuse("path", "must begin with '/'");
    if (!IsQuotable(realm_)) config.refuse("realm", "must be ASCII without quotes");
    for (const std::string& scope : scopes_) {
      if (scope.empty() || scope.find(' ') != scope.npos || !IsQuotable(scope)) {
        config.refuse("scopes", "must have names of ASCII without blanks and quotes");
      }
    }
    constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyz0123456789-_";
    if (prefix_.empty() || prefix_.find_first_not_of(kLetters) != prefix_.npos) {
      config.refuse("header_prefix", "must be letters in lower case, digits, '-' and '_'");
    }
  }

  void DefineMetrics(callout::Setup& setup) {
    lookups_ = setup.counter("oauth2_introspect_lookups_total", "Questions to the token service");
    hits_ = setup.counter("oauth2_introspect_cache_hits_total", "Requests answered from the cache");
    joined_ = setup.counter("oauth2_introspect_joined_total",
                            "Requests that waited for the question of another one");
    refused_ =
        setup.counter("oauth2_introspect_refused_total", "Requests refused: 400, 401 and 403");
    unavailable_ = setup.counter("oauth2_introspect_unavailable_total",
                                 "Requests refused since the token service did not tell");
  }

  template <class AnyCall>
  void Decide(AnyCall& call) {
    std::optional<std::string_view> header;
    for (const callout::Header& other : call.headers()) {
      if (!IsAuthorization(other.key)) continue;
      // Whoever comes behind might look at another of them.
      if (header.has_value()) return Answer(call, Refusal(400, "invalid_request"));
      header = other.value;
    }
    if (!header.has_value()) return Answer(call, Refusal(401, ""));
    const std::optional<std::string_view> token = BearerToken(*header);
    if (!token.has_value()) return Answer(call, Refusal(401, "invalid_request"));
    if (token->size() > kTokenBytesMax) return Answer(call, Refusal(401, "invalid_token"));
    // The token itself is kept nowhere.
    const std::string key = DigestOf({question_, *token});
    if (const std::optional<Claims> claims = FindCached(key)) {
      hits_.add();
      return Answer(call, Judge(*claims));
    }
    callout::HttpRequest question = Question(*token);
    question.timeout = callout::Upstream::time_for(call);
    Ask(key, question, [this, deferred = call.defer().share()](const Decision& decision) {
      deferred->finish_with([&](AnyCall& later) { Answer(later, decision); });
    });
  }

  std::optional<Claims> FindCached(const std::string& key) const {
    const std::optional<std::string> packed = cache_.get(key);
    if (!packed.has_value()) return std::nullopt;
    std::optional<Claims> claims = Unpack(*packed);
    // It is kept until then by a clock that nobody sets; somebody may have set this one.
    const bool is_over =
        claims.has_value() && claims->expires != 0 && claims->expires <= NowSeconds();
    return is_over ? std::nullopt : claims;
  }

  callout::HttpRequest Question(std::string_view token) const {
    callout::HttpRequest request;
    request.path = path_;
    request.headers = {{"content-type", "application/x-www-form-urlencoded"},
                       {"accept", "application/json"}};
    if (!authorization_.empty()) request.headers.emplace_back("authorization", authorization_);
    request.body = IntrospectionForm(token);
    request.idempotent = true;  // it changes nothing
    return request;
  }

  // Requests with the same token wait for one question, whose time is that of the first of them.
  void Ask(const std::string& key, const callout::HttpRequest& question, Waiting waiting) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      std::vector<Waiting>& line = asked_[key];
      line.push_back(std::move(waiting));
      if (line.size() > 1) return joined_.add();
    }
    lookups_.add();
    callout::OutgoingCall call = service_.start(
        question, [this, key](const callout::IncomingResponse& response) { Take(key, response); });
    if (!call) return Settle(key, Unavailable());
    call.detach();
  }

  // On the host's thread for calls.
  void Take(const std::string& key, const callout::IncomingResponse& response) {
    std::optional<Claims> claims;
    if (!response.ok()) {
      Warn("the token service did not answer: ", response.message());
    } else if (response.http_status() != 200) {
      const std::string status = std::to_string(response.http_status());
      const bool is_ours = status == "401" || status == "403";
      Warn("the token service answered with status ",
           status + (is_ours ? "; check \"client_id\" and \"client_secret\"" : ""));
    } else {
      claims = ReadResponse(response.body(), wanted_, NowSeconds());
      if (!claims.has_value()) Warn("the token service's response is no answer of RFC 7662", "");
    }
    if (!claims.has_value()) return Settle(key, Unavailable());
    Keep(key, *claims);
    Settle(key, Judge(*claims));
  }

  // A cache that is full costs questions, no more.
  void Keep(const std::string& key, const Claims& claims) const {
    std::chrono::seconds ttl = claims.active ? cache_for_ : inactive_for_;
    if (claims.active && claims.expires != 0) {
      ttl = std::min(ttl, std::chrono::seconds(claims.expires - NowSeconds()));
    }
    if (ttl.count() > 0) cache_.cache(key, Pack(claims), ttl);
  }

  void Settle(const std::string& key, const Decision& decision) {
    std::vector<Waiting> line;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      const auto found = asked_.find(key);
      line = std::move(found->second);
      asked_.erase(found);
    }
    for (const Waiting& waiting : line) waiting(decision);
  }

  Decision Refusal(uint32_t status, std::string_view error) const {
    Decision decision;
    decision.status = status;
    decision.authenticate = "Bearer realm=\"" + realm_ + "\"";
    if (!error.empty()) decision.authenticate.append(", error=\"").append(error).append("\"");
    return decision;
  }
  Decision Unavailable() const {
    Decision decision;
    decision.status = unavailable_status_;
    return decision;
  }
  Decision Judge(const Claims& claims) const {
    if (!claims.active) return Refusal(401, "invalid_token");
    if (claims.HasScopes(scopes_)) {
      Decision decision;
      decision.claims = claims;
      return decision;
    }
    Decision decision = Refusal(403, "insufficient_scope");
    decision.authenticate.append(", scope=\"");
    for (size_t i = 0; i < scopes_.size(); ++i) {
      decision.authenticate.append(i == 0 ? "" : " ").append(scopes_[i]);
    }
    decision.authenticate.append("\"");
    return decision;
  }

  // --- The answer ---

  void Answer(const callout::HeadersCall& call, const Decision& decision) const {
    if (decision.status != 0) return Refuse(call.reply(decision.status), decision);
    Pass(call, decision.claims);
    call.clear_route_cache();
  }
  void Answer(const callout::CheckCall& call, const Decision& decision) const {
    if (decision.status != 0) return Refuse(call.refuse(decision.status), decision);
    Pass(call.allow(), decision.claims);
  }

  template <class Reply>
  void Refuse(const Reply& reply, const Decision& decision) const {
    if (!decision.authenticate.empty()) {
      refused_.add();
      reply.set_header("www-authenticate", decision.authenticate);
    } else {
      unavailable_.add();
      reply.set_header("retry-after", "1");
    }
  }

  // Each header is either set, over what the client says, or removed.
  template <class Answers>
  void Pass(const Answers& answers, const Claims& claims) const {
    const std::pair<const char*, const std::string*> fields[] = {{"subject", &claims.subject},
                                                                 {"client", &claims.client_id},
                                                                 {"username", &claims.username},
                                                                 {"scope", &claims.scope}};
    for (const auto& [name, value] : fields) {
      const std::string header = prefix_ + name;
      if (value->empty()) {
        answers.remove_header(header);
      } else {
        answers.set_header(header, *value);
      }
    }
    if (!forward_token_) answers.remove_header("authorization");
  }

  // Once in ten seconds; the counters have the rest.
  void Warn(std::string_view what, std::string_view more) {
    constexpr Clock::rep kPause = Clock::duration(std::chrono::seconds(10)).count();
    const Clock::rep now = Clock::now().time_since_epoch().count();
    Clock::rep last = warned_.load();
    if (last != 0 && now - last < kPause) return;
    if (!warned_.compare_exchange_strong(last, now)) return;
    host_.warning(what, more, "; requests get status ", unavailable_status_,
                  " (\"unavailable_status\")");
  }

  const callout::Host host_;
  const callout::Upstream service_;
  const callout::SharedData cache_;
  callout::Counter lookups_, hits_, joined_, refused_, unavailable_;
  std::string path_, authorization_, realm_, prefix_, question_;
  std::vector<std::string> scopes_;
  Wanted wanted_;
  bool forward_token_ = true;
  std::chrono::seconds cache_for_{0}, inactive_for_{0};
  uint32_t unavailable_status_ = 503;
  std::atomic<Clock::rep> warned_{0};
  std::mutex mutex_;  // guards the following
  std::map<std::string, std::vector<Waiting>> asked_;
};

}  // namespace
}  // namespace oauth2_introspect

using OAuth2Introspect = oauth2_introspect::OAuth2Introspect;
CALLOUT_PLUGIN_CLASS(OAuth2Introspect,
                     ("oauth2_introspect", "1.0.0", "Asks a token service about bearer tokens"),
                     request_headers, check);
