// SPDX-License-Identifier: Apache-2.0

// Limits rates by token buckets in shared data. See README.md.
#include <algorithm>
#include <callout/plugin.hpp>
#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "local_rate_limit/limits.h"
#include "local_rate_limit/token_buckets.h"
#include "support/json_config.hpp"

namespace {

using callout::Descriptor;
using callout::LimitStatus;
using callout::RateLimitCall;
using callout::plugins::Limit;
using callout::plugins::TokenBuckets;

// Appends a text so that no two lists of texts give the same name.
void AppendPart(std::string_view part, std::string* name) {
  name->append(std::to_string(part.size())).append(":").append(part);
}

class LocalRateLimit {
 public:
  explicit LocalRateLimit(callout::Setup& setup)
      : LocalRateLimit(setup, callout::plugins::JsonConfig(setup.config())) {}

  void on_rate_limit(const RateLimitCall& call) const {
    const TokenBuckets::Time now = std::chrono::steady_clock::now();
    std::vector<Taking> takings;
    for (const Descriptor& descriptor : call.descriptors()) {
      takings.push_back(MakeTaking(call.domain(), descriptor));
    }
    bool over_limit = false;
    for (Taking& taking : takings) {
      if (!taking.gives_back) Take(&taking, now);
      over_limit = over_limit || taking.over_limit;
    }
    // What is refused costs nothing, and earns nothing; but costs that there were already stand.
    for (Taking& taking : takings) {
      if (taking.gives_back) GiveBack(&taking, over_limit ? 0 : taking.hits, now);
      if (over_limit && taking.taken && !taking.overdraws) GiveBack(&taking, taking.hits, now);
    }
    Answer(call, takings, over_limit);
  }

 private:
  // What one descriptor takes from its bucket.
  struct Taking {
    bool is_limited = false;
    std::string bucket;
    TokenBuckets::Rate rate;
    double hits = 0;
    bool gives_back = false;
    bool overdraws = false;
    bool taken = false;
    bool over_limit = false;
    double tokens = 0;
    callout::LimitRate shown;
    std::string_view name;
  };

  LocalRateLimit(callout::Setup& setup, callout::plugins::JsonConfig config)
      : limits_(callout::plugins::ReadLimits(&config)),
        refuses_unknown_(config.boolean("refuse_unknown", false)),
        buckets_(setup),
        within_(setup.counter("local_rate_limit_within_total", "Requests within their limits")),
        over_(setup.counter("local_rate_limit_over_total", "Requests over a limit")),
        full_(setup.counter("local_rate_limit_full_total",
                            "Descriptors refused because there was no room for a bucket")) {
    config.done();
  }

  Taking MakeTaking(std::string_view domain, const Descriptor& descriptor) const {
    Taking taking;
    taking.hits = static_cast<double>(descriptor.hits());
    taking.gives_back = descriptor.gives_back();
    taking.over_limit = refuses_unknown_;
    const auto by_route = descriptor.limit();
    const auto limit = std::find_if(limits_.begin(), limits_.end(), [&](const Limit& candidate) {
      return candidate.Fits(domain, descriptor);
    });
    taking.overdraws = limit != limits_.end() && limit->overdraws;
    const double unit = by_route ? callout::plugins::SecondsOf(by_route->unit) : 0;
    if (unit > 0) {
      taking.shown = *by_route;
      const auto count = static_cast<double>(by_route->count);
      taking.rate = {count, count / (unit * by_route->units)};
    } else if (limit != limits_.end()) {
      taking.shown = limit->rate;
      taking.rate = limit->bucket;
      taking.name = limit->name;
    } else {
      return taking;
    }
    taking.is_limited = true;
    taking.over_limit = false;
    // A route's limit has buckets of its own, for each rate: who can choose between two of them
    // must not fill the bucket of the one at the rate of the other.
    if (unit > 0) taking.bucket = RouteBucket(*by_route);
    AppendPart(domain, &taking.bucket);
    for (const callout::Header& entry : descriptor.entries()) {
      AppendPart(entry.key, &taking.bucket);
      AppendPart(entry.value, &taking.bucket);
    }
    return taking;
  }

  static std::string RouteBucket(const callout::LimitRate& rate) {
    return "route " + std::to_string(rate.count) + " " + std::to_string(rate.unit) + " " +
           std::to_string(rate.units) + " ";
  }

  void Take(Taking* taking, TokenBuckets::Time now) const {
    if (!taking->is_limited) return;
    const TokenBuckets::Outcome outcome =
        buckets_.Take(taking->bucket, taking->rate, taking->hits, taking->overdraws, now);
    taking->tokens = outcome.tokens;
    taking->taken = outcome.kind == TokenBuckets::Kind::kTaken;
    taking->over_limit = !taking->taken;
    if (outcome.kind == TokenBuckets::Kind::kFull) full_.add();
  }

  void GiveBack(Taking* taking, double hits, TokenBuckets::Time now) const {
    if (!taking->is_limited) return;
    taking->tokens = buckets_.GiveBack(taking->bucket, taking->rate, hits, now).tokens;
  }

  void Answer(const RateLimitCall& call, const std::vector<Taking>& takings,
              bool over_limit) const {
    uint32_t retry_after = 0;
    for (const Taking& taking : takings) {
      LimitStatus status;
      status.over_limit = taking.over_limit;
      if (taking.is_limited) {
        status.rate = taking.shown;
        status.name = taking.name;
        status.remaining = static_cast<uint32_t>(std::max(taking.tokens, 0.0));
        status.reset_seconds =
            TokenBuckets::SecondsUntil(taking.rate.capacity, taking.tokens, taking.rate);
        if (taking.over_limit) {
          // What has overdrawn the bucket need not be taken again.
          const double wanted = taking.overdraws ? 1 : std::max(taking.hits, 1.0);
          retry_after =
              std::max(retry_after, TokenBuckets::SecondsUntil(wanted, taking.tokens, taking.rate));
        }
      }
      call.add_status(status);
    }
    (over_limit ? over_ : within_).add();
    if (!over_limit) return;
    if (retry_after > 0) call.add_response_header("retry-after", std::to_string(retry_after));
    call.over_limit();
  }

  const std::vector<Limit> limits_;
  const bool refuses_unknown_;
  const TokenBuckets buckets_;
  callout::Counter within_, over_, full_;
};

}  // namespace

CALLOUT_PLUGIN_CLASS(LocalRateLimit,
                     ("local_rate_limit", "1.0.0", "Limits rates by token buckets in shared data"),
                     rate_limit);
