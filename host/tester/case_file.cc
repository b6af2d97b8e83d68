// SPDX-License-Identifier: Apache-2.0

#include "host/tester/case_file.h"

#include <fmt/format.h>
#include <yaml-cpp/depthguard.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "host/base/log.h"
#include "host/base/nearest_name.h"
#include "host/base/utf8.h"
#include "host/base/yaml_size.h"

namespace callout::host {
namespace {

using google::protobuf::Struct;
using ProcessingMode = envoy::extensions::filters::http::ext_proc::v3::ProcessingMode;

constexpr int kDepthMax = 50;  // of values within values
constexpr YamlLimits kLimits = {.values_max = 1'000'000, .bytes_max = size_t{64} << 20};

// yaml-cpp reports by exceptions, and so does this file within itself; ReadCaseFile catches them.
[[noreturn]] void Refuse(int line, const std::string& what) {
  throw std::invalid_argument(fmt::format("{}: {}", line, EscapeControls(what)));
}

// A node that is not in the file has no line: then the first.
int LineOf(const YAML::Mark& mark) { return std::max(mark.line, 0) + 1; }
int LineOf(const YAML::Node& node) { return LineOf(node.Mark()); }

std::string Text(const YAML::Node& node, std::string_view what) {
  if (!node.IsScalar()) Refuse(LineOf(node), fmt::format("{} is to be a text", what));
  return node.as<std::string>();
}

std::string KeyOf(const YAML::Node& node) { return Text(node, "a key"); }

// The text of a key that is not in `seen` yet; refuses one that is.
std::string NewKeyOf(const YAML::Node& key, std::set<std::string>* seen) {
  std::string text = KeyOf(key);
  if (!seen->insert(text).second) {
    Refuse(LineOf(key), fmt::format("the key {} is there twice", text));
  }
  return text;
}

// A map whose keys all have to be known.
class Map {
 public:
  Map(const YAML::Node& node, std::string_view what, std::initializer_list<std::string_view> keys)
      : node_(node) {
    if (!node.IsMap()) Refuse(LineOf(node), fmt::format("{} is to be a map", what));
    std::set<std::string> seen;
    for (const auto& entry : node) {
      const std::string key = NewKeyOf(entry.first, &seen);
      if (std::find(keys.begin(), keys.end(), key) != keys.end()) continue;
      const std::string_view nearest = NearestName(key, {keys.begin(), keys.end()}, 3);
      Refuse(LineOf(entry.first),
             fmt::format("{} has no key {}; {}", what, key,
                         nearest.empty() ? fmt::format("there is: {}", fmt::join(keys, ", "))
                                         : fmt::format("did you mean {}?", nearest)));
    }
  }
  // Undefined if it is not there.
  YAML::Node operator[](const std::string& key) const { return node_[key]; }
  int line() const { return LineOf(node_); }

