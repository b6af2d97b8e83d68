// SPDX-License-Identifier: Apache-2.0

// A Check hook that does what the request's header x-do says, for check_test.cc.
#include <callout/plugin.hpp>
#include <stdexcept>
#include <string>
#include <thread>

namespace {

class Checker {
 public:
  struct Stream {
    int calls = 0;
  };

  void on_check(callout::CheckCall& call, Stream& stream) {
    ++stream.calls;
    const std::string_view deed = call.headers().get("x-do", "");
    if (deed == "allow") {
      call.allow()
          .set_header("x-user", "ada")
          .append_header("x-list", "b")
          .remove_header("x-secret")
          .set_query("q", "x y")
          .remove_query("token")
          .set_response_header("x-seen", "1")
          .append_response_header("set-cookie", "a=1");
    } else if (deed == "refuse") {
      call.refuse(401).set_header("www-authenticate", "Bearer").append_header("x", "1").body("no");
    } else if (deed == "both") {
      call.allow().set_header("x-user", "ada");
      call.deny(403, "no");
      call.allow();
    } else if (deed == "deny and fail") {
      call.deny(403, "no");
      call.fail("later");
    } else if (deed == "deny and throw") {
      call.deny(403, "no");
      throw std::runtime_error("later");
    } else if (deed == "allow and deny") {
      const callout::Allowance allowance = call.allow().set_header("x-user", "ada");
      call.deny(403, "no");
      allowance.set_header("x-internal-token", "s3cret").set_response_header("x-r", "1");
    } else if (deed == "error") {
      call.error();
    } else if (deed == "status") {
      call.deny(99);
    } else if (deed == "evil") {
      call.allow().set_header("x", "a\r\nb");
    } else if (deed == "throw") {
      throw std::runtime_error("thrown");
    } else if (deed == "metadata") {
      callout::StructWriter metadata;
      metadata.set("user", "ada");
      call.set_metadata(metadata);
      callout::allow_request(call, {{"x-a", "1"}});
    } else if (deed == "tool") {
      callout::deny_request(call, 403, "no", {{"x-a", "1"}});
    } else if (deed == "defer") {
      std::thread([deferred = call.defer()]() mutable {
        deferred.finish_with([](const callout::CheckCall& later) { later.allow(); });
      }).detach();
    } else if (deed == "facts") {
      const callout::Peer source = call.source();
      const std::string facts = std::string(call.method()) + " " + std::string(call.path()) + " " +
                                std::string(call.authority()) + " " + std::string(source.address) +
                                ":" + std::to_string(source.port) + " " +
                                std::string(call.principal()) + " " + std::string(call.body()) +
                                " " + std::string(call.extension("route").value_or("none")) + " " +
                                std::string(source.certificate) + " " + std::string(call.sni());
      call.refuse().body(facts);
    } else if (call.is_connection()) {
      call.allow();
    }
  }
};

}  // namespace

CALLOUT_PLUGIN_CLASS(Checker, ("checker", "1.0.0", "Does as it is told"), check);
