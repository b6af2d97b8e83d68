// SPDX-License-Identifier: Apache-2.0

// plugins/jwt_auth.
#include <sys/resource.h>

#include <algorithm>
#include <callout/testing.hpp>
#include <chrono>
#include <fstream>

#include "../host/sockets.h"
#include "sample_envoy.h"
#include "sample_host.h"
#include "support/followed_file.hpp"
#include "test_tokens.h"

namespace callout::tests {
namespace {

const Lines kNoToken = {"PERMISSION_DENIED: No Authorization token found."};
const Lines kBadToken = {"PERMISSION_DENIED: Authorization token is invalid."};
const Lines kGood = {"request_headers", "set decoded-sub: ada", "clear route cache"};

// So many seconds from now, as JSON.
std::string In(int64_t seconds) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::to_string(std::chrono::duration_cast<std::chrono::seconds>(now).count() + seconds);
}

class JwtAuthTest : public ::testing::Test {
 protected:
  std::string Write(const std::string& name, const std::string& text) {
    std::ofstream(directory_.Path(name)) << text;
    return directory_.Path(name);
  }
  // `more` are further members.
  std::string WithPem(const std::string& more = "") {
    return R"({"public_key_path": ")" + Write("key.pem", signer_.Pem()) + "\"" + more + "}";
  }
  std::string WithJwks(const std::string& keys) {
    return R"({"jwks_path": ")" + Write("keys.json", R"({"keys": [)" + keys + "]}") + "\"}";
  }
  ext_proc::ProcessingRequest Claiming(const std::string& claims) {
    return Bearing(signer_.Token("{" + claims + "}"));
  }
  static ext_proc::ProcessingRequest Bearing(const std::string& token) {
    return RequestHeaders({{":path", "/"}, {"authorization", "Bearer " + token}});
  }

  const host::TempDir directory_;
  const Signer signer_;
};