 private:
  const YAML::Node node_;
};

std::string TextOr(const YAML::Node& node, std::string_view what, std::string fallback) {
  return node.IsDefined() ? Text(node, what) : std::move(fallback);
}

bool Boolean(const YAML::Node& node, std::string_view what) {
  const std::string text = Text(node, what);
  if (text != "true" && text != "false") {
    Refuse(LineOf(node), fmt::format("{} is to be true or false", what));
  }
  return text == "true";
}

// A value as JSON. Quoted text stays text; plain scalars are what JSON takes them for.
nlohmann::json ToJson(const YAML::Node& node, int depth = 0) {
  if (depth > kDepthMax) Refuse(LineOf(node), "values are nested too deep");
  if (node.IsMap()) {
    nlohmann::json object = nlohmann::json::object();
    std::set<std::string> seen;
    for (const auto& entry : node) {
      object[NewKeyOf(entry.first, &seen)] = ToJson(entry.second, depth + 1);
    }
    return object;
  }
  if (node.IsSequence()) {
    nlohmann::json list = nlohmann::json::array();
    for (const YAML::Node& item : node) list.push_back(ToJson(item, depth + 1));
    return list;
  }
  if (node.IsNull()) return nullptr;
  const std::string text = node.as<std::string>();
  if (node.Tag() == "!") return text;  // quoted
  const auto value = nlohmann::json::parse(text, nullptr, false);
  return value.is_number() || value.is_boolean() ? value : nlohmann::json(text);
}

// Text as it is; anything else as JSON.
std::string TextOrJson(const YAML::Node& node) {
  if (!node.IsDefined() || node.IsNull()) return "";
  return node.IsScalar() ? node.as<std::string>() : ToJson(node).dump();
}

void FillValue(const nlohmann::json& json, google::protobuf::Value* value);

void FillStruct(const nlohmann::json& json, Struct* to) {
  for (const auto& [key, item] : json.items()) FillValue(item, &(*to->mutable_fields())[key]);
}

void FillValue(const nlohmann::json& json, google::protobuf::Value* value) {
  if (json.is_object()) return FillStruct(json, value->mutable_struct_value());
  if (json.is_array()) {
    value->mutable_list_value();
    for (const auto& item : json) FillValue(item, value->mutable_list_value()->add_values());
  } else if (json.is_string()) {
    value->set_string_value(json.get<std::string>());
  } else if (json.is_boolean()) {
    value->set_bool_value(json.get<bool>());
  } else if (json.is_number()) {
    value->set_number_value(json.get<double>());
  } else {
    value->set_null_value(google::protobuf::NULL_VALUE);
  }
}

// A map of names, each with a value or a list of values.
void ReadHeaders(const YAML::Node& node, std::string_view what, HeaderList* headers) {
  if (!node.IsDefined() || node.IsNull()) return;
  if (!node.IsMap()) Refuse(LineOf(node), fmt::format("{} is to be a map of names", what));
  for (const auto& entry : node) {
    const std::string name = absl::AsciiStrToLower(KeyOf(entry.first));
    if (!entry.second.IsSequence()) {
      headers->emplace_back(name, Text(entry.second, "the value of " + name));
      continue;
    }
    for (const YAML::Node& value : entry.second) {
      headers->emplace_back(name, Text(value, "a value of " + name));
    }
  }
}

void AddHeaders(const HeaderList& list, envoy::config::core::v3::HeaderMap* headers) {
  for (const auto& [name, value] : list) {
    auto* header = headers->add_headers();
    header->set_key(name);
    header->set_raw_value(value);
  }
}

void AddHeaders(const YAML::Node& node, std::string_view what,
                envoy::config::core::v3::HeaderMap* headers) {
  HeaderList list;
  ReadHeaders(node, what, &list);
  AddHeaders(list, headers);
}

// --- HTTP ---

// Body, trailers, and the header that frames them.
void ReadRest(const Map& map, HttpMessage* message) {
  ReadHeaders(map["trailers"], "trailers", &message->trailers);
  if (map["body"].IsDefined()) message->body = Text(map["body"], "body");
  if (!message->trailers.empty()) {
    if (!message->body.has_value()) message->body = "";
    message->headers.emplace_back("transfer-encoding", "chunked");
  } else if (message->body.has_value() && ValuesOf(message->headers, "content-length").empty()) {
    message->headers.emplace_back("content-length", std::to_string(message->body->size()));
  }
}

HttpMessage ReadRequest(const YAML::Node& node) {
  HttpMessage message;
  if (!node.IsDefined()) {
    message.headers = {{":method", "GET"}, {":authority", "callout.example"}, {":path", "/"}};
  } else {
    const Map request(node, "request", {"method", "path", "host", "headers", "body", "trailers"});
    const bool has_more = request["body"].IsDefined() || request["trailers"].IsDefined();
    message.headers = {
        {":method", TextOr(request["method"], "method", has_more ? "POST" : "GET")},
        {":authority", TextOr(request["host"], "host", "callout.example")},
        {":path", TextOr(request["path"], "path", "/")},
    };
    ReadHeaders(request["headers"], "headers", &message.headers);
    ReadRest(request, &message);
  }
  return message;
}

std::string ReadStatus(const YAML::Node& node) {
  std::string text = TextOr(node, "status", "200");
  int status = 0;
  if (text.size() != 3 || !absl::SimpleAtoi(text, &status) || status < 200 || status > 599) {
    Refuse(LineOf(node), "status is to be a number from 200 to 599");
  }
  return text;
}

HttpMessage ReadResponse(const YAML::Node& node) {
  HttpMessage message;
  if (!node.IsDefined()) {
    message.headers = {{":status", "200"}, {"content-length", "0"}};
    message.body = "";
    return message;
  }
  const Map response(node, "response", {"status", "headers", "body", "trailers"});
  message.headers = {{":status", ReadStatus(response["status"])}};
  ReadHeaders(response["headers"], "headers", &message.headers);
  ReadRest(response, &message);
  if (message.body.has_value()) return message;
  message.body = "";
  if (ValuesOf(message.headers, "content-length").empty()) {
    message.headers.emplace_back("content-length", "0");
  }
  return message;
}

// --- Messages ---

class MessageList {
 public:
  explicit MessageList(std::vector<ProcessingRequest>* to) : to_(to) {}

