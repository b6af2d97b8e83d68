// SPDX-License-Identifier: Apache-2.0

#include "host/explain/explainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "host/base/clock.h"
#include "host/explain/explanation.h"
#include "host/plugin/shown_redaction.h"
#include "host/wire/header_facts.h"

namespace callout::host {
namespace {

// An exchange whose lines are logged at another level, and nothing else.
class LogOnly final : public RpcObserver {};

// Sets the plugins' levels to those of `levels`.
void SetPluginLevels(const std::map<std::string, LogLevel>& levels) {
  for (const auto& [plugin, level] : PluginLogLevels()) {
    if (!levels.contains(plugin)) SetPluginLogLevel(plugin, std::nullopt);
  }
  for (const auto& [plugin, level] : levels) SetPluginLogLevel(plugin, level);
}

}  // namespace

Explainer::Explainer(Metrics* metrics, size_t explained_max)
    : explained_max_(explained_max), metrics_(metrics) {
  const auto define = [metrics](const char* by) {
    return metrics
        ->Define(Metrics::Kind::kCounter, "callout_explained_total",
                 "Exchanges that were explained, by what marked them", {{"by", by}})
        .value_or(0);
  };
  by_key_ = define("key");
  by_rule_ = define("rule");
}

void Explainer::Attach(RpcWatchers* watchers) {
  watchers_ = watchers;
  watchers_->Add(this);
  const std::lock_guard<std::mutex> lock(mutex_);
  UpdateActive(MonotonicNs());
}

absl::Status Explainer::Set(const WatchSettings& settings) {
  const uint64_t now_ns = MonotonicNs();
  std::vector<Rule> rules;
  if (settings.rules.size() > kExchangeRulesMax) {
    return absl::InvalidArgumentError(
        fmt::format("{} rules, at most {}", settings.rules.size(), kExchangeRulesMax));
  }
  for (const std::string& text : settings.rules) {
    absl::StatusOr<ExchangeRule> rule = ParseExchangeRule(text);
    if (!rule.ok()) return rule.status();
    Rule& added = rules.emplace_back();
    added.rule = *std::move(rule);
    added.shown = ShownRule(added.rule.text, ShownRedaction());
    added.until_ns = now_ns + uint64_t{added.rule.seconds} * 1'000'000'000;
    added.left = added.rule.count;
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  for (Rule& rule : rules) {
    const auto before = std::find_if(rules_.begin(), rules_.end(), [&](const Rule& other) {
      return other.rule.text == rule.rule.text;
    });
    if (before == rules_.end()) continue;
    rule.until_ns = before->until_ns;
    rule.left = before->left;
  }
  key_ = settings.explain_key;
  rules_ = std::move(rules);
  SetLogLevel(settings.log_level);
  SetPluginLevels(settings.plugin_log_levels);
  UpdateActive(now_ns);
  return absl::OkStatus();
}

// Under mutex_.
void Explainer::UpdateActive(uint64_t now_ns) {
  const bool has_rule = std::any_of(rules_.begin(), rules_.end(), [now_ns](const Rule& rule) {
    return rule.left > 0 && rule.until_ns > now_ns;
  });
  has_rule_.store(has_rule, std::memory_order_relaxed);
  if (watchers_ != nullptr) watchers_->SetActive(this, has_rule || !key_.empty());
}

// Under mutex_.
bool Explainer::IsKey(std::string_view shown) const {
  if (key_.empty() || shown.size() != key_.size()) return false;
  unsigned char differs = 0;
  for (size_t i = 0; i < key_.size(); ++i) {
    differs |= static_cast<unsigned char>(shown[i] ^ key_[i]);
  }
  return differs == 0;
}

std::unique_ptr<RpcObserver> Explainer::Watch(const RpcStart& start) {
  if (start.headers.empty()) return nullptr;
  const std::string_view shown_key = SearchHeader(start.headers, kExplainHeader);
  if (shown_key.empty() && !has_rule_.load(std::memory_order_relaxed)) return nullptr;
  std::string marked_by;
  std::optional<LogLevel> log_level;
  bool explain = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    explain = IsKey(shown_key);
    if (explain) {
      marked_by = "key";
    } else {
      const auto rule = std::find_if(rules_.begin(), rules_.end(), [&](const Rule& one) {
        return one.left > 0 && one.until_ns > start.at_ns && Matches(one.rule, start.headers);
      });
      if (rule == rules_.end()) {
        UpdateActive(start.at_ns);
        return nullptr;
      }
      if (--rule->left == 0) UpdateActive(start.at_ns);
      marked_by = fmt::format("rule {}", rule->shown);
      log_level = rule->rule.log_level;
      explain = rule->rule.explain;
    }
  }
  std::unique_ptr<RpcObserver> observer;
  if (explain) {
    metrics_->Add(marked_by == "key" ? by_key_ : by_rule_);
    observer = std::make_unique<Explanation>(
        start, marked_by, [this](std::string document, std::string request_id) {
          Keep({std::move(document), std::move(request_id), MonotonicNs()});
        });
    observer->set_wants_real_end();
  } else {
    observer = std::make_unique<LogOnly>();
  }
  observer->set_log_level(log_level);
  return observer;
}

void Explainer::Keep(Explained explained) {
  auto added = std::make_shared<const Explained>(std::move(explained));
  std::shared_ptr<const Explained> dropped;  // freed when the lock is
  const std::lock_guard<std::mutex> lock(explained_mutex_);
  explained_.push_front(std::move(added));
  if (explained_.size() <= explained_max_) return;
  dropped = std::move(explained_.back());
  explained_.pop_back();
}

std::vector<Explained> Explainer::Collect() const {
  std::vector<std::shared_ptr<const Explained>> shared;
  {
    const std::lock_guard<std::mutex> lock(explained_mutex_);
    shared.assign(explained_.begin(), explained_.end());
  }
  std::vector<Explained> all;
  for (const auto& one : shared) all.push_back(*one);
  return all;
}

std::string ExplainedJson(std::vector<Explained> explained, const std::vector<std::string>& rules,
                          size_t max, std::string_view request_id, uint64_t now_ns) {
  std::stable_sort(explained.begin(), explained.end(),
                   [](const Explained& a, const Explained& b) { return a.ended_ns > b.ended_ns; });
  std::string documents;
  size_t count = 0;
  for (const Explained& one : explained) {
    if (!request_id.empty() && one.request_id != request_id) continue;
    if (count++ == max) break;
    const uint64_t ago_ms = now_ns > one.ended_ns ? (now_ns - one.ended_ns) / 1'000'000 : 0;
    documents += fmt::format("{}\n{},\"ended_ms_ago\":{}}}", documents.empty() ? "" : ",",
                             one.document, ago_ms);
  }
  std::vector<std::string> shown;
  for (const std::string& rule : rules) shown.push_back(ShownRule(rule, ShownRedaction()));
  const std::string rule_list =
      nlohmann::json(shown).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return fmt::format("{{\"rules\":{},\"explained\":[{}]}}\n", rule_list, documents);
}

}  // namespace callout::host
