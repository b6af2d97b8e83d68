// SPDX-License-Identifier: Apache-2.0

// Which exchanges are recorded: a share of those that match.
//
//   absl::StatusOr<RecordRule> rule = MakeRecordRule(5, "path_prefix=/api&header=x-tenant:7");
//   if (rule->Samples(stream_id) && rule->Matches(start.headers)) …
//
// The match is a form with path_prefix, host, method and header, as in
// host/explain/exchange_rule.h; "" matches every exchange. A tap (POST /tap) is one form with all
// of it:
//
//   percent      of the exchanges that match; default 100
//   path_prefix, host, method, header
//   seconds      it ends after so long, 1 to 3600; default 60
//   count        and after so many exchanges, 1 to 1000000; default 10000
//   bytes        and when the file has so many bytes, 4096 to --max_record_bytes, the default
//   stop         =1: ends the tap that runs, and no other key
//
// One of percent, path_prefix, host, method and header is needed, so that no tap records everything
// by mistake; percent=100 does.
//
// Plain values.
//
// Tested by tests/host/record/record_rule_test.cc.
#ifndef CALLOUT_HOST_RECORD_RECORD_RULE_H_
#define CALLOUT_HOST_RECORD_RECORD_RULE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "host/explain/exchange_rule.h"

namespace callout::host {

struct RecordRule {
  std::string text;  // "percent=5&path_prefix=/api"
  double percent = 100;
  std::optional<ExchangeRule> match;  // nothing: all

  // Whether the stream belongs to the share. The same for the same id.
  bool Samples(uint64_t stream_id) const;
  // `headers`: HttpHeaders of the request.
  bool Matches(std::string_view headers) const;
};

// Above 0 and at most 100: "5", "0.1".
absl::StatusOr<double> ParsePercent(std::string_view text);

// INVALID_ARGUMENT that names the key, what was found and what is expected.
absl::StatusOr<RecordRule> MakeRecordRule(double percent, std::string_view match_form);

struct TapForm {
  bool stop = false;
  RecordRule rule;
  uint64_t seconds = 60;
  uint64_t count = 10000;
  uint64_t bytes = 0;
};

// `bytes_max`: --max_record_bytes.
absl::StatusOr<TapForm> ParseTapForm(std::string_view form, uint64_t bytes_max);

}  // namespace callout::host

#endif  // CALLOUT_HOST_RECORD_RECORD_RULE_H_
