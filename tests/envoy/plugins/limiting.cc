// SPDX-License-Identifier: Apache-2.0

// Answers a rate limit as an entry of its descriptors says: that with the key NAME, where
// "as NAME" is the configuration (without one: "deed"):
//
//   HEX       a serialized RateLimitResponse, answered as it is
//   nothing   nothing is set
//   denied    CALLOUT_PERMISSION_DENIED
//   failed    CALLOUT_INTERNAL
//   over_then_failed, within_then_failed  answers, and then CALLOUT_INTERNAL
//   thrown    says that the request is within its limits, and then throws
//   late      the call is deferred and not answered in time
//   never     the call is deferred and never answered
//   show      over the limit, with a body that is what the plugin has been shown
#include <callout/plugin.hpp>
#include <chrono>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

std::string FromHex(std::string_view hex) {
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16)));
  }
  return bytes;
}

class Limiting {
 public:
  explicit Limiting(callout::Setup& setup) {
    const std::string_view config = setup.config();
    if (config.substr(0, 3) == "as ") key_ = config.substr(3);
  }

  void on_rate_limit(callout::RateLimitCall& call) const {
    std::string deed;
    for (const callout::Descriptor& descriptor : call.descriptors()) {
      if (const auto found = descriptor.get(key_)) deed = *found;
    }
    if (deed == "denied") {
      call.fail("denied", CALLOUT_PERMISSION_DENIED);
    } else if (deed == "failed") {
      call.fail("failed");
    } else if (deed == "over_then_failed") {
      call.over_limit();
      call.fail("failed");
    } else if (deed == "within_then_failed") {
      call.add_request_header("x-within", "1");
      call.fail("failed");
    } else if (deed == "thrown") {
      call.add_request_header("x-within", "1");
      throw std::runtime_error("thrown");
    } else if (deed == "never") {
      static std::mutex mutex;
      static std::vector<callout::Deferred<callout::RateLimitCall>> held;
      const std::lock_guard<std::mutex> lock(mutex);
      held.push_back(call.defer());
    } else if (deed == "show") {
      call.over_limit(Shown(call));
    } else if (deed == "late") {
      std::thread([deferred = call.defer()]() mutable {
        std::this_thread::sleep_for(std::chrono::milliseconds(600));
        deferred.finish();
      }).detach();
    } else if (deed != "nothing") {
      const std::string bytes = FromHex(deed);
      const callout_bytes_t part = callout::to_bytes(bytes);
      call.raw()->host->respond(call.raw(), CALLOUT_WHOLE_RESPONSE, &part, 1);
    }
  }

 private:
  // "DOMAIN: KEY=VALUE KEY=VALUE, HITS hits", with a line for each descriptor, and
  // ", COUNT per UNITSxUNIT" where the route gives a limit.
  static std::string Shown(const callout::RateLimitCall& call) {
    std::string text;
    for (const callout::Descriptor& descriptor : call.descriptors()) {
      text.append(call.domain()).append(":");
      for (const callout::Header& entry : descriptor.entries()) {
        text.append(" ").append(entry.key).append("=").append(entry.value);
      }
      text.append(", ").append(std::to_string(descriptor.hits())).append(" hits");
      if (const auto limit = descriptor.limit()) {
        text.append(", ").append(std::to_string(limit->count)).append(" per ");
        text.append(std::to_string(limit->units)).append("x").append(std::to_string(limit->unit));
      }
      text.append("\n");
    }
    return text;
  }

  std::string key_ = "deed";
};

}  // namespace

CALLOUT_PLUGIN_CLASS(Limiting, ("limiting", "1.0", "Answers as it is told"), rate_limit);
