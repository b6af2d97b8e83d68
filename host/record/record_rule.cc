// SPDX-License-Identifier: Apache-2.0

#include "host/record/record_rule.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "host/base/log.h"
#include "host/base/percent.h"
#include "host/base/redaction.h"
#include "host/base/status_text.h"
#include "host/plugin/shown_redaction.h"

namespace callout::host {
namespace {

constexpr std::array<std::string_view, 4> kMatchKeys = {"path_prefix", "host", "method", "header"};
constexpr uint64_t kSecondsMax = 3600;
constexpr uint64_t kCountMax = 1'000'000;
constexpr uint64_t kBytesMin = 4096;

bool IsMatchKey(std::string_view key) {
  return std::find(kMatchKeys.begin(), kMatchKeys.end(), key) != kMatchKeys.end();
}

absl::Status Expected(std::string_view key, std::string_view value, std::string_view what) {
  constexpr size_t kShownMax = 64;
  return absl::InvalidArgumentError(fmt::format("{}={}: expected {}",
                                                EscapeControls(key.substr(0, kShownMax)),
                                                EscapeControls(value.substr(0, kShownMax)), what));
}

// Its value may be a credential, under a misspelled key.
absl::Status UnknownKey(std::string_view key, std::string_view known) {
  constexpr size_t kShownMax = 64;
  return absl::InvalidArgumentError(fmt::format("{}: expected one of the keys {}",
                                                EscapeControls(key.substr(0, kShownMax)), known));
}

absl::Status SetNumber(std::string_view key, std::string_view value, uint64_t min, uint64_t max,
                       uint64_t* number) {
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), *number);
  const bool good = error == std::errc() && end == value.data() + value.size();
  if (good && *number >= min && *number <= max) return absl::OkStatus();
  return Expected(key, value, fmt::format("a number from {} to {}", min, max));
}

// Calls `take` with text, key and value of each pair that has a value.
template <class Take>
absl::Status EachPair(std::string_view form, Take take) {
  if (form.size() > kExchangeRuleBytesMax) {
    return absl::InvalidArgumentError(
        fmt::format("{} bytes, at most {}", form.size(), kExchangeRuleBytesMax));
  }
  for (const FormPair& pair : FormPairs(form)) {
    if (!pair.has_equals || !pair.key.has_value() || !pair.value.has_value()) {
      // Its text may be a credential.
      return absl::InvalidArgumentError(
          "a part of it is not encoded as a form; expected KEY=VALUE");
    }
    if (pair.value->empty()) continue;
    if (absl::Status status = take(pair.text, *pair.key, *pair.value); !status.ok()) return status;
  }
  return absl::OkStatus();
}

// The form for people and for the recording's file, which others may read than the log. So a header
// is hidden there whatever the log shows.
std::string ShownForm(std::string_view form) {
  static const auto* const by_default = new Redaction();
  return ShownRule(ShownRule(form, *by_default), ShownRedaction());
}

}  // namespace

bool RecordRule::Samples(uint64_t stream_id) const {
  if (percent >= 100) return true;
  // SplitMix64, so that neighbouring ids are far apart.
  uint64_t hash = stream_id + 0x9e3779b97f4a7c15;
  hash = (hash ^ (hash >> 30)) * 0xbf58476d1ce4e5b9;
  hash = (hash ^ (hash >> 27)) * 0x94d049bb133111eb;
  hash ^= hash >> 31;
  constexpr double kRange = 4294967296.0;  // of 32 bits
  return static_cast<double>(hash >> 32) < percent / 100 * kRange;
}

bool RecordRule::Matches(std::string_view headers) const {
  return !match.has_value() || (!headers.empty() && host::Matches(*match, headers));
}

absl::StatusOr<double> ParsePercent(std::string_view text) {
  double percent = 0;
  if (text.find_first_not_of("0123456789.") == text.npos &&
      absl::SimpleAtod({text.data(), text.size()}, &percent) && percent > 0 && percent <= 100) {
    return percent;
  }
  return absl::InvalidArgumentError("expected a number above 0 and up to 100");
}

absl::StatusOr<RecordRule> MakeRecordRule(double percent, std::string_view match_form) {
  const auto check = [](std::string_view, std::string_view key, std::string_view) {
    if (IsMatchKey(key)) return absl::OkStatus();
    return UnknownKey(key, "path_prefix, host, method, header");
  };
  const absl::Status keys = EachPair(match_form, check);
  if (!keys.ok()) return keys;
  RecordRule rule;
  rule.percent = percent;
  rule.text = fmt::format("percent={}", percent);
  if (match_form.empty()) return rule;
  absl::StatusOr<ExchangeRule> match = ParseExchangeRule(match_form);
  if (!match.ok()) return match.status();
  rule.match = *std::move(match);
  rule.text += fmt::format("&{}", ShownForm(match_form));
  return rule;
}

absl::StatusOr<TapForm> ParseTapForm(std::string_view form, uint64_t bytes_max) {
  TapForm tap;
  tap.bytes = bytes_max;
  std::string match;
  std::optional<double> percent;
  size_t pairs = 0;
  const auto take = [&](std::string_view text, std::string_view key, std::string_view value) {
    ++pairs;
    if (IsMatchKey(key)) {
      match += fmt::format("{}{}", match.empty() ? "" : "&", text);
      return absl::OkStatus();
    }
    if (key == "percent") {
      const absl::StatusOr<double> parsed = ParsePercent(value);
      if (!parsed.ok()) return Expected(key, value, "a number above 0 and up to 100");
      percent = *parsed;
      return absl::OkStatus();
    }
    if (key == "seconds") {
      return SetNumber(key, value, 1, kSecondsMax, &tap.seconds);
    }
    if (key == "count") return SetNumber(key, value, 1, kCountMax, &tap.count);
    if (key == "bytes") {
      return SetNumber(key, value, kBytesMin, bytes_max, &tap.bytes);
    }
    if (key == "stop") {
      tap.stop = value == "1";
      return tap.stop ? absl::OkStatus() : Expected(key, value, "1");
    }
    return UnknownKey(key,
                      "percent, path_prefix, host, method, header, seconds, count, bytes, stop");
  };
  const absl::Status read = EachPair(form, take);
  if (!read.ok()) return read;
  if (tap.stop) {
    if (pairs == 1) return tap;
    return absl::InvalidArgumentError("stop=1 takes no other key");
  }
  if (match.empty() && !percent.has_value()) {
    return absl::InvalidArgumentError(
        "the form says nothing of the exchanges; give percent, path_prefix, host, method or header "
        "(percent=100 records all)");
  }
  absl::StatusOr<RecordRule> rule = MakeRecordRule(percent.value_or(100), match);
  if (!rule.ok()) return rule.status();
  tap.rule = *std::move(rule);
  return tap;
}

}  // namespace callout::host
