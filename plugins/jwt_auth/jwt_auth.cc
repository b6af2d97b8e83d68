// SPDX-License-Identifier: Apache-2.0

// Lets only requests with a good token through, with its claims as headers. See README.md.
#include <algorithm>
#include <callout/plugin.hpp>
#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "python_text.h"
#include "support/followed_file.hpp"
#include "support/header_name.hpp"
#include "support/json_config.hpp"
#include "token.h"

namespace jwt_auth {
namespace {

constexpr std::string_view kPrefix = "decoded-";
constexpr char kNoToken[] = "No Authorization token found.";
constexpr char kBadToken[] = "Authorization token is invalid.";
// Envoy refuses answers that set, or remove, more.
constexpr size_t kHeadersMax = 100;

// Servers that read headers as CGI does take "decoded_sub" for it, too.
bool IsClaimHeader(std::string_view name) {
  return callout::plugins::CgiName(name.substr(0, kPrefix.size())) == kPrefix;
}

std::string Replaced(std::string text, char from, char to) {
  std::replace(text.begin(), text.end(), from, to);
  return text;
}

// Who reads a header takes blanks at its ends away: "admin " would become another user.
bool IsLegalValue(std::string_view value) {
  constexpr std::string_view kBlanks = " \t";
  if (value.find_first_of(kBlanks) == 0 ||
      (!value.empty() && kBlanks.find(value.back()) != std::string_view::npos)) {
    return false;
  }
  for (char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && c != '\t') || byte == 0x7f) return false;
  }
  return true;
}

// What follows the last space of the trimmed value. None if what is before it may be a token as
// well: whoever comes behind might take that one.
std::string_view TokenOf(std::string_view value) {
  const size_t end = value.find_last_not_of(" \t");
  if (end == std::string_view::npos) return {};
  value = value.substr(0, end + 1);
  const size_t begin = value.find_last_of(" \t") + 1;  // npos + 1 is 0
  if (value.substr(0, begin).find_first_of(".,") != std::string_view::npos) return {};
  return value.substr(begin);
}

double NowSeconds() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

class JwtAuth {
 public:
  explicit JwtAuth(callout::Setup& setup)
      : JwtAuth(setup, callout::plugins::JsonConfig(setup.config())) {}

  void on_request_headers(const callout::HeadersCall& call) {
    std::optional<std::string_view> value;
    for (std::string_view other : call.headers().all("authorization")) {
      // Whoever comes behind might look at another of them.
      if (value.has_value()) return Refuse(call, kBadToken, "there are several");
      value = other;
    }
    if (!value.has_value()) return Refuse(call, kNoToken, "there is none");
    const Verdict verdict = CheckToken(TokenOf(*value), *CurrentKeys(call), rules_, NowSeconds());
    if (verdict.refused != nullptr) return Refuse(call, kBadToken, verdict.refused);
    if (const char* refused = SetHeaders(call, verdict.claims)) {
      return Refuse(call, kBadToken, refused);
    }
    call.clear_route_cache();
    accepted_.add();
  }

 private:
  JwtAuth(callout::Setup& setup, callout::plugins::JsonConfig config)
      : key_file_(KeyFile::Of(&config)),
        followed_(key_file_.path),
        keys_(std::make_shared<const Keys>(key_file_.Read())),
        rules_(ReadRules(&config)) {
    for (const std::string& claim : config.texts("claims", std::vector<std::string>())) {
      if (!callout::plugins::IsHeaderName(claim)) {
        config.refuse("claims", "must be names that can be part of a header's name");
      }
      const std::string header = std::string(kPrefix) + claim;
      always_.insert({header, Replaced(header, '-', '_'), Replaced(header, '_', '-')});
    }
    if (always_.size() > kHeadersMax) {
      config.refuse("claims", "makes more than 100 headers, decoded-… and decoded_…");
    }
    const std::string deny_with = config.text("deny_with", "deny_callout");
    respond_ = deny_with == "immediate_response";
    if (!respond_ && deny_with != "deny_callout") {
      config.refuse("deny_with", "must be \"deny_callout\" or \"immediate_response\"");
    }
    config.done();
    accepted_ = setup.counter("jwt_auth_accepted_total", "Requests with a good token");
    refused_ = setup.counter("jwt_auth_refused_total", "Requests without a good token");
  }

