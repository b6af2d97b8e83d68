// SPDX-License-Identifier: Apache-2.0

#include "host/tester/check.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>

#include "absl/strings/ascii.h"
#include "absl/strings/str_split.h"
#include "host/base/log.h"

namespace callout::host {
namespace {

constexpr size_t kShownMax = 200;  // bytes of a value in a message
// std::regex calls itself for each byte, and larger values overflow the stack.
constexpr size_t kRegexBytesMax = 4096;

std::string Quote(std::string_view value) {
  return fmt::format("'{}'{}", EscapeControls(value.substr(0, kShownMax)),
                     value.size() > kShownMax ? "…" : "");
}

std::string Quote(const std::vector<std::string>& values) {
  if (values.empty()) return "none";
  std::vector<std::string> quoted;
  for (const std::string& value : values) quoted.push_back(Quote(value));
  return fmt::format("{}", fmt::join(quoted, ", "));
}

// nullopt: as expected.
std::optional<std::string> Compare(const Matcher& matcher, const std::vector<std::string>& found) {
  switch (matcher.kind) {
    case Matcher::Kind::kAbsent:
      if (found.empty()) return std::nullopt;
      return fmt::format("expected none, got {}", Quote(found));
    case Matcher::Kind::kRegex:
      if (found.size() == 1 && found[0].size() > kRegexBytesMax) {
        return fmt::format("{} bytes are too many for a regex, limit {}", found[0].size(),
                           kRegexBytesMax);
      }
      if (found.size() == 1 && std::regex_match(found[0], matcher.regex)) return std::nullopt;
      return fmt::format("expected one that matches {}, got {}", matcher.pattern, Quote(found));
    case Matcher::Kind::kValues:
      if (found == matcher.values) return std::nullopt;
      return fmt::format("expected {}, got {}", Quote(matcher.values), Quote(found));
  }
  return std::nullopt;
}

class Checker {
 public:
  explicit Checker(std::vector<CaseDifference>* differences) : differences_(differences) {}

  void CheckValue(const std::string& what, const Matcher& matcher,
                  const std::vector<std::string>& found) {
    const std::optional<std::string> difference = Compare(matcher, found);
    if (difference.has_value()) Add(matcher.line, what + ": " + *difference);
  }
  void CheckMessage(const std::string& what, const ExpectedMessage& expected,
                    const HttpMessage& message) {
    CheckHeaders(what + " header", expected.headers, message.headers);
    CheckHeaders(what + " trailer", expected.trailers, message.trailers);
    if (expected.body.has_value()) CheckBody(what, *expected.body, message.body.value_or(""));
    if (expected.status.has_value()) {
      CheckValue(what + " status", *expected.status, ValuesOf(message.headers, ":status"));
    }
  }
  void Add(int line, std::string text) { differences_->push_back({line, std::move(text)}); }

 private:
  void CheckHeaders(const std::string& what, const NamedMatchers& matchers,
                    const HeaderList& headers) {
    for (const auto& [name, matcher] : matchers) {
      CheckValue(fmt::format("{} {}", what, name), matcher, ValuesOf(headers, name));
    }
  }
  // An absent body is an empty one.
  void CheckBody(const std::string& what, const Matcher& matcher, const std::string& body) {
    std::vector<std::string> found = {body};
    if (matcher.kind == Matcher::Kind::kAbsent && body.empty()) found.clear();
    CheckValue(what + " body", matcher, found);
  }

