// SPDX-License-Identifier: Apache-2.0

// A plugin as a class, for plugin_class_test: one of everything the class form offers.
#include <atomic>
#include <callout/plugin.hpp>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <thread>

namespace {

class Limiter {
 public:
  explicit Limiter(callout::Setup& setup)
      : limit_(static_cast<size_t>(std::atoi(std::string(setup.config()).c_str()))),
        refused_(setup.counter("refused_total", "Requests refused")),
        open_(setup.gauge("open_bytes", "Bytes of the last chunk")),
        sizes_(setup.histogram("body_bytes", "Bytes of bodies")) {
    if (setup.config() == "throw") throw std::runtime_error("cannot make sense of it");
    if (setup.config() == "fail") setup.fail("limit is not a number");
    if (setup.config() == "clash") setup.gauge("refused_total", "known as a counter");
    setup.want_whole_bodies(1000);
    setup.set_blocking();
    if (setup.config() == "no trailers") setup.skip(CALLOUT_REQUEST_TRAILERS);
  }
  ~Limiter() { --live; }

  struct Stream {
    explicit Stream(Limiter& limiter) : limit(limiter.limit_) { ++live_streams; }
    ~Stream() { --live_streams; }
    size_t limit;
    size_t bytes = 0;
    std::atomic<bool> cancelled{false};
  };

  void on_stream_open(const callout::OpenCall& call) {
    if (call.grpc_metadata("x-refuse").has_value()) call.deny_callout("not you");
  }
  void on_request_headers(callout::HeadersCall call, Stream& stream) {
    if (call.headers().contains("x-until-cancelled")) {
      open_.set(kWaiting);
      while (!stream.cancelled) std::this_thread::yield();
      call.set_header("x-cancelled", "1");
    }
    call.set_header("x-limit", std::to_string(stream.limit));
    call.set_header("x-live-streams", std::to_string(live_streams));
  }
  void on_request_body(callout::BodyCall& call, Stream& stream) {
    stream.bytes += call.body().size();
    open_.set(static_cast<double>(call.body().size()));
    sizes_.observe(static_cast<double>(stream.bytes));
    if (stream.bytes <= stream.limit) return;
    refused_.add();
    call.deny(413);
  }
  void on_request_trailers(callout::TrailersCall& call) { call.set_header("x-trailer", "1"); }
  void on_process(const callout::ProcessCall& call) {
    if (auto headers = call.as_headers(); headers && headers->headers().contains("x-process")) {
      headers->set_header("x-processed", "1");
    } else {
      call.next();
    }
  }
  void on_stream_cancel(Stream& stream) {
    stream.cancelled = true;
    throw std::runtime_error("nobody is left");
  }

 private:
  static constexpr double kWaiting = 77;  // plugin_class_test waits for it
  size_t limit_;
  callout::Counter refused_;
  callout::Gauge open_;
  callout::Histogram sizes_;
  static int live;
  static int live_streams;
};

int Limiter::live = 0;
int Limiter::live_streams = 0;

}  // namespace

CALLOUT_PLUGIN();
CALLOUT_PLUGIN_CLASS(Limiter, stream_open, stream_cancel, process, request_headers, request_body,
                     request_trailers);
