// SPDX-License-Identifier: Apache-2.0

// A plugin that uses timers and shared data as its request headers say, for extensions_test.
#include <chrono>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>

#include <callout/calls.hpp>
#include <callout/plugin.hpp>
#include <callout/shared_data.hpp>
#include <callout/timers.hpp>
#include <callout/trace.hpp>

namespace {

class Extended {
 public:
  explicit Extended(callout::Setup& setup)
      : timers_(setup),
        own_(setup),
        common_(setup, "common"),
        service_(setup.host().raw(), "service"),
        trace_(setup),
        refreshes_(setup.counter("refreshes_total", "Refreshes")) {
    refresh_ = timers_.every(
        std::chrono::minutes(1), [this] { refreshes_.add(); }, std::chrono::minutes(1));
    if (setup.config() == "fail") setup.fail("as told");
  }

  void on_request_headers(callout::HeadersCall call) {
    const auto told = [&](std::string_view name) {
      return std::string(call.headers().get(name, ""));
    };
    if (const std::string late = told("x-late-ms"); !late.empty()) return AnswerLater(call, late);
    if (const std::string path = told("x-ask"); !path.empty()) return AskAndAnswer(call, path);
    if (const std::string path = told("x-begin"); !path.empty()) Begin(path);
    if (call.headers().contains("x-end")) begun_.cancel();
    if (call.headers().contains("x-throw"))
      timers_.run([] { throw std::runtime_error("no luck"); });
    if (call.headers().contains("x-stop")) refresh_.cancel();
    if (call.headers().contains("x-count")) {
      const auto sum = common_.add("count", 1, std::chrono::seconds(10));
      call.set_header("x-sum", sum.has_value() ? std::to_string(*sum) : "none");
    }
    if (const std::string text = told("x-keep"); !text.empty()) {
      call.set_header("x-status", std::to_string(own_.put("kept", text, std::chrono::seconds(10))));
    }
    if (const std::string text = told("x-append"); !text.empty()) {
      own_.update("kept",
                  [&](std::optional<std::string> before) { return before.value_or("") + text; });
    }
    if (call.headers().contains("x-forget")) {
      call.set_header("x-status", std::to_string(own_.remove("kept")));
    }
    if (call.headers().contains("x-trace")) Trace(call);
    call.set_header("x-kept", own_.get("kept").value_or("none"));
  }

 private:
  void Trace(callout::HeadersCall& call) {
    const callout::Span span = trace_.span(call);
    span.set("text", "t");
    span.set("string", std::string("s"));
    span.set("whole", -1);
    span.set("size", size_t{7});
    span.set("real", 0.25);
    span.set("flag", true);
    span.event("looked up", {{"hit", false}, {"entries", 3}});
    span.event("done");
    call.set_header("x-recorded", span ? "1" : "0");
    const auto context = trace_.context(call);
    call.set_header("x-traceparent", context.has_value() ? context->traceparent : "none");
    call.set_header("x-tracestate", context.has_value() ? context->tracestate : "none");
  }
  void AnswerLater(callout::HeadersCall& call, const std::string& late) {
    const std::chrono::milliseconds delay(std::atoi(late.c_str()));
    callout::Timer timer = timers_.after(delay, [this, deferred = call.defer().share()] {
      deferred->finish_with([this](auto& later) {
        trace_.span(later).set("late", true);
        later.set_header("x-late", "1");
      });
    });
    timer.detach();
  }

  void AskAndAnswer(callout::HeadersCall& call, const std::string& path) {
    callout::HttpRequest request;
    request.path = path;
    request.headers = {{"x-more", std::string(call.headers().get("x-more", "-"))}};
    service_.call(request, call.defer(),
                  [this](callout::HeadersCall& later, const callout::IncomingResponse& response) {
                    if (response.body() == "throw") throw std::runtime_error("as told");
                    later.set_header("x-status", std::to_string(response.status()));
                    later.set_header("x-body", response.body());
                    later.set_header("x-kind", response.header("x-kind", "none"));
                    own_.put("answered", response.body());
                  });
  }
  // In the background.
  void Begin(const std::string& path) {
    callout::GrpcRequest request;
    request.path = path;
    request.message = "m";
    begun_ = service_.start(request, [this](const callout::IncomingResponse& response) {
      own_.put("begun", std::to_string(response.status()) + " " + std::string(response.message()));
      if (response.is_from_service()) throw std::runtime_error("no luck");
    });
  }

  callout::Timers timers_;
  callout::SharedData own_, common_;
  callout::Upstream service_;
  callout::OutgoingCall begun_;
  callout::Trace trace_;
  callout::Counter refreshes_;
  callout::Timer refresh_;
};

}  // namespace

CALLOUT_PLUGIN_CLASS(Extended, ("extended", "1.0.0", "Uses every extension"), request_headers);