  std::vector<CaseDifference>* const differences_;
};

// "namespace/key": texts as they are, other values as JSON.
std::vector<std::string> MetadataOf(const nlohmann::json& metadata, const std::string& path) {
  const size_t slash = path.find('/');
  const auto space = metadata.find(path.substr(0, slash));
  if (space == metadata.end()) return {};
  const auto value = space->find(path.substr(slash + 1));
  if (value == space->end()) return {};
  return {value->is_string() ? value->get<std::string>() : value->dump()};
}

bool IsEmpty(const ExpectedMessage& expected) {
  return expected.headers.empty() && expected.trailers.empty() && !expected.body.has_value() &&
         !expected.status.has_value();
}

void CheckError(const Case& tested, const Outcome& outcome, Checker* checker) {
  const Expectation& expected = tested.expected;
  if (!outcome.knows_error) return;
  std::vector<std::string> error;
  if (!outcome.error.empty()) error.push_back(outcome.error);
  if (expected.error.has_value()) {
    checker->CheckValue("the RPC's error", *expected.error, error);
  } else if (!error.empty() && !tested.golden) {  // a golden file has it
    checker->Add(expected.line, "the RPC ended with " + EscapeControls(outcome.error));
  }
}

void CheckRequest(const Expectation& expected, const Outcome& outcome, Checker* checker) {
  const bool is_forwarded = outcome.request.has_value();
  if (expected.forwarded.has_value() && *expected.forwarded != is_forwarded) {
    checker->Add(expected.line, is_forwarded ? "the backend got the request"
                                             : "the backend did not get the request");
  }
  if (is_forwarded) return checker->CheckMessage("request", expected.request, *outcome.request);
  if (IsEmpty(expected.request)) return;
  const HeaderList none;
  const HeaderList& headers = outcome.response.has_value() ? outcome.response->headers : none;
  checker->Add(expected.line, "the backend did not get the request: the client got " +
                                  Quote(ValuesOf(headers, ":status")));
}

// A golden file without the RPC's error, which a real Envoy tells nobody.
std::string WithoutError(std::string golden) {
  nlohmann::json json = nlohmann::json::parse(golden, nullptr, false);
  if (!json.is_object() || json.erase("error") == 0) return golden;
  return json.dump(2) + "\n";
}

}  // namespace

std::vector<CaseDifference> Check(const Case& tested, const Outcome& outcome) {
  const Expectation& expected = tested.expected;
  std::vector<CaseDifference> differences;
  Checker checker(&differences);
  if (!outcome.unfinished.empty()) checker.Add(tested.line, outcome.unfinished);
  CheckError(tested, outcome, &checker);
  CheckRequest(expected, outcome, &checker);
  if (outcome.response.has_value()) {
    checker.CheckMessage("response", expected.response, *outcome.response);
  } else if (!IsEmpty(expected.response)) {
    checker.Add(expected.line, "the client got no response: the case has none");
  }
  for (const auto& [path, matcher] : expected.metadata) {
    checker.CheckValue("metadata " + path, matcher, MetadataOf(outcome.metadata, path));
  }
  return differences;
}

std::string GoldenPath(const CaseFile& file, const Case& tested) {
  const std::filesystem::path path = file.path;
  std::string name = tested.name;
  for (char& letter : name) {
    const auto byte = static_cast<unsigned char>(letter);
    if (!absl::ascii_isalnum(byte) && letter != '-' && letter != '_') letter = '_';
  }
  return (path.parent_path() / "golden" / (path.stem().string() + "." + name + ".json")).string();
}

absl::StatusOr<std::vector<CaseDifference>> CheckGolden(const std::string& path, bool update,
                                                        int line, const Outcome& outcome) {
  const std::string now = ToJson(outcome).dump(2) + "\n";
  if (update) {
    std::error_code ignored;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ignored);
    std::ofstream file(path, std::ios::binary | std::ios::trunc);
    file << now;
    file.close();
    if (file) return std::vector<CaseDifference>();
    return absl::UnavailableError(fmt::format("cannot write {}", path));
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    return std::vector<CaseDifference>{
        {line, fmt::format("there is no {}; write it by --update", path)}};
  }
  std::stringstream text;
  text << file.rdbuf();
  std::string then = text.str();
  if (!outcome.knows_error) then = WithoutError(std::move(then));
  const std::vector<std::string> then_lines = absl::StrSplit(then, '\n');
  const std::vector<std::string> now_lines = absl::StrSplit(now, '\n');
  const auto [then_at, now_at] =
      std::mismatch(then_lines.begin(), then_lines.end(), now_lines.begin(), now_lines.end());
  if (then_at == then_lines.end() && now_at == now_lines.end())
    return std::vector<CaseDifference>();
  const auto shown = [](const auto& lines, auto at) {
    return at == lines.end() ? "its end" : Quote(std::string(absl::StripAsciiWhitespace(*at)));
  };
  return std::vector<CaseDifference>{
      {line, fmt::format("the outcome is not that of {}:{}: expected {}, got {}; take it over by "
                         "--update",
                         path, then_at - then_lines.begin() + 1, shown(then_lines, then_at),
                         shown(now_lines, now_at))}};
}

}  // namespace callout::host