TEST_F(JwtAuthTest, PassesClaimsOnInTheirOrderAsPythonPrintsThem) {
  const std::string exp = In(100);
  SampleHost host("jwt_auth", WithPem());
  host.Expect({
      {"every kind",
       Claiming(R"("sub": "ada", "admin": true, "none": null, "level": 1.5, "big": 1e16, "exp": )" +
                exp + R"(, "roles": ["a", {"b": "it's"}], "empty": "")"),
       {"request_headers", "set decoded-sub: ada", "set decoded-admin: True",
        "set decoded-none: None", "set decoded-level: 1.5", "set decoded-big: 1e+16",
        "set decoded-exp: " + exp, R"(set decoded-roles: ['a', {'b': "it's"}])",
        "set decoded-empty: ", "clear route cache"}},
      {"none", Claiming(""), {"request_headers", "clear route cache"}},
      {"one twice", Claiming(R"("sub": "bob", "sub": "ada")"), kGood},
      {"a response", ResponseHeaders({{"authorization", "x"}}), {"response_headers"}},
  });
}

TEST_F(JwtAuthTest, TakesTheLastPartOfTheHeader) {
  const std::string token = signer_.Token(R"({"sub": "ada"})");
  SampleHost host("jwt_auth", WithPem());
  const auto with = [](const std::string& value) {
    return RequestHeaders({{"authorization", value}});
  };
  host.Expect({
      {"alone", with(token), kGood},
      {"after a scheme", with("Bearer " + token), kGood},
      {"after two words", with("a b " + token), kGood},
      {"with blanks around", with("  Bearer   " + token + "  "), kGood},
      {"not last", with(token + " x"), kBadToken},
      {"after another token", with("Bearer e30.e30.x " + token), kBadToken},
      {"after half a token", with("Bearer e30.e30 " + token), kBadToken},
      {"joined to another header", with("Bearer x,Bearer " + token), kBadToken},
      {"empty", with(""), kBadToken},
      {"blank", with("  "), kBadToken},
      {"no header", RequestHeaders({{":path", "/"}}), kNoToken},
      {"two headers", RequestHeaders({{"authorization", token}, {"authorization", token}}),
       kBadToken},
  });
}

TEST_F(JwtAuthTest, RefusesTokensOfAnotherAlgorithmOrKey) {
  const std::string claims = R"({"sub": "ada"})";
  const std::string good = signer_.Token(claims);
  const std::string signature = good.substr(good.rfind('.'));
  const auto signed_as = [&](const std::string& header) {
    return Bearing(signer_.Token(claims, header));
  };
  SampleHost host("jwt_auth", WithPem());
  host.Expect({
      {"another key", Bearing(Signer().Token(claims)), kBadToken},
      {"HS256 with the public key", Bearing(Hs256Token(claims, signer_.Pem())), kBadToken},
      {"none", Bearing(Unsigned(R"({"alg": "none"})", claims) + "."), kBadToken},
      {"none, signed", signed_as(R"({"alg": "none"})"), kBadToken},
      {"another algorithm's name", signed_as(R"({"alg": "RS512"})"), kBadToken},
      {"in lower case", signed_as(R"({"alg": "rs256"})"), kBadToken},
      {"no algorithm", signed_as("{}"), kBadToken},
      {"an algorithm that is no text", signed_as(R"({"alg": ["RS256"]})"), kBadToken},
      {"critical extensions", signed_as(R"({"alg": "RS256", "crit": ["x"], "x": 1})"), kBadToken},
      {"an unencoded payload", signed_as(R"({"alg": "RS256", "b64": false})"), kBadToken},
      {"a kid that is no text", signed_as(R"({"alg": "RS256", "kid": 1})"), kBadToken},
      {"any kid with a PEM file", signed_as(R"({"alg": "RS256", "kid": "x"})"), kGood},
      {"other claims", Bearing(Unsigned(kRs256, R"({"sub": "eve"})") + signature), kBadToken},
      {"no signature", Bearing(good.substr(0, good.rfind('.'))), kBadToken},
      {"an empty signature", Bearing(good.substr(0, good.rfind('.') + 1)), kBadToken},
      {"half a signature", Bearing(good.substr(0, good.size() - 100)), kBadToken},
  });
}

// An object that says RS256, with so many members in all.
std::string Members(int count) {
  std::string object = R"({"alg": "RS256")";
  for (int i = 1; i < count; ++i) object += ", \"m" + std::to_string(i) + "\": 1";
  return object + "}";
}

TEST_F(JwtAuthTest, ReadsLittleOfATokenWhoseSignatureIsUnchecked) {
  SampleHost host("jwt_auth", WithPem());
  const std::string claims = R"({"sub": "ada"})";
  host.Expect({
      {"at the limit", Bearing(signer_.Token(claims, Members(32))), kGood},
      {"over it", Bearing(signer_.Token(claims, Members(33))), kBadToken},
  });
}

TEST_F(JwtAuthTest, RefusesMalformedTokens) {
  const std::string good = signer_.Token(R"({"sub": "ada"})");
  SampleHost host("jwt_auth", WithPem());
  host.Expect({
      {"one word", Bearing("token"), kBadToken},
      {"two dots", Bearing(".."), kBadToken},
      {"four parts", Bearing(good + ".x"), kBadToken},
      {"padding", Bearing(good + "=="), kBadToken},
      {"the other alphabet", Bearing("+" + good), kBadToken},
      {"a length that cannot be", Bearing(good + "AAA"), kBadToken},
      {"a header that is no JSON", Bearing(signer_.Token("{}", "{")), kBadToken},
      {"a header that is a list", Bearing(signer_.Token("{}", "[]")), kBadToken},
      {"claims that are no JSON", Bearing(signer_.Token("{")), kBadToken},
      {"claims that are no object", Bearing(signer_.Token("[]")), kBadToken},
      {"claims that are not UTF-8", Bearing(signer_.Token("{\"a\": \"\xff\"}")), kBadToken},
      {"no claims", Bearing(signer_.Token("")), kBadToken},
      {"a deep header", Bearing(signer_.Token("{}", std::string(20000, '['))), kBadToken},
      {"deep claims", Claiming("\"a\": " + std::string(20000, '[')), kBadToken},
  });
}

TEST_F(JwtAuthTest, LooksAtTheClock) {
  const auto good = [](const std::string& claim) {
    return Lines{"request_headers", "set decoded-" + claim, "clear route cache"};
  };
  const std::string past = In(-100);
  const std::string future = In(100);
  SampleHost host("jwt_auth", WithPem());
  host.Expect({
      {"to expire", Claiming("\"exp\": " + future), good("exp: " + future)},
      {"expired", Claiming("\"exp\": " + past), kBadToken},
      {"valid", Claiming("\"nbf\": " + past), good("nbf: " + past)},
      {"not yet valid", Claiming("\"nbf\": " + future), kBadToken},
      {"issued", Claiming("\"iat\": " + past), good("iat: " + past)},
      {"issued in the future", Claiming("\"iat\": " + future), kBadToken},
      {"a fraction", Claiming("\"exp\": " + future + ".5"), good("exp: " + future + ".5")},
      {"beyond 64 bits", Claiming("\"exp\": 99999999999999999999"),
       good("exp: 99999999999999999999")},
      {"exp as a text", Claiming("\"exp\": \"" + future + "\""), kBadToken},
      {"exp is null", Claiming("\"exp\": null"), kBadToken},
      {"exp is true", Claiming("\"exp\": true"), kBadToken},
      {"nbf as a text", Claiming("\"nbf\": \"soon\""), kBadToken},
      {"iat as a list", Claiming("\"iat\": [" + past + "]"), kBadToken},
  });
}

TEST_F(JwtAuthTest, LetsClocksDifferByTheLeeway) {
  SampleHost host("jwt_auth", WithPem(R"(, "leeway": 200)"));
  const auto expect = [&](const std::string& name, int64_t seconds, bool good) {
    const std::string time = In(seconds);
    std::string claim = "\"";
    claim.append(name).append("\": ").append(time);
    std::string header = "set decoded-";
    header.append(name).append(": ").append(time);
    const Lines passed = {"request_headers", header, "clear route cache"};
    EXPECT_EQ(host.Ask({Claiming(claim)}), good ? passed : kBadToken) << claim;
  };
  expect("exp", -100, true);
  expect("exp", -300, false);
  for (const char* name : {"nbf", "iat"}) {
    expect(name, 100, true);
    expect(name, 300, false);
  }
}

TEST_F(JwtAuthTest, RefusesAnAudienceThatNobodyAskedFor) {
  SampleHost host("jwt_auth", WithPem());
  host.Expect({
      {"a text", Claiming(R"("aud": "me")"), kBadToken},
      {"a list", Claiming(R"("aud": ["me"])"), kBadToken},
      {"an empty one",
       Claiming(R"("aud": "")"),
       {"request_headers", "set decoded-aud: ", "clear route cache"}},
  });
}

TEST_F(JwtAuthTest, WantsItsIssuerAndAudience) {
  SampleHost host("jwt_auth", WithPem(R"(, "issuer": "them", "audience": "me")"));
  const auto answer = [](const std::string& audience) {
    return Lines{"request_headers", "set decoded-iss: them", "set decoded-aud: " + audience,
                 "clear route cache"};
  };
  host.Expect({
      {"both", Claiming(R"("iss": "them", "aud": "me")"), answer("me")},
      {"among others", Claiming(R"("iss": "them", "aud": ["you", "me"])"), answer("['you', 'me']")},
      {"not among others", Claiming(R"("iss": "them", "aud": ["you"])"), kBadToken},
      {"a list with more than texts", Claiming(R"("iss": "them", "aud": ["me", 1])"), kBadToken},
      {"another audience", Claiming(R"("iss": "them", "aud": "you")"), kBadToken},
      {"no audience", Claiming(R"("iss": "them")"), kBadToken},
      {"an object", Claiming(R"("iss": "them", "aud": {"me": 1})"), kBadToken},
      {"another issuer", Claiming(R"("iss": "me", "aud": "me")"), kBadToken},
      {"no issuer", Claiming(R"("aud": "me")"), kBadToken},
      {"a list of issuers", Claiming(R"("iss": ["them"], "aud": "me")"), kBadToken},
  });
}

TEST_F(JwtAuthTest, ChoosesTheKeyOfASetByItsName) {
  const Signer other;
  const std::string claims = R"({"sub": "ada"})";
  const auto named = [&](const Signer& signer, const std::string& kid) {
    return Bearing(signer.Token(claims, R"({"alg": "RS256", "kid": ")" + kid + "\"}"));
  };
  {
    SampleHost host("jwt_auth",
                    WithJwks(signer_.Jwk(R"("kid": "a")") + "," +
                             other.Jwk(R"("kid": "b", "use": "sig", "alg": "RS256")") + "," +
                             other.Jwk(R"("kid": "c", "use": "enc")") +
                             R"(, {"kty": "EC", "kid": "d"}, {"kty": "oct", "k": "AAAA"})"));
    host.Expect({
        {"the first", named(signer_, "a"), kGood},
        {"the second", named(other, "b"), kGood},
        {"the key of another name", named(signer_, "b"), kBadToken},
        {"a key for something else", named(other, "c"), kBadToken},
        {"an unknown name", named(signer_, "x"), kBadToken},
        {"no name", Bearing(signer_.Token(claims)), kBadToken},
    });
  }
  SampleHost host("jwt_auth", WithJwks(signer_.Jwk("")));
  host.Expect({
      {"the only one", Bearing(signer_.Token(claims)), kGood},
      {"a name that no key has", named(signer_, "x"), kBadToken},
  });
}

