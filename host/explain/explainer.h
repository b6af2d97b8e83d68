// SPDX-License-Identifier: Apache-2.0

// Chooses exchanges to be explained, or logged at another level, and keeps the latest explanations.
//
//   Explainer explainer(&metrics, explained_max);
//   environment.watchers().Add(&explainer);
//   explainer.Attach(&environment.watchers());
//   explainer.Set(settings);                    // any time
//   std::vector<Explained> latest = explainer.Collect();
//
// An exchange is marked by its header x-callout-debug, if that is the key, or by a rule. While
// there is neither a key nor a rule, nobody is asked (RpcWatchers::SetActive) and it costs nothing.
// While there is a key only, exchanges without the header take no lock.
// The key is compared in a time that does not depend on where it differs.
//
// Metrics: callout_explained_total{by="key"|"rule"}.
//
// Any thread. `metrics` and the watchers outlive it; it outlives every RPC.
//
// Tested by tests/host/explain/explainer_test.cc.
#ifndef CALLOUT_HOST_EXPLAIN_EXPLAINER_H_
#define CALLOUT_HOST_EXPLAIN_EXPLAINER_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "host/base/log.h"
#include "host/explain/exchange_rule.h"
#include "host/metrics/metrics.h"
#include "host/plugin/call_observer.h"

namespace callout::host {

inline constexpr char kExplainHeader[] = "x-callout-debug";
inline constexpr size_t kExchangeRulesMax = 16;
// The default of --max_explained.
inline constexpr size_t kExplainedDefault = 64;

// A recording that somebody has asked for while the host runs (host/record/).
struct TapOrder {
  uint64_t id = 0;  // 0: none
  std::string path;
  double percent = 100;
  std::string match;      // a form; "": every exchange
  uint64_t until_ns = 0;  // MonotonicNs(), which all processes of a machine share
  uint64_t count = 0;     // exchanges, of each process
  uint64_t bytes = 0;     // of each process's file
};

// What operators have set while the host runs, for every process that serves streams.
struct WatchSettings {
  std::string explain_key = {};         // "": no header marks an exchange
  std::vector<std::string> rules = {};  // ExchangeRule::text; at most kExchangeRulesMax
  LogLevel log_level = LogLevel::kInfo;
  std::map<std::string, LogLevel> plugin_log_levels = {};
  TapOrder tap = {};
};

struct Explained {
  std::string document;  // JSON, without its closing brace
  std::string request_id;
  uint64_t ended_ns = 0;  // MonotonicNs(), which all processes of a machine share
};

class Explainer final : public RpcWatcher {
 public:
  Explainer(Metrics* metrics, size_t explained_max);
  // Once: is added to `watchers`, and active while there is a key or a rule.
  void Attach(RpcWatchers* watchers);

  // INVALID_ARGUMENT if a rule is none, and nothing is changed. A rule that was there before goes
  // on where it is. The log levels are set for this process.
  absl::Status Set(const WatchSettings& settings);

  std::unique_ptr<RpcObserver> Watch(const RpcStart& start) override;

  // The latest first.
  std::vector<Explained> Collect() const;

 private:
  struct Rule {
    ExchangeRule rule;
    std::string shown;  // in explanations
    uint64_t until_ns = 0;
    uint32_t left = 0;  // exchanges that it may still mark
  };

  bool IsKey(std::string_view shown) const;
  void Keep(Explained explained);
  void UpdateActive(uint64_t now_ns);

  const size_t explained_max_;
  Metrics* const metrics_;
  Metrics::Id by_key_ = 0, by_rule_ = 0;
  RpcWatchers* watchers_ = nullptr;

  std::atomic<bool> has_rule_{false};  // that may still mark something; set under mutex_
  std::mutex mutex_;                   // guards the following
  std::string key_;
  std::vector<Rule> rules_;

  mutable std::mutex explained_mutex_;  // guards the following
  // Shared, so that a reader copies no documents while streams wait to add theirs.
  std::deque<std::shared_ptr<const Explained>> explained_;
};

// {"explained": [ … ], "rules": [ … ]}: of all processes, the latest first, at most `max`; of
// these, if it is not empty, only those with this x-request-id. Rules are as ShownRule has them.
std::string ExplainedJson(std::vector<Explained> explained, const std::vector<std::string>& rules,
                          size_t max, std::string_view request_id, uint64_t now_ns);

}  // namespace callout::host

#endif  // CALLOUT_HOST_EXPLAIN_EXPLAINER_H_
