// SPDX-License-Identifier: Apache-2.0

#include "host/upstream/upstream_config.h"

#include <callout/calls.h>
#include <fmt/format.h>

#include <climits>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/ascii.h"
#include "host/base/field_text.h"
#include "host/base/file.h"
#include "host/base/json_text.h"
#include "host/base/log.h"
#include "host/base/nearest_name.h"
#include "host/base/status_text.h"
#include "host/net/address.h"
#include "host/upstream/client_tls.h"
#include "host/upstream/request_rules.h"

namespace callout::host {
namespace {

using nlohmann::json;

constexpr size_t kFileBytesMax = size_t{1} << 20;
constexpr size_t kUpstreamsMax = 256;
constexpr uint64_t kDayMs = 86'400'000;
constexpr uint64_t kBytesMax = uint64_t{1} << 30;

absl::Status Expected(std::string_view what) {
  return absl::InvalidArgumentError(fmt::format("expected {}", what));
}

using Reader = std::function<absl::Status(const json& value)>;
using Readers = std::map<std::string, Reader, std::less<>>;

template <class Number>
Reader NumberKey(uint64_t min, uint64_t max, Number* to) {
  return [=](const json& value) {
    if (!value.is_number_unsigned() || value.get<uint64_t>() < min || value.get<uint64_t>() > max) {
      return Expected(fmt::format("a whole number from {} to {}", min, max));
    }
    *to = static_cast<Number>(value.get<uint64_t>());
    return absl::OkStatus();
  };
}

Reader SwitchKey(bool* to) {
  return [to](const json& value) {
    if (!value.is_boolean()) return Expected("true or false");
    *to = value.get<bool>();
    return absl::OkStatus();
  };
}

Reader TextKey(std::string* to) {
  return [to](const json& value) {
    if (!value.is_string() || value.get_ref<const std::string&>().empty()) {
      return Expected("a text that is not empty");
    }
    *to = value.get<std::string>();
    if (!IsFieldValue(*to)) return Expected("a text without control characters");
    return absl::OkStatus();
  };
}

// Reads each member of `object` by the reader of its name. The error names the key.
absl::Status ReadMembers(const json& object, const Readers& readers, std::string_view prefix) {
  if (!object.is_object()) return Expected("an object");
  for (const auto& [key, value] : object.items()) {
    const auto reader = readers.find(key);
    if (reader == readers.end()) {
      std::vector<std::string_view> names;
      for (const auto& [name, unused] : readers) names.push_back(name);
      const std::string_view nearest = NearestName(key, names, 3);
      return absl::InvalidArgumentError(
          fmt::format("\"{}{}\": unknown key{}", prefix, key,
                      nearest.empty() ? "" : fmt::format("; did you mean \"{}\"?", nearest)));
    }
    if (absl::Status status = reader->second(value); !status.ok()) {
      return absl::InvalidArgumentError(
          fmt::format("\"{}{}\": {}", prefix, key, MessageOf(status)));
    }
  }
  return absl::OkStatus();
}

bool TakePrefix(std::string_view* text, std::string_view prefix) {
  if (!text->starts_with(prefix)) return false;
  text->remove_prefix(prefix.size());
  return true;
}

// "host", "host:port", "[::1]:port"
bool ParseAuthority(std::string_view text, UpstreamConfig* config) {
  config->authority = text;
  config->port = config->tls ? 443 : 80;
  size_t end = text.find(':');
  if (text.starts_with('[')) {
    const size_t bracket = text.find(']');
    if (bracket == text.npos) return false;
    config->host = text.substr(1, bracket - 1);
    end = bracket + 1 < text.size() ? bracket + 1 : text.npos;
    if (end != text.npos && text[end] != ':') return false;
  } else {
    config->host = text.substr(0, end);
  }
  constexpr std::string_view kOthers = "-._:%";
  for (const char c : config->host) {
    const bool is_name = absl::ascii_isalnum(static_cast<unsigned char>(c));
    if (!is_name && kOthers.find(c) == kOthers.npos) return false;
  }
  if (config->host.empty()) return false;
  if (end == text.npos) return true;
  config->port = ParsePort(text.substr(end + 1)).value_or(0);
  return config->port != 0;
}

absl::Status ParseUrl(const json& value, UpstreamConfig* config) {
  const auto wrong = [] {
    return Expected(
        "http://HOST:PORT, https://HOST:PORT or unix:PATH, without a path of its own, since "
        "plugins "
        "give the path");
  };
  if (!value.is_string()) return wrong();
  std::string_view url = value.get_ref<const std::string&>();
  if (TakePrefix(&url, "unix:")) {
    const absl::StatusOr<Address> address = ParseAddress(fmt::format("unix:{}", url));
    if (!address.ok()) return absl::Status(address.status());
    config->unix_path = address->unix_path();
    config->authority = "localhost";
    return absl::OkStatus();
  }
  if (TakePrefix(&url, "https://")) {
    config->tls = true;
  } else if (!TakePrefix(&url, "http://")) {
    return wrong();
  }
  if (url.ends_with('/')) url.remove_suffix(1);
  return ParseAuthority(url, config) ? absl::OkStatus() : wrong();
}

absl::Status ParseProtocol(const json& value, UpstreamConfig* config) {
  const std::string text = value.is_string() ? value.get<std::string>() : "";
  if (text == "auto") {
    config->protocol = UpstreamProtocol::kAuto;
  } else if (text == "http1") {
    config->protocol = UpstreamProtocol::kHttp1;
  } else if (text == "http2") {
    config->protocol = UpstreamProtocol::kHttp2;
  } else {
    return Expected("\"auto\", \"http1\" or \"http2\"");
  }
  return absl::OkStatus();
}

Readers ReadersOf(UpstreamConfig* to) {
  return {
      {"url", [to](const json& value) { return ParseUrl(value, to); }},
      {"authority", nullptr},  // after "url", which sets it too
      {"protocol", [to](const json& value) { return ParseProtocol(value, to); }},
      {"allow_host_header", SwitchKey(&to->allow_host_header)},
      {"timeout_ms", NumberKey(1, kDayMs, &to->timeout_ms)},
      {"connect_timeout_ms", NumberKey(1, kDayMs, &to->connect_timeout_ms)},
      {"idle_timeout_ms", NumberKey(1, kDayMs, &to->idle_timeout_ms)},
      {"max_connection_age_ms", NumberKey(1, kDayMs * 365, &to->max_connection_age_ms)},
      {"max_connections", NumberKey(1, 100'000, &to->max_connections)},
      {"max_streams", NumberKey(1, 100'000, &to->max_streams)},
      {"max_pending", NumberKey(1, 10'000'000, &to->max_pending)},
      {"max_request_bytes", NumberKey(0, kBytesMax, &to->max_request_bytes)},
      {"max_response_bytes", NumberKey(0, kBytesMax, &to->max_response_bytes)},
      {"max_response_header_bytes", NumberKey(1024, kBytesMax, &to->max_response_header_bytes)},
      {"max_retries", NumberKey(0, 10, &to->max_retries)},
      {"retry_wait_ms", NumberKey(0, 60'000, &to->retry_wait_ms)},
      {"circuit_failures", NumberKey(0, 1'000'000, &to->circuit_failures)},
      {"circuit_open_ms", NumberKey(1, kDayMs, &to->circuit_open_ms)},
      {"tls",
       [to](const json& value) {
         UpstreamConfig::Tls* const tls = &to->tls_files;
         return ReadMembers(value,
                            {{"ca", TextKey(&tls->ca_path)},
                             {"certificate", TextKey(&tls->certificate_path)},
                             {"key", TextKey(&tls->key_path)},
                             {"server_name", TextKey(&tls->server_name)},
                             {"verify", SwitchKey(&tls->verify)}},
                            "tls.");
       }},
  };
}

absl::Status CheckTogether(const json& object, const UpstreamConfig& config) {
  if (!object.contains("url")) return absl::InvalidArgumentError("\"url\": it is missing");
  if (object.contains("tls") && !config.tls) {
    return absl::InvalidArgumentError("\"tls\": the url is not https");
  }
  const UpstreamConfig::Tls& tls = config.tls_files;
  if (!tls.key_path.empty() && tls.certificate_path.empty()) {
    return absl::InvalidArgumentError("\"tls.key\": \"tls.certificate\" is missing");
  }
  if (!tls.verify && !tls.ca_path.empty()) {
    return absl::InvalidArgumentError(
        "\"tls.verify\": false, and \"tls.ca\" is given; leave out one of them");
  }
  return absl::OkStatus();
}

absl::StatusOr<UpstreamConfig> ParseOne(const std::string& name, const json& object) {
  UpstreamConfig config;
  config.name = name;
  if (!IsToken(name) || name.size() > CALLOUT_UPSTREAM_NAME_BYTES_MAX) {
    return Expected("a name of letters, digits, '-', '_' and '.', up to 64 bytes");
  }
  std::string authority;
  Readers readers = ReadersOf(&config);
  readers["authority"] = TextKey(&authority);
  if (absl::Status status = ReadMembers(object, readers, ""); !status.ok()) return status;
  if (!authority.empty()) config.authority = authority;
  if (absl::Status status = CheckTogether(object, config); !status.ok()) return status;
  return config;
}

absl::Status About(const std::string& name, const absl::Status& status) {
  // Names and keys are texts of the file, whatever is in them.
  return absl::Status(status.code(),
                      EscapeControls(fmt::format("upstream {}: {}", name, MessageOf(status))));
}

}  // namespace

absl::StatusOr<std::vector<UpstreamConfig>> ParseUpstreams(std::string_view text) {
  absl::StatusOr<json> parsed = ParseJsonText(text);
  if (!parsed.ok()) return parsed.status();
  if (!parsed->is_object()) return Expected("an object: {\"NAME\": {\"url\": …}, …}");
  if (parsed->size() > kUpstreamsMax) {
    return absl::InvalidArgumentError(
        fmt::format("{} upstreams, the limit is {}", parsed->size(), kUpstreamsMax));
  }
  std::vector<UpstreamConfig> upstreams;
  for (const auto& [name, object] : parsed->items()) {
    absl::StatusOr<UpstreamConfig> config = ParseOne(name, object);
    if (!config.ok()) return About(name, config.status());
    upstreams.push_back(*std::move(config));
  }
  return upstreams;
}

absl::StatusOr<std::vector<UpstreamConfig>> ReadUpstreams(const std::string& path,
                                                          std::string* text) {
  absl::StatusOr<std::string> read = ReadFile(path, kFileBytesMax);
  if (!read.ok()) {
    // Other options take @FILE.
    return absl::InvalidArgumentError(
        fmt::format("{}{}", MessageOf(read.status()),
                    path.starts_with('@') ? "; give the path of the file, without @" : ""));
  }
  absl::StatusOr<std::vector<UpstreamConfig>> upstreams = ParseUpstreams(*read);
  if (!upstreams.ok()) return upstreams.status();
  for (const UpstreamConfig& config : *upstreams) {
    if (!config.tls) continue;
    const absl::StatusOr<TlsContext> tls = MakeUpstreamTls(config);
    if (!tls.ok()) return About(config.name, tls.status());
  }
  if (text != nullptr) *text = *std::move(read);
  return upstreams;
}

}  // namespace callout::host