TEST_F(JwtAuthTest, SetsOnlyHeadersThatCanBe) {
  std::string many;
  for (int i = 0; i < 101; ++i) {
    many += (i == 0 ? "\"c" : ", \"c") + std::to_string(i) + "\": 1";
  }
  SampleHost host("jwt_auth", WithPem());
  host.Expect({
      {"a name that is none", Claiming(R"("https://x.org/roles": "a", "sub": "ada")"), kGood},
      {"a name without characters",
       Claiming(R"("": 1)"),
       {"request_headers", "set decoded-: 1", "clear route cache"}},
      {"a line break", Claiming(R"("sub": "ada\r\nadmin: 1")"), kBadToken},
      {"a blank before it", Claiming(R"("sub": " ada")"), kBadToken},
      {"a blank behind it", Claiming(R"("sub": "ada ")"), kBadToken},
      {"a tab behind it", Claiming(R"("sub": "ada\t")"), kBadToken},
      {"two of one header but for case", Claiming(R"("sub": "ada", "Sub": "root")"), kBadToken},
      {"two of one header to CGI", Claiming(R"("a-b": "1", "a_b": "2")"), kBadToken},
      {"a zero byte", Claiming(R"("sub": "a\u0000")"), kBadToken},
      {"a line break within a list",
       Claiming(R"("sub": ["a\n"])"),
       {"request_headers", R"(set decoded-sub: ['a\n'])", "clear route cache"}},
      {"other letters",
       Claiming(R"("sub": "é")"),
       {"request_headers", "set decoded-sub: é", "clear route cache"}},
      {"too many", Claiming(many), kBadToken},
  });
}

TEST_F(JwtAuthTest, TakesAwayClaimsOfTheClientsOwn) {
  SampleHost host("jwt_auth", WithPem());
  const std::string token = signer_.Token(R"({"sub": "ada"})");
  HeaderList many = {{"authorization", token}};
  for (int i = 0; i < 101; ++i) many.push_back({"decoded-" + std::to_string(i), "x"});
  host.Expect({
      {"one it has and one it has not",
       RequestHeaders({{"authorization", token},
                       {"decoded-sub", "eve"},
                       {"Decoded-Admin", "True"},
                       {"decode", "x"}}),
       {"request_headers", "set decoded-sub: ada", "remove decoded-sub", "remove Decoded-Admin",
        "clear route cache"}},
      {"in the writing of CGI",
       RequestHeaders({{"authorization", token}, {"decoded_admin", "True"}}),
       {"request_headers", "set decoded-sub: ada", "remove decoded_admin", "clear route cache"}},
      {"too many to remove", RequestHeaders(many), kBadToken},
  });
}

TEST_F(JwtAuthTest, TakesAwayThoseOfTheListUnseen) {
  SampleHost host("jwt_auth", WithPem(R"(, "claims": ["sub", "is_admin"])"));
  host.Expect({{"not among the headers that it sees, in each writing that CGI takes for them",
                Claiming(R"("sub": "ada")"),
                {"request_headers", "set decoded-sub: ada", "remove decoded-is-admin",
                 "remove decoded-is_admin", "remove decoded-sub", "remove decoded_is_admin",
                 "remove decoded_sub", "clear route cache"}}});
}

TEST_F(JwtAuthTest, AnswersTheClientItselfIfTold) {
  SampleHost host("jwt_auth", WithPem(R"(, "deny_with": "immediate_response")"));
  const auto answer = [](const std::string& text) {
    return Lines{"immediate 401", "set www-authenticate: Bearer", "body \"" + text + "\""};
  };
  host.Expect({
      {"good", Claiming(R"("sub": "ada")"), kGood},
      {"bad", Bearing("x"), answer("Authorization token is invalid.")},
      {"none", RequestHeaders({}), answer("No Authorization token found.")},
      {"claims that cannot be headers", Claiming(R"("a": 1, "b": "\n")"),
       answer("Authorization token is invalid.")},
  });
}

TEST_F(JwtAuthTest, RefusesAConfigurationThatCannotWork) {
  const std::string ec = Write("ec.pem", PublicPem(host::MakeEcKey().get()));
  const std::string weak = Write("short.pem", Signer(1024).Pem());
  const std::string empty = Write("empty.pem", "");
  const auto pem = [](const std::string& path) {
    return R"({"public_key_path": ")" + path + "\"}";
  };
  const std::string file = "cannot use the key file ";
  std::string names;
  for (int i = 0; i < 51; ++i) names += (i == 0 ? "\"n" : ", \"n") + std::to_string(i) + "\"";
  const std::vector<std::pair<std::string, std::string>> rows = {
      {"", R"("public_key_path" or "jwks_path" is needed, one of the two)"},
      {WithPem(R"(, "jwks_path": "x")"), "one of the two"},
      {pem("/nowhere/key.pem"), file + "/nowhere/key.pem: No such file or directory"},
      {pem(directory_.Path("")), file + directory_.Path("") + ": it cannot be read"},
      {pem(empty), file + empty + ": no public key in PEM form (BEGIN PUBLIC KEY) is in it"},
      {pem(ec), file + ec + ": it is not an RSA key, which RS256 needs"},
      {pem(weak), file + weak + ": it has 1024 bits; RS256 needs at least 2048"},
      {R"({"jwks_path": ")" + ec + "\"}",
       file + ec + ": it is not a JSON object with a list \"keys\""},
      {WithPem(R"(, "issuer": "")"), R"("issuer" must not be empty)"},
      {WithPem(R"(, "audience": "")"), R"("audience" must not be empty)"},
      {WithPem(R"(, "leeway": -1)"),
       R"("leeway" must be an integer from 0 to 86400, not a number)"},
      {WithPem(R"(, "deny_with": "x")"),
       R"("deny_with" must be "deny_callout" or "immediate_response")"},
      {WithPem(R"(, "claims": ["a b"])"), R"("claims" must be names that can be part of)"},
      {WithPem(R"(, "claims": [)" + names + "]"),
       "\"claims\" makes more than 100 headers, decoded-… and decoded_…"},
      {WithPem(R"(, "issuer": "a", "issuer": "b")"), R"("issuer" is there twice)"},
      {WithPem(R"(, "algorithm": "HS256")"), R"("algorithm" is not known; there is: )"},
  };
  for (const auto& [config, reason] : rows) {
    EXPECT_THAT(RefusalOf("jwt_auth", config), ::testing::HasSubstr(reason));
  }
}

