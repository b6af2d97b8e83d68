// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/settings.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>
#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "host/base/ascii.h"
#include "host/base/field_text.h"
#include "host/base/json_text.h"
#include "host/base/log.h"
#include "host/base/status_text.h"
#include "host/wire/phase.h"
#include "host/wire/response.h"

namespace callout::host {

namespace {

using Json = nlohmann::json;

constexpr char kWholeBodyKey[] = "max_whole_body_bytes";
constexpr double kLeastSharePercent = 0.01;                  // the resolution of StreamShare
constexpr char kWholeBodyOldKey[] = "whole_body_bytes_max";  // until 0.1.0

std::string_view KindOf(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::object:
      return "an object";
    case Json::value_t::array:
      return "a list";
    case Json::value_t::string:
      return "a string";
    case Json::value_t::boolean:
      return "a boolean";
    case Json::value_t::number_integer:
      return "a negative number";
    default:
      return value.is_number_float() ? "a number with a fraction or an exponent" : "a number";
  }
}

// Does not show the value, which may be a secret in the wrong file.
absl::Status Wrong(std::string_view key, const Json& found, std::string_view expected) {
  return absl::InvalidArgumentError(
      fmt::format("key \"{}\" is {}; expected {}", EscapeControls(key), KindOf(found), expected));
}

absl::Status ReadBool(std::string_view key, const Json& value, bool* out) {
  if (!value.is_boolean()) return Wrong(key, value, "true or false");
  *out = value.get<bool>();
  return absl::OkStatus();
}

// A switch for all phases, or a list of their names.
absl::Status ReadPhases(std::string_view key, const Json& value, uint64_t* phases) {
  constexpr char kExpected[] =
      "true, false or a list of phases (request_headers, response_headers, request_body, "
      "response_body, request_trailers, response_trailers, check, "
      "read_data, write_data, connection, rate_limit)";
  if (value.is_boolean()) {
    *phases = value.get<bool>() ? kAllPhases : 0;
    return absl::OkStatus();
  }
  if (!value.is_array()) return Wrong(key, value, kExpected);
  *phases = 0;
  for (const Json& item : value) {
    uint64_t bit = 0;
    for (const callout_phase_t phase : kPhases) {
      if (item == std::string(PhaseName(phase))) bit = CALLOUT_PHASE_BIT(phase);
    }
    if (bit == 0) return Wrong(key, item, kExpected);
    *phases |= bit;
  }
  return absl::OkStatus();
}

absl::Status ReadPolicy(std::string_view key, const Json& value, int status_default,
                        ErrorPolicy* out) {
  if (!value.is_string()) return Wrong(key, value, "fail, continue or deny[:STATUS]");
  absl::StatusOr<ErrorPolicy> policy = ParseErrorPolicy(value.get<std::string>(), status_default);
  if (!policy.ok()) {
    return absl::InvalidArgumentError(fmt::format(
        "key \"{}\" is no policy; expected fail, continue, deny or deny:STATUS with a status from "
        "200 to 599",
        key));
  }
  *out = *policy;
  return absl::OkStatus();
}

absl::Status ReadTexts(std::string_view key, const Json& value, bool lower_case,
                       std::vector<std::string>* out) {
  if (!value.is_array()) return Wrong(key, value, "a list of strings");
  for (const Json& item : value) {
    if (!item.is_string()) return Wrong(key, item, "a string");
    std::string text = item.get<std::string>();
    out->push_back(lower_case ? ToLowerAscii(text) : std::move(text));
  }
  return absl::OkStatus();
}

// A name that no header can have would silently match nothing.
absl::Status CheckHeaderName(std::string_view key, std::string_view name) {
  const bool pseudo = name.starts_with(':');
  if (IsToken(name.substr(pseudo ? 1 : 0))) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("key \"{}\" has {}; expected the name of a header, such as \"x-user\"", key,
                  name.empty() ? "an empty string"
                               : "a string with a blank or another byte that no header name has"));
}

absl::Status ReadHeaderNames(std::string_view key, const Json& value,
                             std::vector<std::string>* out) {
  absl::Status status = ReadTexts(key, value, true, out);
  for (size_t i = 0; status.ok() && i < out->size(); ++i) status = CheckHeaderName(key, (*out)[i]);
  return status;
}