  // As Envoy sends an HTTP message that it got by HTTP/1.1: while it waits for the response to the
  // headers, the whole body comes, so it is one chunk in every mode.
  void AddHttp(const HttpMessage& message, bool is_request) {
    const std::string body = message.body.value_or("");
    const bool has_more = !body.empty() || !message.trailers.empty();
    ProcessingRequest* first = &to_->emplace_back();
    auto* headers =
        is_request ? first->mutable_request_headers() : first->mutable_response_headers();
    AddHeaders(message.headers, headers->mutable_headers());
    if (is_request)
      AddHeaders({{":scheme", "http"}, {"x-forwarded-proto", "http"}}, headers->mutable_headers());
    headers->set_end_of_stream(!has_more);
    if (!has_more) return;
    const bool has_end = message.trailers.empty();
    if (!body.empty()) AddBody(is_request, body, has_end);
    if (has_end) return;
    ProcessingRequest* added = &to_->emplace_back();
    auto* trailers =
        is_request ? added->mutable_request_trailers() : added->mutable_response_trailers();
    AddHeaders(message.trailers, trailers->mutable_trailers());
  }

  // One message of a list of phases: {request_headers: {headers: {…}, end_of_stream: true}}.
  void AddPhase(const YAML::Node& node) {
    const Map phase(node, "a phase",
                    {"request_headers", "request_body", "request_trailers", "response_headers",
                     "response_body", "response_trailers"});
    if (node.size() != 1) Refuse(phase.line(), "a phase is a map with one key");
    const std::string name = KeyOf(node.begin()->first);
    const YAML::Node message = node.begin()->second;
    const bool is_request = name.starts_with("request");
    if (name.ends_with("_body")) {
      const Map fields(message, name, {"body", "end_of_stream"});
      return AddBody(is_request, TextOr(fields["body"], "body", ""), IsEnd(fields));
    }
    ProcessingRequest* added = &to_->emplace_back();
    if (name.ends_with("_headers")) {
      const Map fields(message, name, {"headers", "end_of_stream"});
      auto* headers =
          is_request ? added->mutable_request_headers() : added->mutable_response_headers();
      AddHeaders(fields["headers"], "headers", headers->mutable_headers());
      headers->set_end_of_stream(IsEnd(fields));
    } else {
      const Map fields(message, name, {"trailers"});
      auto* trailers =
          is_request ? added->mutable_request_trailers() : added->mutable_response_trailers();
      AddHeaders(fields["trailers"], "trailers", trailers->mutable_trailers());
    }
  }

 private:
  static bool IsEnd(const Map& fields) {
    return fields["end_of_stream"].IsDefined() && Boolean(fields["end_of_stream"], "end_of_stream");
  }

  void AddBody(bool is_request, const std::string& bytes, bool is_end) {
    ProcessingRequest* added = &to_->emplace_back();
    auto* body = is_request ? added->mutable_request_body() : added->mutable_response_body();
    body->set_body(bytes);
    body->set_end_of_stream(is_end);
  }