TEST_F(JwtAuthTest, RefusesASetOfKeysThatCannotWork) {
  const std::string key = signer_.Jwk(R"("kid": "a")");
  const std::vector<std::pair<std::string, std::string>> rows = {
      {"", "no RSA key for RS256 signatures is in it"},
      {R"({"kty": "EC"}, 1)", "no RSA key for RS256 signatures is in it"},
      {R"({"kty": "RSA", "kid": "a", "e": "AQAB"})",
       R"(the key "a" has no n and e that make a key)"},
      {R"({"kty": "RSA", "kid": "a", "e": "AQAB", "n": "?"})",
       R"(the key "a" has no n and e that make a key)"},
      {key + "," + key, R"(the key "a" is there twice; each needs a kid of its own)"},
      {Signer(1024).Jwk(R"("kid": "a")"),
       R"(the key "a" has 1024 bits; RS256 needs at least 2048)"},
  };
  for (const auto& [keys, reason] : rows) {
    EXPECT_THAT(RefusalOf("jwt_auth", WithJwks(keys)),
                ::testing::HasSubstr("cannot use the key file " + directory_.Path("keys.json") +
                                     ": " + reason));
  }
}

// Without descriptors no file can be opened, though it is there and good.
class NoDescriptors {
 public:
  NoDescriptors() {
    getrlimit(RLIMIT_NOFILE, &before_);
    const rlimit none = {0, before_.rlim_max};
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  }
  ~NoDescriptors() { setrlimit(RLIMIT_NOFILE, &before_); }
  NoDescriptors(const NoDescriptors&) = delete;
  NoDescriptors& operator=(const NoDescriptors&) = delete;