absl::Status ReadAttributes(const Json& value, std::map<std::string, std::string>* out) {
  if (!value.is_object()) return Wrong("match.attributes", value, "an object of strings");
  for (const auto& [name, text] : value.items()) {
    if (!text.is_string()) return Wrong("match.attributes." + name, text, "a string");
    (*out)[name] = text.get<std::string>();
  }
  return absl::OkStatus();
}

absl::Status ReadMatch(const Json& value, StreamMatch* match) {
  if (!value.is_object()) return Wrong("match", value, "an object");
  for (const auto& [key, item] : value.items()) {
    absl::Status status;
    if (key == "path_prefixes") {
      status = ReadTexts("match.path_prefixes", item, false, &match->path_prefixes);
    } else if (key == "hosts") {
      status = ReadTexts("match.hosts", item, true, &match->hosts);
    } else if (key == "methods") {
      status = ReadTexts("match.methods", item, false, &match->methods);
    } else if (key == "headers") {
      status = ReadHeaderNames("match.headers", item, &match->headers);
    } else if (key == "attributes") {
      status = ReadAttributes(item, &match->attributes);
    } else {
      status = absl::InvalidArgumentError(fmt::format(
          "unknown key \"match.{}\"; expected path_prefixes, hosts, methods, headers or "
          "attributes",
          EscapeControls(key)));
    }
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status ReadWatch(const Json& value, std::vector<std::string>* out) {
  if (absl::Status status = ReadTexts("watch", value, false, out); !status.ok()) return status;
  if (out->size() > kWatchedFilesMax) {
    return absl::InvalidArgumentError(fmt::format("key \"watch\" has {} files; expected at most {}",
                                                  out->size(), kWatchedFilesMax));
  }
  for (const std::string& path : *out) {
    if (path.starts_with('/') && path.find('\0') == path.npos) continue;
    return absl::InvalidArgumentError("key \"watch\" has a path that is not absolute");
  }
  return absl::OkStatus();
}

// Of a list of words, the index of the one found.
absl::Status ReadChoice(std::string_view key, const Json& value,
                        const std::vector<std::string>& choices, size_t* index) {
  for (size_t i = 0; value.is_string() && i < choices.size(); ++i) {
    if (value.get<std::string>() != choices[i]) continue;
    *index = i;
    return absl::OkStatus();
  }
  return Wrong(key, value, fmt::format("one of {}", fmt::join(choices, ", ")));
}

bool IsStatusPattern(std::string_view text) {
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  return text.size() == 3 && text[0] >= '1' && text[0] <= '5' &&
         (text.substr(1) == "xx" || (digit(text[1]) && digit(text[2])));
}

absl::Status ReadLeaveResponses(const Json& value, ResponseMatch* match) {
  if (!value.is_object()) return Wrong("leave_responses", value, "an object");
  for (const auto& [key, item] : value.items()) {
    absl::Status status;
    if (key == "content_types") {
      status = ReadTexts("leave_responses.content_types", item, true, &match->content_types);
    } else if (key == "statuses") {
      status = ReadTexts("leave_responses.statuses", item, true, &match->statuses);
      for (const std::string& text : match->statuses) {
        if (status.ok() && !IsStatusPattern(text)) {
          status = Wrong("leave_responses.statuses", item, "statuses such as \"206\" or \"3xx\"");
        }
      }
    } else if (key == "headers") {
      status = ReadHeaderNames("leave_responses.headers", item, &match->headers);
    } else {
      status = absl::InvalidArgumentError(
          fmt::format("key \"leave_responses.{}\" is not known; expected content_types, statuses "
                      "or headers",
                      EscapeControls(key)));
    }
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status ReadNumber(std::string_view key, const Json& value, double least, double most,
                        double* out) {
  if (!value.is_number() || !(value.get<double>() >= least && value.get<double>() <= most)) {
    if (!value.is_number()) return Wrong(key, value, fmt::format("{} to {}", least, most));
    return absl::InvalidArgumentError(
        fmt::format("key \"{}\" is {}; expected {} to {}", key, value.get<double>(), least, most));
  }
  *out = value.get<double>();
  return absl::OkStatus();
}

absl::Status ReadWhole(std::string_view key, const Json& value, uint32_t least, uint32_t most,
                       uint32_t* out) {
  if (!value.is_number_unsigned() || value.get<uint64_t>() < least ||
      value.get<uint64_t>() > most) {
    return Wrong(key, value, fmt::format("a whole number from {} to {}", least, most));
  }
  *out = value.get<uint32_t>();
  return absl::OkStatus();
}

absl::Status ReadHeaderName(std::string_view key, const Json& value, std::string* out) {
  if (!value.is_string()) return Wrong(key, value, "the name of a request header");
  *out = ToLowerAscii(value.get<std::string>());
  return CheckHeaderName(key, *out);
}

// A share of streams: 0 to 100, in hundredths. What would be rounded to none or to all is refused.
absl::Status ReadShare(std::string_view key, const Json& value, double* out) {
  if (absl::Status status = ReadNumber(key, value, 0, 100, out); !status.ok()) return status;
  constexpr double kMost = 99.99;
  const bool rounds = (*out > 0 && *out < kLeastSharePercent) || (*out > kMost && *out < 100);
  if (!rounds) return absl::OkStatus();
  return absl::InvalidArgumentError(fmt::format(
      "key \"{}\" is {}; expected 0, {} to {:.2f}, or 100: a share counts in hundredths "
      "of a percent",
      key, *out, kLeastSharePercent, kMost));
}

absl::Status ReadCanaryKey(const std::string& key, const Json& value, CanarySettings* canary) {
  constexpr double kTimeMax = 1e6;
  constexpr uint32_t kCountMax = 1'000'000'000;
  const std::string name = "canary." + key;
  if (key == "percent") {
    absl::Status status = ReadNumber(name, value, kLeastSharePercent, 100, &canary->percent);
    return status.ok() ? ReadShare(name, value, &canary->percent) : status;
  }
  if (key == "by_header") return ReadHeaderName(name, value, &canary->by_header);
  if (key == "max_fault_percent") {
    return ReadNumber(name, value, 0, 100, &canary->max_fault_percent);
  }
  if (key == "max_latency_ratio") {
    return ReadNumber(name, value, 0, kTimeMax, &canary->max_latency_ratio);
  }
  if (key == "max_p99_ms") return ReadNumber(name, value, 0, kTimeMax, &canary->max_p99_ms);
  if (key == "min_calls") return ReadWhole(name, value, 1, kCountMax, &canary->min_calls);
  if (key == "for_seconds") return ReadWhole(name, value, 0, kCountMax, &canary->for_seconds);
  if (key == "promote") {
    size_t index = 0;
    absl::Status status = ReadChoice(name, value, {"manual", "auto"}, &index);
    canary->promotes_itself = index == 1;
    return status;
  }
  return absl::InvalidArgumentError(
      fmt::format("unknown key \"canary.{}\"; expected percent, by_header, max_fault_percent, "
                  "max_latency_ratio, max_p99_ms, min_calls, for_seconds or promote",
                  EscapeControls(key)));
}

absl::Status ReadCanary(const Json& value, CanarySettings* canary) {
  if (!value.is_object()) return Wrong("canary", value, "an object");
  for (const auto& [key, item] : value.items()) {
    if (absl::Status status = ReadCanaryKey(key, item, canary); !status.ok()) return status;
  }
  return absl::OkStatus();
}

// Keys that say nothing without another one, or against it.
absl::Status CheckTogether(const InstanceSettings& settings) {
  const bool shadow = settings.mode == InstanceMode::kShadow;
  if (!settings.instead_of.empty() && !shadow) {
    return absl::InvalidArgumentError(
        "key \"instead_of\" is for shadows; set \"mode\": \"shadow\", or remove it");
  }
  if (settings.canary.has_value() && shadow) {
    return absl::InvalidArgumentError(
        "key \"canary\" is for plugins that decide; remove it, or \"mode\": \"shadow\"");
  }
  return absl::OkStatus();
}

absl::Status ReadKey(const std::string& key, const Json& value, InstanceSettings* settings) {
  if (key == "policy") {
    return ReadPolicy(key, value, kDenyStatusDefault, &settings->policy.emplace());
  }
  if (key == "too_large") {
    return ReadPolicy(key, value, kTooLargeStatusDefault, &settings->too_large);
  }
  if (key == "endless_body") {
    size_t index = 0;
    absl::Status status = ReadChoice(key, value, {"refuse", "pass", "chunks"}, &index);
    settings->endless_body = static_cast<EndlessBody>(index);
    return status;
  }
  if (key == "leave_responses") return ReadLeaveResponses(value, &settings->leave_responses);
  if (key == "drain") {
    size_t index = 0;
    absl::Status status = ReadChoice(key, value, {"fail", "pass"}, &index);
    settings->drain_passes = index == 1;
    return status;
  }
  if (key == "match") return ReadMatch(value, &settings->match);
  if (key == "blocking") return ReadPhases(key, value, &settings->blocking.emplace());
  if (key == "mode") {
    size_t index = 0;
    absl::Status status = ReadChoice(key, value, {"live", "shadow"}, &index);
    settings->mode = static_cast<InstanceMode>(index);
    return status;
  }
  if (key == "instead_of") {
    if (!value.is_string()) return Wrong(key, value, "the name of a plugin");
    settings->instead_of = value.get<std::string>();
    return absl::OkStatus();
  }
  if (key == "percent") return ReadShare(key, value, &settings->percent);
  if (key == "by_header") return ReadHeaderName(key, value, &settings->by_header);
  if (key == "canary") return ReadCanary(value, &settings->canary.emplace());
  if (key == "disabled") return ReadBool(key, value, &settings->disabled);
  if (key == "watch") return ReadWatch(value, &settings->watch);
  if (key == kWholeBodyKey || key == kWholeBodyOldKey) {
    if (!value.is_number_unsigned()) return Wrong(key, value, "a number of bytes, 0 or more");
    settings->whole_body_bytes_max = value.get<uint64_t>();
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      fmt::format("unknown key \"{}\"; expected policy, too_large, match, "
                  "max_whole_body_bytes, blocking, disabled, watch, endless_body, leave_responses, "
                  "drain, mode, instead_of, percent, by_header or canary",
                  EscapeControls(key)));
}

}  // namespace

absl::StatusOr<ErrorPolicy> ParseErrorPolicy(std::string_view text, int status_default) {
  if (text == "fail") return ErrorPolicy{ErrorPolicy::Action::kFail, 0};
  if (text == "continue") return ErrorPolicy{ErrorPolicy::Action::kContinue, 0};
  if (text == "deny") return ErrorPolicy{ErrorPolicy::Action::kDeny, status_default};
  if (text.starts_with("deny:")) {
    const std::string_view number = text.substr(5);
    int status = 0;
    const auto [stop, error] =
        std::from_chars(number.data(), number.data() + number.size(), status);
    // Envoy turns a status below 200 into 200, which would look like success.
    if (error == std::errc() && stop == number.data() + number.size() && status >= 200 &&
        status <= 599) {
      return ErrorPolicy{ErrorPolicy::Action::kDeny, status};
    }
  }
  return absl::InvalidArgumentError(fmt::format(
      "invalid policy '{}'; expected fail, continue, deny or deny:STATUS with a status from 200 to "
      "599",
      EscapeControls(text)));
}

absl::StatusOr<InstanceSettings> ParseInstanceSettings(std::string_view json) {
  const absl::StatusOr<Json> document = ParseJsonText(json);
  if (!document.ok()) {
    return absl::InvalidArgumentError(
        fmt::format("the settings are not valid JSON: {}", MessageOf(document.status())));
  }
  if (!document->is_object()) {
    return absl::InvalidArgumentError("the settings are JSON, but not an object; expected {…}");
  }
  if (document->contains(kWholeBodyKey) && document->contains(kWholeBodyOldKey)) {
    return absl::InvalidArgumentError(
        fmt::format("keys \"{}\" and \"{}\" are two names of one setting; remove "
                    "the old one",
                    kWholeBodyKey, kWholeBodyOldKey));
  }
  InstanceSettings settings;
  for (const auto& [key, value] : document->items()) {
    if (absl::Status status = ReadKey(key, value, &settings); !status.ok()) return status;
  }
  if (absl::Status status = CheckTogether(settings); !status.ok()) return status;
  return settings;
}

}  // namespace callout::host
