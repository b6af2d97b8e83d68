// SPDX-License-Identifier: Apache-2.0

// A rate limit hook that does what the descriptors' entry "do" says, for rate_limit_test.cc.
#include <callout/plugin.hpp>
#include <stdexcept>
#include <string>
#include <thread>

namespace {

class Limiter {
 public:
  struct Stream {
    int calls = 0;
  };

  void on_rate_limit(callout::RateLimitCall& call, Stream& stream) {
    ++stream.calls;
    std::string deed;
    for (const callout::Descriptor& descriptor : call.descriptors()) {
      if (const auto found = descriptor.get("do")) deed = *found;
    }
    if (deed == "within") {
      call.add_request_header("x-tier", "gold");
      call.add_response_header("x-seen", "1");
    } else if (deed == "over") {
      call.add_response_header("retry-after", "3");
      call.over_limit("slow down");
    } else if (deed == "statuses") {
      AddStatuses(call);
    } else if (deed == "facts") {
      call.over_limit(Facts(call));
    } else if (deed == "evil") {
      call.add_response_header("x", "a\r\nb");
    } else if (deed == "throw") {
      call.over_limit();
      throw std::runtime_error("thrown");
    } else if (deed == "fail") {
      call.fail("failed", CALLOUT_UNAVAILABLE);
    } else if (deed == "metadata") {
      callout::StructWriter metadata;
      metadata.set("user", "ada");
      call.set_metadata(metadata);
    } else if (deed == "defer") {
      std::thread([deferred = call.defer()]() mutable {
        deferred.finish_with([](const callout::RateLimitCall& later) { later.over_limit(); });
      }).detach();
    }
  }

 private:
  // The second descriptor of each is over its limit.
  static void AddStatuses(const callout::RateLimitCall& call) {
    int number = 0;
    for ([[maybe_unused]] const callout::Descriptor& descriptor : call.descriptors()) {
      callout::LimitStatus status;
      status.over_limit = ++number == 2;
      status.rate = callout::LimitRate{10, CALLOUT_PER_MINUTE, 5};
      status.name = "per user";
      status.remaining = 7;
      status.reset_seconds = 30;
      call.add_status(number == 3 ? callout::LimitStatus() : status);
    }
  }

  // "test [user=ada;path=/|3] [do=facts|1|back|7 per 2x5]"
  static std::string Facts(const callout::RateLimitCall& call) {
    std::string facts(call.domain());
    for (const callout::Descriptor& descriptor : call.descriptors()) {
      std::string entries;
      for (const callout::Header& entry : descriptor.entries()) {
        if (!entries.empty()) entries += ";";
        entries.append(entry.key).append("=").append(entry.value);
      }
      facts += " [" + entries + "|" + std::to_string(descriptor.hits());
      if (descriptor.gives_back()) facts += "|back";
      if (const auto limit = descriptor.limit()) {
        facts += "|" + std::to_string(limit->count) + " per " + std::to_string(limit->units) + "x" +
                 std::to_string(limit->unit);
      }
      facts += "]";
    }
    return facts;
  }
};

}  // namespace

CALLOUT_PLUGIN_CLASS(Limiter, ("limiter", "1.0.0", "Does as it is told"), rate_limit);