 private:
  rlimit before_ = {};
};

TEST_F(JwtAuthTest, ReadsKeysAgainThatItCouldNotReadBefore) {
  callout::testing::Plugin plugin(BuiltPlugin("jwt_auth"), WithPem());
  ASSERT_EQ(plugin.status(), CALLOUT_OK);
  const Signer next;
  const std::string before = "Bearer " + signer_.Token(R"({"sub": "ada"})");
  const std::string after = "Bearer " + next.Token(R"({"sub": "ada"})");
  const auto passes = [&](const std::string& authorization) {
    callout::testing::Stream stream(plugin);
    return stream.request_headers({{"authorization", authorization}}, true).status == CALLOUT_OK;
  };
  const auto failures = [&] {
    const auto& logs = plugin.logs();
    return std::count_if(logs.begin(), logs.end(), [](const auto& line) {
      return line.text.find("the keys stay as they are: ") != std::string::npos;
    });
  };
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  Write("key.pem", next.Pem());
  {
    const NoDescriptors none;
    while (failures() == 0 && std::chrono::steady_clock::now() < end) passes(before);
  }
  EXPECT_EQ(failures(), 1);
  // The file stays as it is, and the withdrawn key is accepted no longer.
  while (!passes(after) && std::chrono::steady_clock::now() < end) continue;
  EXPECT_TRUE(passes(after));
  EXPECT_FALSE(passes(before));
}