  std::vector<ProcessingRequest>* const to_;
};

BodyMode ReadBodyMode(const YAML::Node& node, std::string_view what) {
  if (!node.IsDefined()) return ProcessingMode::BUFFERED;
  BodyMode mode;
  if (!ProcessingMode::BodySendMode_Parse(Text(node, what), &mode) ||
      mode == ProcessingMode::GRPC) {
    Refuse(LineOf(node), fmt::format("{} is to be NONE, STREAMED, BUFFERED, BUFFERED_PARTIAL or "
                                     "FULL_DUPLEX_STREAMED",
                                     what));
  }
  return mode;
}

// Envoy sends modes and attributes with the first message.
void FillFirstMessage(const Map& map, Case* read) {
  ProcessingRequest* const first = &read->messages.front();
  auto* config = first->mutable_protocol_config();
  config->set_request_body_mode(read->request_body_mode);
  config->set_response_body_mode(read->response_body_mode);
  if (const YAML::Node node = map["attributes"]; node.IsDefined()) {
    if (!node.IsMap()) Refuse(LineOf(node), "attributes is to be a map");
    FillStruct(ToJson(node), &(*first->mutable_attributes())["envoy.filters.http.ext_proc"]);
    read->only_in_process = "attributes";
  }
  if (const YAML::Node node = map["metadata"]; node.IsDefined()) {
    if (!node.IsMap()) Refuse(LineOf(node), "metadata is to be a map of namespaces");
    std::set<std::string> seen;
    for (const auto& entry : node) {
      if (!entry.second.IsMap()) Refuse(LineOf(entry.second), "a namespace is to be a map");
      auto& namespaces = *first->mutable_metadata_context()->mutable_filter_metadata();
      FillStruct(ToJson(entry.second), &namespaces[NewKeyOf(entry.first, &seen)]);
    }
    read->only_in_process = "metadata";
  }
}

// --- Expectations ---

Matcher ReadMatcher(const YAML::Node& node, std::string_view what) {
  Matcher matcher;
  matcher.line = LineOf(node);
  if (node.IsNull()) {
    matcher.kind = Matcher::Kind::kAbsent;
  } else if (node.IsMap()) {
    const Map map(node, what, {"regex"});
    matcher.kind = Matcher::Kind::kRegex;
    matcher.pattern = Text(map["regex"], "regex");
    try {
      matcher.regex = std::regex(matcher.pattern);
    } catch (const std::regex_error& error) {
      Refuse(matcher.line, "the regex is invalid: " + std::string(error.what()));
    }
  } else if (node.IsSequence()) {
    for (const YAML::Node& item : node) matcher.values.push_back(Text(item, what));
  } else {
    matcher.values.push_back(Text(node, what));
  }
  return matcher;
}

NamedMatchers ReadMatchers(const YAML::Node& node, std::string_view what) {
  NamedMatchers matchers;
  if (!node.IsDefined()) return matchers;
  if (!node.IsMap()) Refuse(LineOf(node), fmt::format("{} is to be a map of names", what));
  for (const auto& entry : node) {
    const std::string name = KeyOf(entry.first);
    Matcher matcher = ReadMatcher(entry.second, name);
    matcher.line = LineOf(entry.first);
    matchers.emplace_back(absl::AsciiStrToLower(name), std::move(matcher));
  }
  return matchers;
}

std::optional<Matcher> ReadOptional(const YAML::Node& node, std::string_view what) {
  if (!node.IsDefined()) return std::nullopt;
  return ReadMatcher(node, what);
}

ExpectedMessage ReadExpectedMessage(const YAML::Node& node, std::string_view what,
                                    bool is_response) {
  ExpectedMessage expected;
  if (!node.IsDefined()) return expected;
  const Map map = is_response ? Map(node, what, {"status", "headers", "body", "trailers"})
                              : Map(node, what, {"headers", "body", "trailers"});
  expected.headers = ReadMatchers(map["headers"], "headers");
  expected.trailers = ReadMatchers(map["trailers"], "trailers");
  expected.body = ReadOptional(map["body"], "body");
  if (is_response) expected.status = ReadOptional(map["status"], "status");
  return expected;
}

Expectation ReadExpected(const YAML::Node& node) {
  const Map map(node, "expect", {"request", "response", "metadata", "error", "forwarded"});
  Expectation expected;
  expected.line = map.line();
  expected.request = ReadExpectedMessage(map["request"], "the expected request", false);
  expected.response = ReadExpectedMessage(map["response"], "the expected response", true);
  expected.error = ReadOptional(map["error"], "error");
  if (map["forwarded"].IsDefined()) expected.forwarded = Boolean(map["forwarded"], "forwarded");
  if (const YAML::Node metadata = map["metadata"]; metadata.IsDefined()) {
    if (!metadata.IsMap()) Refuse(LineOf(metadata), "metadata is to be a map of namespaces");
    for (const auto& space : metadata) {
      if (!space.second.IsMap()) Refuse(LineOf(space.second), "a namespace is to be a map of keys");
      for (const auto& entry : space.second) {
        Matcher matcher = ReadMatcher(entry.second, "metadata");
        matcher.line = LineOf(entry.first);
        expected.metadata.emplace_back(KeyOf(space.first) + "/" + KeyOf(entry.first),
                                       std::move(matcher));
      }
    }
  }
  return expected;
}

// --- The file ---

void ReadMessages(const Map& map, Case* read) {
  MessageList messages(&read->messages);
  read->request_body_mode = ReadBodyMode(map["request_body_mode"], "request_body_mode");
  read->response_body_mode = ReadBodyMode(map["response_body_mode"], "response_body_mode");
  const bool is_http = map["request"].IsDefined() || map["response"].IsDefined();
  if (const YAML::Node phases = map["phases"]; phases.IsDefined()) {
    if (is_http) Refuse(LineOf(phases), "a case has phases, or request and response");
    if (!phases.IsSequence()) Refuse(LineOf(phases), "phases is to be a list");
    for (const YAML::Node& phase : phases) messages.AddPhase(phase);
    read->only_in_process = "phases";
  } else if (is_http) {
    read->http = HttpExchange{ReadRequest(map["request"]), ReadResponse(map["response"])};
    messages.AddHttp(read->http->request, true);
    messages.AddHttp(read->http->response, false);
  }
  if (read->messages.empty()) Refuse(map.line(), "the case has no request, response or phases");
}

Case ReadCase(const YAML::Node& node) {
  const Map map(node, "a case",
                {"name", "tags", "request", "response", "phases", "request_body_mode",
                 "response_body_mode", "attributes", "metadata", "expect", "golden"});
  Case read;
  read.line = map.line();
  if (!map["name"].IsDefined()) Refuse(map.line(), "the case has no name");
  read.name = Text(map["name"], "name");
  if (const YAML::Node tags = map["tags"]; tags.IsDefined()) {
    if (!tags.IsSequence()) Refuse(LineOf(tags), "tags is to be a list");
    for (const YAML::Node& tag : tags) read.tags.push_back(Text(tag, "a tag"));
  }
  ReadMessages(map, &read);
  FillFirstMessage(map, &read);
  if (map["expect"].IsDefined()) read.expected = ReadExpected(map["expect"]);
  if (map["golden"].IsDefined()) read.golden = Boolean(map["golden"], "golden");
  if (!map["expect"].IsDefined() && !read.golden) {
    Refuse(map.line(), "the case expects nothing; add expect, or golden: true");
  }
  return read;
}

ChainPlugin ReadPlugin(const YAML::Node& node, const std::filesystem::path& folder,
                       const std::string& plugins_dir) {
  const Map map(node, "a plugin of the chain", {"plugin", "name", "config", "settings"});
  if (!map["plugin"].IsDefined()) Refuse(map.line(), "the plugin has no path: add plugin: FILE.so");
  const std::filesystem::path given = Text(map["plugin"], "plugin");
  const bool by_name = !given.has_parent_path() && !plugins_dir.empty();
  ChainPlugin plugin;
  plugin.line = map.line();
  plugin.path = ((by_name ? std::filesystem::path(plugins_dir) : folder) / given).string();
  plugin.name = TextOr(map["name"], "name", given.stem().string());
  plugin.config = TextOrJson(map["config"]);
  plugin.settings = TextOrJson(map["settings"]);
  return plugin;
}

// A map of paths, each with a response; or "down".
CaseUpstream ReadUpstream(const std::string& name, const YAML::Node& node) {
  CaseUpstream upstream;
  upstream.name = name;
  if (node.IsScalar() && node.as<std::string>() == "down") {
    upstream.is_down = true;
    return upstream;
  }
  if (!node.IsMap()) {
    Refuse(LineOf(node), fmt::format("upstream {} is to be a map of paths, or down", name));
  }
  std::set<std::string> seen;
  for (const auto& entry : node) {
    const std::string path = NewKeyOf(entry.first, &seen);
    if (!path.starts_with('/')) {
      Refuse(LineOf(entry.first),
             fmt::format("{} of upstream {} is no path: it is to begin with /", path, name));
    }
    upstream.responses.emplace_back(path, ReadResponse(entry.second));
  }
  return upstream;
}

std::vector<CaseUpstream> ReadCaseUpstreams(const YAML::Node& node) {
  std::vector<CaseUpstream> upstreams;
  if (!node.IsDefined()) return upstreams;
  if (!node.IsMap()) Refuse(LineOf(node), "upstreams is to be a map of names");
  std::set<std::string> seen;
  for (const auto& entry : node) {
    upstreams.push_back(ReadUpstream(NewKeyOf(entry.first, &seen), entry.second));
  }
  return upstreams;
}

std::string ReadText(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw YAML::BadFile(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// yaml-cpp would pass other bytes on.
void CheckUtf8(const std::string& text) {
  int line = 0;
  for (const absl::string_view bytes : absl::StrSplit(text, '\n')) {
    ++line;
    if (!IsUtf8({bytes.data(), bytes.size()})) Refuse(line, "the text is not UTF-8");
  }
}

YAML::Node ReadDocument(const std::string& path) {
  const std::string text = ReadText(path);
  CheckUtf8(text);
  if (const auto finding = FindYamlOverLimit(text, kLimits); finding.has_value()) {
    Refuse(finding->line, finding->what);
  }
  const std::vector<YAML::Node> documents = YAML::LoadAll(text);
  if (documents.size() > 1) {
    Refuse(LineOf(documents[1]), "the file has a second document; put it into a file of its own");
  }
  return documents.empty() ? YAML::Node() : documents[0];
}

CaseFile ReadFile(const std::string& path, const std::string& plugins_dir) {
  const YAML::Node root = ReadDocument(path);
  const Map map(root, "the file", {"chain", "upstreams", "cases"});
  CaseFile file;
  file.path = path;
  for (const char* key : {"chain", "cases"}) {
    if (!map[key].IsDefined() || !map[key].IsSequence() || map[key].size() == 0) {
      Refuse(map.line(), fmt::format("the file has no list {}", key));
    }
  }
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  for (const YAML::Node& node : map["chain"]) {
    file.chain.push_back(ReadPlugin(node, folder, plugins_dir));
  }
  file.upstreams = ReadCaseUpstreams(map["upstreams"]);
  std::map<std::string, int> lines;
  for (const YAML::Node& node : map["cases"]) {
    file.cases.push_back(ReadCase(node));
    const Case& added = file.cases.back();
    if (const auto [known, is_new] = lines.emplace(added.name, added.line); !is_new) {
      Refuse(added.line, fmt::format("the name '{}' is that of the case in line {}", added.name,
                                     known->second));
    }
  }
  return file;
}

}  // namespace

absl::StatusOr<CaseFile> ReadCaseFile(const std::string& path, const std::string& plugins_dir) {
  try {
    return ReadFile(path, plugins_dir);
  } catch (const YAML::BadFile&) {
    return absl::NotFoundError(fmt::format("{}: the file cannot be read", path));
  } catch (const YAML::DeepRecursion& error) {
    return absl::InvalidArgumentError(
        fmt::format("{}:{}: values are nested too deep", path, LineOf(error.mark)));
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(
        fmt::format("{}:{}: {}", path, LineOf(error.mark), EscapeControls(error.msg)));
  } catch (const std::invalid_argument& error) {
    return absl::InvalidArgumentError(fmt::format("{}:{}", path, error.what()));
  }
}

}  // namespace callout::host
