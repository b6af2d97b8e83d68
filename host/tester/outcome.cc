// SPDX-License-Identifier: Apache-2.0

#include "host/tester/outcome.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "absl/strings/escaping.h"
#include "host/base/utf8.h"

namespace callout::host {
namespace {

bool IsFraming(std::string_view name, std::string_view value, bool is_response) {
  constexpr std::array<std::string_view, 5> kNames = {"content-length", "transfer-encoding",
                                                      "connection", "keep-alive", ":scheme"};
  if (std::find(kNames.begin(), kNames.end(), name) != kNames.end()) return true;
  return is_response && (name == "date" || (name == "server" && value == "envoy"));
}

void Normalize(bool is_response, HttpMessage* message) {
  std::erase_if(message->headers, [&](const auto& header) {
    return IsFraming(header.first, header.second, is_response);
  });
  const auto by_name = [](const auto& a, const auto& b) { return a.first < b.first; };
  std::stable_sort(message->headers.begin(), message->headers.end(), by_name);
  std::stable_sort(message->trailers.begin(), message->trailers.end(), by_name);
}

nlohmann::json ShowBytes(const std::string& bytes) {
  if (IsUtf8(bytes)) return bytes;
  return {{"base64", absl::Base64Escape(bytes)}};
}

nlohmann::json ShowHeaders(const HeaderList& headers) {
  nlohmann::json list = nlohmann::json::array();
  for (const auto& [name, value] : headers) list.push_back({name, ShowBytes(value)});
  return list;
}

nlohmann::json ShowMessage(const HttpMessage& message) {
  nlohmann::json json = {{"headers", ShowHeaders(message.headers)},
                         {"body", ShowBytes(message.body.value_or(""))}};
  if (!message.trailers.empty()) json["trailers"] = ShowHeaders(message.trailers);
  return json;
}

}  // namespace

void Normalize(Outcome* outcome) {
  if (outcome->request.has_value()) Normalize(false, &*outcome->request);
  if (outcome->response.has_value()) Normalize(true, &*outcome->response);
}

nlohmann::json ToJson(const Outcome& outcome) {
  nlohmann::json json = nlohmann::json::object();
  if (outcome.request.has_value()) json["request"] = ShowMessage(*outcome.request);
  if (outcome.response.has_value()) json["response"] = ShowMessage(*outcome.response);
  if (!outcome.metadata.empty()) json["metadata"] = outcome.metadata;
  if (!outcome.error.empty()) json["error"] = ShowBytes(outcome.error);
  return json;
}

}  // namespace callout::host