TEST_F(JwtAuthTest, OfAFileThatStaysInvalidTheLogSpeaksOnce) {
  callout::plugins::FollowedFile file(Write("key.pem", "a key"));
  const auto has_changed = [&] {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (std::chrono::steady_clock::now() < end) {
      if (file.has_changed()) return true;
    }
    return false;
  };
  Write("key.pem", "no key");
  ASSERT_TRUE(has_changed());
  EXPECT_TRUE(file.retry());
  ASSERT_TRUE(has_changed()) << "it is tried again";
  EXPECT_FALSE(file.retry());
  Write("key.pem", "none either");
  ASSERT_TRUE(has_changed());
  EXPECT_TRUE(file.retry()) << "it is another one";
}

class JwtAuthEnvoyTest : public SampleEnvoy {};

TEST_F(JwtAuthEnvoyTest, RoutesByClaimsAndKeepsOthersOut) {
  const host::TempDir directory;
  const Signer signer;
  std::ofstream(directory.Path("key.pem")) << signer.Pem();
  const nlohmann::json by_claim = {
      {"match",
       {{"prefix", "/"},
        {"headers", {{{"name", "decoded-group"}, {"string_match", {{"exact", "beta"}}}}}}}},
      {"direct_response", {{"status", 299}}}};
  Start("jwt_auth", nlohmann::json::object(),
        R"({"deny_with": "immediate_response", "public_key_path": ")" + directory.Path("key.pem") +
            "\"}",
        nlohmann::json::array({by_claim}));
  const auto bearing = [&](const std::string& claims) {
    return ClientRequest{.headers = {{"authorization", "Bearer " + signer.Token(claims)},
                                     {"decoded-admin", "True"}}};
  };
  EXPECT_EQ(Send(bearing(R"({"sub": "ada", "group": "beta"})")).status, 299);
  EXPECT_EQ(Send(bearing(R"({"sub": "ada", "roles": ["a"]})")).status, 200);
  const HttpMessage received = Received();
  EXPECT_EQ(received.Header("decoded-sub"), "ada");
  EXPECT_EQ(received.Header("decoded-roles"), "['a']");
  EXPECT_EQ(received.Header("decoded-admin"), std::nullopt);
  const HttpMessage refused = Send({.headers = {{"authorization", "Bearer x"}}});
  EXPECT_EQ(refused.status, 401);
  EXPECT_EQ(refused.Header("www-authenticate"), "Bearer");
  EXPECT_EQ(refused.body, "Authorization token is invalid.");
  EXPECT_FALSE(BackendGotOne());
}

TEST_F(JwtAuthEnvoyTest, DenyCalloutIsA500ForTheClient) {
  const host::TempDir directory;
  std::ofstream(directory.Path("key.pem")) << Signer().Pem();
  Start("jwt_auth", nlohmann::json::object(),
        R"({"public_key_path": ")" + directory.Path("key.pem") + "\"}");
  EXPECT_EQ(Send({}).status, 500);
  EXPECT_FALSE(BackendGotOne());
}

}  // namespace
}  // namespace callout::tests
