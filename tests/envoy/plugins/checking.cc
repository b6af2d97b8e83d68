// SPDX-License-Identifier: Apache-2.0

// Answers a Check as the request's own header x-check-NAME says, where "as NAME" is the
// configuration (without one: x-check):
//
//   HEX       a serialized CheckResponse, answered as it is
//   nothing   nothing is set
//   denied    CALLOUT_PERMISSION_DENIED
//   failed    CALLOUT_INTERNAL
//   denied_then_failed, allowed_then_failed  answers, and then CALLOUT_INTERNAL
//   thrown    allows, and then throws
//   late      the call is deferred and not answered in time
//   never     the call is deferred and never answered
//   early     the call is deferred, and allowed before the hook returns
//   large N   a denial with a body of N bytes
//   show      a denial with status 200 whose body is what the plugin has been shown
//
// Without the header the request is allowed. A connection is refused if the client's
// address is 127.0.0.1 and the configuration is "no connection".
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

class Checking {
 public:
  explicit Checking(callout::Setup& setup) {
    const std::string_view config = setup.config();
    if (config.substr(0, 3) == "as ") header_ = "x-check-" + std::string(config.substr(3));
    refuses_connections_ = config == "no connection";
  }

  void on_check(callout::CheckCall& call) const {
    if (call.is_connection()) {
      if (refuses_connections_ && call.source().address == "127.0.0.1") return call.deny();
      call.allow();
      return;
    }
    const std::string_view deed = call.headers().get(header_, "");
    if (deed.empty()) {
      call.allow();
    } else if (deed == "denied") {
      call.fail("denied", CALLOUT_PERMISSION_DENIED);
    } else if (deed == "failed") {
      call.fail("failed");
    } else if (deed == "denied_then_failed") {
      call.deny();
      call.fail("failed");
    } else if (deed == "allowed_then_failed") {
      call.allow();
      call.fail("failed");
    } else if (deed == "thrown") {
      call.allow();
      throw std::runtime_error("thrown");
    } else if (deed == "never") {
      static std::mutex mutex;
      static std::vector<callout::Deferred<callout::CheckCall>> held;
      const std::lock_guard<std::mutex> lock(mutex);
      held.push_back(call.defer());
    } else if (deed == "early") {
      std::thread([deferred = call.defer()]() mutable {
        deferred->allow().set_header("x-early", "1");
        deferred.finish();
      }).join();
    } else if (deed.substr(0, 6) == "large ") {
      call.deny(403, std::string(std::stoul(std::string(deed.substr(6))), 'x'));
    } else if (deed == "show") {
      call.deny(200, Shown(call));
    } else if (deed == "late") {
      std::thread([deferred = call.defer()]() mutable {
        std::this_thread::sleep_for(std::chrono::milliseconds(600));
        deferred->allow();
        deferred.finish();
      }).detach();
    } else if (deed != "nothing") {
      const std::string bytes = FromHex(deed);
      const callout_bytes_t part = callout::to_bytes(bytes);
      call.raw()->host->respond(call.raw(), CALLOUT_WHOLE_RESPONSE, &part, 1);
    }
  }

 private:
  // "NAME=VALUE" on a line each.
  static std::string Shown(const callout::CheckCall& call) {
    std::string text;
    const auto add = [&text](std::string_view name, std::string_view value) {
      text.append(name).append("=").append(value).append("\n");
    };
    add("method", call.method());
    add("path", call.path());
    add("authority", call.authority());
    add("scheme", call.scheme());
    add("protocol", call.protocol());
    add("body", call.body());
    add("source", call.source().address);
    add("principal", call.principal());
    add("certificate", call.source().certificate);
    add("sni", call.sni());
    add("route", call.extension("route").value_or("(none)"));
    for (const callout::Header& header : call.headers()) add(header.key, header.value);
    return text;
  }

  std::string header_ = "x-check";
  bool refuses_connections_ = false;
};

}  // namespace

CALLOUT_PLUGIN_CLASS(Checking, ("checking", "1.0", "Answers as it is told"), check);
