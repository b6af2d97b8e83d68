// SPDX-License-Identifier: Apache-2.0

// ext_authz behind a real Envoy, row by row: what each action does to a header that is there and to
// one that is not, what a denial may say, what a plugin is shown; and each thing that Envoy 1.40
// passes on unchecked, or hangs on, said by a plugin that means harm. SECURITY.md names these
// tests.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "../integration/certificates.h"
#include "../integration/tls_probe.h"
#include "absl/strings/str_cat.h"
#include "check_fixture.h"

namespace callout::tests {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

using Fill = std::function<void(CheckResponse*)>;
constexpr char kEvil[] = "a\r\nset-cookie: evil=1";

// --- Rows ---------------------------------------------------------------------------

// Each combination of `append` (0: absent, 1: false, 2: true) and `append_action`.
struct HeaderRow {
  int append;
  int action;
  // Of a request's header, and of a response's, that has the value "old"; of one that is not there.
  const char *request_there, *request_absent, *response_there, *response_absent;
};
constexpr const char* kNone = nullptr;
constexpr HeaderRow kHeaderRows[] = {
    {0, 0, "new", "new", "old,new", "new"},  // neither is set: each list has a default of its own
    {0, 1, "old", "new", "old", "new"},         {0, 2, "new", "new", "new", "new"},
    {0, 3, "new", kNone, "new", kNone},         {1, 0, "new", "new", "new", "new"},
    {1, 1, "old", "new", "old", "new"},         {1, 2, "new", "new", "new", "new"},
    {1, 3, "new", kNone, "new", kNone},         {2, 0, "old,new", "new", "old,new", "new"},
    {2, 1, "old,new", "new", "old,new", "new"}, {2, 2, "old,new", "new", "old,new", "new"},
    {2, 3, "old,new", "new", "old,new", "new"},
};

template <class Options>
void AddRow(const HeaderRow& row, const std::string& name, Options* options) {
  auto* option = options->Add();
  option->mutable_header()->set_key(name);
  option->mutable_header()->set_value("new");
  if (row.append != 0) option->mutable_append()->set_value(row.append == 2);
  option->set_append_action(
      static_cast<envoy::config::core::v3::HeaderValueOption::HeaderAppendAction>(row.action));
}

TEST_F(EnvoyCheckTest, EachActionDoesToHeadersWhatItsNameSays) {
  CheckResponse response;
  auto* ok = response.mutable_ok_response();
  ClientRequest request;
  HttpFields upstream;
  for (const HeaderRow& row : kHeaderRows) {
    const std::string name = absl::StrCat("x-", row.append, "-", row.action);
    for (const char* suffix : {"-there", "-absent"}) {
      AddRow(row, name + suffix, ok->mutable_headers());
      AddRow(row, name + suffix, ok->mutable_response_headers_to_add());
    }
    request.headers.push_back({name + "-there", "old"});
    upstream.push_back({name + "-there", "old"});
  }
  backend_.Answer({.headers = upstream});
  const HttpMessage seen = Ask("closed", response, request);
  EXPECT_EQ(seen.status, 200);
  const auto received = backend_.TakeRequest("1");
  ASSERT_TRUE(received.has_value());
  const auto told = [](const char* text) {
    return text == kNone ? std::nullopt : std::optional<std::string>(text);
  };
  for (const HeaderRow& row : kHeaderRows) {
    const std::string name = absl::StrCat("x-", row.append, "-", row.action);
    EXPECT_EQ(received->Header(name + "-there"), told(row.request_there)) << name;
    EXPECT_EQ(received->Header(name + "-absent"), told(row.request_absent)) << name;
    EXPECT_EQ(seen.Header(name + "-there"), told(row.response_there)) << name;
    EXPECT_EQ(seen.Header(name + "-absent"), told(row.response_absent)) << name;
  }
}

TEST_F(EnvoyCheckTest, WhereARequestGoesMayBeSetAndNotRemoved) {
  CheckResponse response;
  auto* ok = response.mutable_ok_response();
  Add(ok->mutable_headers(), ":path", "/new?a=1");
  Add(ok->mutable_headers(), ":method", "POST");
  Add(ok->mutable_headers(), "Host", "other.example");
  Add(ok->mutable_headers(), "x-envoy-retry-on", "5xx");
  for (const char* name : {":path", ":method", ":authority", "host"}) {
    ok->add_headers_to_remove(name);
  }
  EXPECT_EQ(Ask("closed", response).status, 200);
  const auto received = backend_.TakeRequest("1");
  ASSERT_TRUE(received.has_value());
  EXPECT_EQ(received->method, "POST");
  EXPECT_EQ(received->target, "/new?a=1");
  EXPECT_EQ(received->Header("host"), "other.example");
}

// Without its length, and with a body: Envoy frames it anew.
TEST_F(EnvoyCheckTest, ABodySurvivesTheRemovalOfItsLength) {
  CheckResponse response;
  response.mutable_ok_response()->add_headers_to_remove("content-length");
  EXPECT_EQ(Ask("closed", response, {.method = "POST", .body = {.pieces = {"hello"}}}).status, 200);
  const auto received = backend_.TakeRequest("1");
  ASSERT_TRUE(received.has_value());
  EXPECT_EQ(received->body, "hello");
}

TEST_F(EnvoyCheckTest, ADenialSaysWhatItsHeadersMaySay) {
  CheckResponse response;
  auto* denied = response.mutable_denied_response();
  denied->set_body("{}");
  Add(denied->mutable_headers(), "content-type", "application/json");
  Add(denied->mutable_headers(), "server", "mine");
  Add(denied->mutable_headers(), "x-a", "1", kAppend);
  Add(denied->mutable_headers(), "x-a", "2", kAppend);
  response.mutable_status()->set_message(kEvil);
  const HttpMessage seen = Ask("closed", response);
  EXPECT_EQ(seen.status, 403);
  EXPECT_EQ(seen.body, "{}");
  EXPECT_EQ(seen.Header("content-type"), "application/json");
  EXPECT_EQ(seen.Header("server"), "envoy") << "Envoy writes its own";
  EXPECT_EQ(seen.Header("x-a"), "1,2");
  EXPECT_EQ(seen.Header("set-cookie"), std::nullopt) << "a status message goes nowhere";
}

TEST_F(EnvoyCheckTest, AGrpcClientGetsADenialAsAStatus) {
  CheckResponse response;
  auto* denied = response.mutable_denied_response();
  denied->mutable_status()->set_code(envoy::type::v3::Unauthorized);
  denied->set_body(kEvil);
  const HttpMessage seen =
      Ask("closed", response, {.headers = {{"content-type", "application/grpc"}}});
  EXPECT_EQ(seen.status, 200);
  EXPECT_EQ(seen.Header("grpc-status"), "16");
  EXPECT_EQ(seen.Header("grpc-message"), "a%0D%0Aset-cookie: evil=1");
  EXPECT_EQ(seen.Header("set-cookie"), std::nullopt);
  EXPECT_FALSE(Reached());
}

TEST_F(EnvoyCheckTest, AnyCodeThatIsNoOkRefuses) {
  for (const int code : {1, 7, 8, 16, -1}) {
    CheckResponse response;
    response.mutable_status()->set_code(code);
    EXPECT_EQ(Ask("open", response).status, 403) << code;
    response.mutable_ok_response();
    EXPECT_EQ(Ask("open", response).status, 500) << "an OK that says it is none: " << code;
    EXPECT_FALSE(Reached()) << code;
  }
}

TEST_F(EnvoyCheckTest, MetadataOfPermissionAndDenialArrives) {
  CheckResponse response;
  (*response.mutable_dynamic_metadata()->mutable_fields())["user"].set_string_value("ada");
  response.mutable_ok_response();
  EXPECT_EQ(Ask("closed", response).Header("x-metadata"), "ada");
  EXPECT_TRUE(Reached());
  response.mutable_denied_response();
  const HttpMessage seen = Ask("closed", response);
  EXPECT_EQ(seen.status, 403);
  EXPECT_EQ(seen.Header("x-metadata"), "ada");
}

TEST_F(EnvoyCheckTest, APluginIsShownWhatEnvoySends) {
  const auto shown = [&](const std::string& listener, const std::string& body) {
    ClientRequest request = {.method = body.empty() ? "GET" : "POST", .target = "/p?q=1"};
    request.headers = {{"x-two", "a"}, {"x-two", "b"}};
    if (!body.empty()) request.body.pieces = {body};
    return Ask(listener, "show", request).body;
  };
  for (const char* listener : {"closed", "raw"}) {
    EXPECT_THAT(shown(listener, ""),
                AllOf(HasSubstr("method=GET\npath=/p?q=1\nauthority=client.example\nscheme=http\n"
                                "protocol=HTTP/1.1\nbody=\nsource=127.0.0.1\nprincipal=\n"
                                "certificate=\nsni=\n"
                                "route=private\n"),
                      HasSubstr(":path=/p?q=1\n"), Not(HasSubstr("partial-body"))));
  }
  EXPECT_THAT(shown("closed", ""), HasSubstr("x-two=a,b\n"));
  EXPECT_THAT(shown("raw", ""), HasSubstr("x-two=a\nx-two=b\n"));
  EXPECT_THAT(shown("closed", "hello"), HasSubstr("body=\n")) << "Envoy is not told to send it";
  for (const char* listener : {"body", "bytes"}) {
    EXPECT_THAT(shown(listener, "hello"),
                AllOf(HasSubstr("body=hello\n"), HasSubstr("x-envoy-auth-partial-body=false\n")));
    EXPECT_THAT(shown(listener, "hello, world"),
                AllOf(HasSubstr("body=hello, w"), HasSubstr("x-envoy-auth-partial-body=true\n")));
  }
  EXPECT_FALSE(Reached());
}

// A listener with TLS that asks for a certificate, and a filter that is told to send it.
class EnvoyCheckTlsTest : public EnvoyServiceTest {
 protected:
  void SetUp() override {
    EnvoyFixture::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    const PemPair server = ca_.Issue("envoy.example");
    const auto text = [](const std::string& pem) { return nlohmann::json{{"inline_string", pem}}; };
    EnvoyConfig config;
    config.backend_port = backend_.port();
    AddHost("host", {"--plugin=" + BuiltFile("tests/envoy/plugins/checking.so")}, &config);
    const nlohmann::json certificates = nlohmann::json::array(
        {{{"certificate_chain", text(server.cert_pem)}, {"private_key", text(server.key_pem)}}});
    const nlohmann::json tls = {{"common_tls_context",
                                 {{"tls_certificates", certificates},
                                  {"validation_context", {{"trusted_ca", text(ca_.pem())}}}}}};
    config.listeners.push_back(
        {.name = "told",
         .filters = {ExtAuthz({{"include_peer_certificate", true}, {"include_tls_session", true}})},
         .tls = tls});
    config.listeners.push_back(
        {.name = "silent", .filters = {ExtAuthz(nlohmann::json::object())}, .tls = tls});
    envoy_.emplace(MakeBootstrap(config));
  }
  // The response to a client with this certificate.
  std::string Ask(const std::string& listener, const PemPair& client) {
    return ProbeTls(absl::StrCat("127.0.0.1:", envoy_->port(listener)),
                    {.alpn = "http/1.1",
                     .server_name = "asked.example",
                     .cert_pem = client.cert_pem,
                     .key_pem = client.key_pem,
                     .request = "GET /p HTTP/1.1\r\nhost: a.example\r\nx-check: show\r\n"
                                "connection: close\r\n\r\n"})
        .answer;
  }