  // Where the keys are.
  struct KeyFile {
    static KeyFile Of(callout::plugins::JsonConfig* config) {
      const std::string pem = config->text("public_key_path", "");
      const std::string jwks = config->text("jwks_path", "");
      if (pem.empty() == jwks.empty()) {
        config->refuse("public_key_path", "or \"jwks_path\" is needed, one of the two");
      }
      return {pem.empty() ? jwks : pem, pem.empty()};
    }
    Keys Read() const { return is_jwks ? Keys::FromJwks(path) : Keys::FromPem(path); }

    std::string path;
    bool is_jwks = false;
  };

  // Reads the keys again when their file has changed. A file that is not good is not taken: the
  // keys stay as they are until it is, and it is tried again.
  std::shared_ptr<const Keys> CurrentKeys(const callout::HeadersCall& call) {
    if (followed_.has_changed()) {
      try {
        auto keys = std::make_shared<const Keys>(key_file_.Read());
        call.host().info("the keys have changed: ", key_file_.path);
        const std::lock_guard<std::mutex> lock(keys_mutex_);
        keys_ = std::move(keys);
      } catch (const std::exception& error) {
        const bool is_first = followed_.retry();
        const std::lock_guard<std::mutex> lock(keys_mutex_);
        if (is_first || failure_ != error.what()) {
          call.host().error("the keys stay as they are: ", error.what());
        }
        failure_ = error.what();
      }
    }
    const std::lock_guard<std::mutex> lock(keys_mutex_);
    return keys_;
  }

  static Rules ReadRules(callout::plugins::JsonConfig* config) {
    Rules rules;
    rules.issuer = config->optional_text("issuer");
    rules.audience = config->optional_text("audience");
    rules.leeway_s = config->integer("leeway", {.fallback = 0, .min = 0, .max = 86400});
    if (rules.issuer == "") config->refuse("issuer", "must not be empty");
    if (rules.audience == "") config->refuse("audience", "must not be empty");
    return rules;
  }

  // Why the claims cannot be passed on; null if they are.
  const char* SetHeaders(const callout::HeadersCall& call, const Json& claims) const {
    size_t count = always_.size();
    // Whether or not they are among the headers that Envoy forwards to plugins.
    for (const std::string& header : always_) call.remove_header(header);
    // What the client says of itself must not be taken for what its token says.
    for (const callout::Header header : call.headers()) {
      if (!IsClaimHeader(header.key)) continue;
      if (++count > kHeadersMax) return "there are too many claims among the headers already";
      call.remove_header(header.key);
    }
    std::set<std::string> names;
    for (const auto& [claim, value] : claims.items()) {
      const std::string header = std::string(kPrefix) + claim;
      if (!callout::plugins::IsHeaderName(header)) continue;  // no header can have it
      const std::string text = PythonText(value);
      if (!IsLegalValue(text)) return "a claim has control characters, or blanks at its ends";
      if (names.size() == kHeadersMax) return "it has too many claims";
      if (!names.insert(callout::plugins::CgiName(header)).second)
        return "two claims would be the same header";
      call.set_header(header, text);
    }
    return nullptr;
  }

  void Refuse(const callout::HeadersCall& call, const char* text, const char* reason) const {
    refused_.add();
    call.host().debug("token refused: ", reason);
    if (!respond_) return call.deny_callout(text);
    call.reply(401).set_header("www-authenticate", "Bearer").body(text);
  }

  const KeyFile key_file_;
  callout::plugins::FollowedFile followed_;
  std::mutex keys_mutex_;  // guards the following
  std::shared_ptr<const Keys> keys_;
  std::string failure_;  // why they could not be read last
  Rules rules_;
  std::set<std::string> always_;  // headers that are removed unless the token has their claim
  bool respond_ = false;
  callout::Counter accepted_;
  callout::Counter refused_;
};

}  // namespace
}  // namespace jwt_auth

CALLOUT_PLUGIN();
CALLOUT_PLUGIN_INFO("jwt_auth", "1.0.0", "Requires a JSON Web Token, and passes its claims on");
CALLOUT_PLUGIN_CLASS(jwt_auth::JwtAuth, request_headers);
