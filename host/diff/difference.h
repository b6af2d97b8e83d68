// SPDX-License-Identifier: Apache-2.0

// Differences between two outcomes of the same exchange, by kind, and a report that counts them
// over many exchanges.
//
//   DifferenceSummary summary;
//   AddExchange(Compare(before, after), {DescribeRequest(headers), request_id}, &summary);
//   std::string json = ReportJson(summary).dump();
//
// What is shown of a difference has no secrets: values of headers as in the log
// (--log_redacted_headers), also where a plugin has copied them to another header; of bodies the
// size, of metadata and modes that they differ. Where the exchange fails or is answered on one side
// only, that is the difference, and nothing else of it is compared. content-length is not compared,
// since it follows the body.
//
// Plain values and functions; any thread.
//
// Tested by tests/host/diff/difference_test.cc.
#ifndef CALLOUT_HOST_DIFF_DIFFERENCE_H_
#define CALLOUT_HOST_DIFF_DIFFERENCE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "host/diff/outcome.h"
#include "host/wire/message_redaction.h"

namespace callout::host {

// The names are values of the label `kind`.
enum class DifferenceKind : uint8_t {
  kHeader,    // header: of request or response
  kBody,      // body
  kStatus,    // status: of the response to the client
  kMetadata,  // metadata: dynamic metadata
  kMode,      // mode: mode_override
  kTrailers,  // trailers
  kError,     // error: the RPC, or the call, has failed on one side, or with another code
};
inline constexpr size_t kDifferenceKinds = 7;
std::string_view DifferenceKindName(DifferenceKind kind);

// The largest text of one side that is kept, in bytes.
inline constexpr size_t kDifferenceTextBytesMax = 256;

struct Difference {
  DifferenceKind kind = DifferenceKind::kHeader;
  // What differs: "request x-user", "response", "envoy.lb"; printable.
  std::string what;
  // What is on either side; printable, without secrets.
  std::string before, after;
};

// Teaches the redactor the messages of an exchange, whose hidden values are not to be shown.
using LearnMessages = std::function<void(MessageRedactor*)>;

// How `after` differs from `before`; empty: in nothing. Values of hidden headers in either outcome,
// and in what `learn` teaches, are left out wherever they stand. `learn` is only called if
// something differs, and may be null.
std::vector<Difference> Compare(const ExchangeOutcome& before, const ExchangeOutcome& after,
                                const LearnMessages& learn = nullptr);

// What tells an exchange from others. Both may be "".
struct DifferenceExample {
  std::string_view request_id = {};  // x-request-id
  std::string text = {};             // "GET /a", "exchange 17: GET /a"
};
// "GET /a" of HttpHeaders of a request, without query; "": it has neither.
std::string DescribeRequest(std::string_view headers);

// Of many exchanges. May be sent to another process.
struct DifferenceSummary {
  struct Entry {
    uint64_t exchanges = 0;
    // The first example; printable.
    std::string before, after;
    std::string request_id, example;
  };
  // Time of calls.
  struct Times {
    uint64_t calls = 0;
    uint64_t ns = 0;  // in all
  };

  uint64_t exchanges = 0;  // compared
  uint64_t differing = 0;
  std::array<uint64_t, kDifferenceKinds> by_kind{};  // exchanges with one of the kind
  std::map<std::string, Entry> entries;              // by "kind what"
  uint64_t unlisted = 0;                             // differences without an entry
  Times before, after;

  // Adds those of another process.
  void Add(const DifferenceSummary& other);
};

// Entries that a summary has at most; rarer differences that come later count as unlisted.
inline constexpr size_t kDifferenceEntriesMax = 256;
// Entries that are shown.
inline constexpr size_t kDifferencesShown = 10;

// Counts an exchange. `example` is cut, and only looked at if there are differences.
void AddExchange(const std::vector<Difference>& differences, const DifferenceExample& example,
                 DifferenceSummary* summary);

// The commonest entries, at most `max`, the most frequent first.
std::vector<std::pair<std::string, DifferenceSummary::Entry>> Commonest(
    const DifferenceSummary& summary, size_t max = kDifferencesShown);

// {"exchanges": 1000, "differing": 7, "by_kind": {"header": 7, …}, "commonest": [{"kind": "header",
// "what": "request x-user", "exchanges": 7, "before": "…", "after": "…", "example": "…",
// "request_id": "…"}, …], "unlisted": 0, "time_per_call_us": {"before": 12.5, "after": 13.0}}. A
// side without calls has null.
nlohmann::ordered_json ReportJson(const DifferenceSummary& summary);
// The same for people, in lines.
std::string ReportText(const DifferenceSummary& summary);
// "GET /a, x-request-id 4711"; "": nothing tells the exchange.
std::string ExampleText(const DifferenceSummary::Entry& entry);

template <class Archive>
void VisitFields(Archive& archive, DifferenceSummary::Entry& entry) {
  archive(entry.exchanges, entry.before, entry.after, entry.request_id, entry.example);
}

template <class Archive>
void VisitFields(Archive& archive, DifferenceSummary::Times& times) {
  archive(times.calls, times.ns);
}

template <class Archive>
void VisitFields(Archive& archive, DifferenceSummary& summary) {
  archive(summary.exchanges, summary.differing);
  for (uint64_t& count : summary.by_kind) archive(count);
  archive(summary.entries, summary.unlisted, summary.before, summary.after);
}

}  // namespace callout::host

#endif  // CALLOUT_HOST_DIFF_DIFFERENCE_H_