  const TestCa ca_{"test"};
};

TEST_F(EnvoyCheckTlsTest, APluginIsShownWhoTheClientIs) {
  const auto client = [this](const std::string& alt_names) {
    return ca_.Issue(host::CertificateSpec{.name = "subject", .alt_names = alt_names});
  };
  const PemPair by_uri = client("DNS:client.example,URI:spiffe://a.example/client");
  EXPECT_THAT(Ask("told", by_uri), AllOf(HasSubstr("principal=spiffe://a.example/client\n"),
                                         HasSubstr("certificate=-----BEGIN%20CERTIFICATE-----%0A"),
                                         HasSubstr("sni=asked.example\n")));
  EXPECT_THAT(Ask("silent", by_uri), HasSubstr("principal=spiffe://a.example/client\n"
                                               "certificate=\nsni=\n"));
  EXPECT_THAT(Ask("told", client("DNS:client.example")), HasSubstr("principal=client.example\n"));
  EXPECT_THAT(Ask("told", client("")), HasSubstr("principal=CN=subject\n"));
  EXPECT_THAT(Ask("told", {}), HasSubstr("principal=\ncertificate=\nsni=asked.example\n"));
}

// --- What a plugin that means harm cannot do ------------------------------------------

template <class Response>
auto* AddOk(Response* response) {
  return response->mutable_ok_response()->mutable_headers();
}

TEST_F(EnvoyCheckTest, NoTextOfAPluginBecomesAHeader) {
  const std::string nul("a\0b", 3);
  const auto metadata = [](CheckResponse* r, const std::string& text) {
    (*r->mutable_dynamic_metadata()->mutable_fields())["user"].set_string_value(text);
  };
  const std::vector<std::pair<std::string, Fill>> cases = {
      {"header name of the request", [](CheckResponse* r) { Add(AddOk(r), "x: a\r\ny", "1"); }},
      {"NUL in a header of the request", [&](CheckResponse* r) { Add(AddOk(r), "x", nul); }},
      {"LF in a header of the request", [](CheckResponse* r) { Add(AddOk(r), "x", "a\nb: c"); }},
      {"appended to a header", [](CheckResponse* r) { Add(AddOk(r), "x-list", kEvil, kAppend); }},
      {"name of a removed header",
       [](CheckResponse* r) {
         r->mutable_ok_response()->add_headers_to_remove("x\r\nset-cookie");
       }},
      {"header name of a denial",
       [](CheckResponse* r) {
         Add(r->mutable_denied_response()->mutable_headers(), "x: a\r\nset-cookie", "evil=1");
       }},
      {"NUL in a header of a denial",
       [&](CheckResponse* r) { Add(r->mutable_denied_response()->mutable_headers(), "x", nul); }},
      {"header of an error",
       [](CheckResponse* r) { Add(r->mutable_error_response()->mutable_headers(), "x", kEvil); }},
      {"name of a header of the response",
       [](CheckResponse* r) {
         Add(r->mutable_ok_response()->mutable_response_headers_to_add(), "x: a\r\nset-cookie",
             "evil=1");
       }},
      {"status of a response as a header",
       [](CheckResponse* r) {
         Add(r->mutable_ok_response()->mutable_response_headers_to_add(), ":status", "302");
       }},
      {"metadata of a permission",
       [&](CheckResponse* r) {
         r->mutable_ok_response();
         metadata(r, kEvil);
       }},
      {"metadata within a permission",
       [&](CheckResponse* r) {
         (*r->mutable_ok_response()->mutable_dynamic_metadata()->mutable_fields())["user"]
             .set_string_value(kEvil);
       }},
      {"metadata of a denial",
       [&](CheckResponse* r) {
         r->mutable_denied_response();
         metadata(r, kEvil);
       }},
      {"NUL in metadata of a denial",
       [&](CheckResponse* r) {
         r->mutable_denied_response();
         metadata(r, nul);
       }},
  };
  for (const auto& [name, fill] : cases) {
    for (const char* listener : {"closed", "open"}) {
      CheckResponse response;
      fill(&response);
      const HttpMessage seen = Ask(listener, response);
      EXPECT_EQ(seen.status, 500) << name << " on " << listener;
      EXPECT_EQ(seen.Header("set-cookie"), std::nullopt) << name;
      EXPECT_EQ(seen.Header("x-metadata"), std::nullopt) << name;
      EXPECT_FALSE(Reached()) << name << " on " << listener;
    }
  }
  // A query is the one place where such bytes are encoded.
  CheckResponse response;
  auto* parameter = response.mutable_ok_response()->add_query_parameters_to_set();
  parameter->set_key("a\r\nx: y");
  parameter->set_value(" HTTP/1.1\r\n\r\n");
  EXPECT_EQ(Ask("closed", response).status, 200);
  EXPECT_EQ(backend_.TakeRequest("1")->target, "/?a%0D%0Ax%3A%20y=%20HTTP%2F1.1%0D%0A%0D%0A");
}

TEST_F(EnvoyCheckTest, NoAnswerOfAPluginHangsAClient) {
  const auto status = [](int code) -> Fill {
    return [code](CheckResponse* r) {
      r->mutable_denied_response()->mutable_status()->set_code(
          static_cast<envoy::type::v3::StatusCode>(code));
    };
  };
  const std::vector<std::pair<std::string, Fill>> cases = {
      {"status 99", status(99)},
      {"status 100", status(100)},
      {"status 103", status(103)},
      {"status 199", status(199)},
      {"status 600", status(600)},
      {"status -1", status(-1)},
      {"length of a request", [](CheckResponse* r) { Add(AddOk(r), "Content-Length", "5"); }},
      {"length of a response",
       [](CheckResponse* r) {
         Add(r->mutable_ok_response()->mutable_response_headers_to_add(), "content-length", "500");
       }},
      {"length of a denial",
       [](CheckResponse* r) {
         Add(r->mutable_denied_response()->mutable_headers(), "content-length", "500");
       }},
      {"pieces of a request",
       [](CheckResponse* r) { Add(AddOk(r), "transfer-encoding", "chunked"); }},
      {"pieces of a denial",
       [](CheckResponse* r) {
         Add(r->mutable_denied_response()->mutable_headers(), "transfer-encoding", "chunked");
       }},
      // The backend's answer to HEAD has a length and no body, for which the client waits.
      {"method HEAD", [](CheckResponse* r) { Add(AddOk(r), ":method", "HEAD"); }},
      {"method CONNECT", [](CheckResponse* r) { Add(AddOk(r), ":method", "CONNECT"); }},
      {"another protocol",
       [](CheckResponse* r) {
         Add(AddOk(r), "connection", "Upgrade");
         Add(AddOk(r), "upgrade", "websocket");
       }},
  };
  for (const auto& [name, fill] : cases) {
    for (const char* listener : {"closed", "open"}) {
      CheckResponse response;
      fill(&response);
      const HttpMessage seen = Ask(listener, response);
      EXPECT_EQ(seen.status, 500) << name << " on " << listener;
      EXPECT_TRUE(seen.complete) << name << " on " << listener;
      EXPECT_FALSE(Reached()) << name << " on " << listener;
    }
  }
}

// Deferred and never answered, early and late, after a permission, malformed, too large.
TEST_F(EnvoyCheckTest, NothingButAPermissionLetsARequestPass) {
  CheckResponse body;
  body.mutable_denied_response()->set_body("x");
  std::string not_utf8 = body.SerializeAsString();
  not_utf8.back() = '\xff';
  CheckResponse metadata;
  metadata.mutable_ok_response();
  (*metadata.mutable_dynamic_metadata()->mutable_fields())["k"].set_string_value("x");
  std::string metadata_not_utf8 = metadata.SerializeAsString();
  metadata_not_utf8.back() = '\xff';
  const std::vector<std::pair<std::string, int>> cases = {
      {"never", 500},
      {"late", 500},
      {"thrown", 500},
      {"allowed_then_failed", 500},
      {"denied_then_failed", 500},
      {"nothing", 403},
      {"large 5000000", 500},
      {absl::BytesToHexString(not_utf8), 500},
      {absl::BytesToHexString(metadata_not_utf8), 500},
      {"0a", 500},      // cut off within a field
      {"1a0012", 500},  // an OK, and then damage
  };
  for (const auto& [deed, status] : cases) {
    for (const char* listener : {"closed", "open"}) {
      EXPECT_EQ(Ask(listener, deed).status, status) << deed << " on " << listener;
      EXPECT_FALSE(Reached()) << deed << " on " << listener;
    }
  }
  EXPECT_EQ(Ask("closed", "early").status, 200);
  EXPECT_EQ(backend_.TakeRequest("1")->Header("x-early"), "1");
  const HttpMessage large = Ask("closed", "large 3000000");
  EXPECT_EQ(large.status, 403);
  EXPECT_EQ(large.body.size(), 3000000u);
}

}  // namespace
}  // namespace callout::tests
