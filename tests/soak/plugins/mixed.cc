// SPDX-License-Identifier: Apache-2.0

// A bit of everything, as the request header x-mix says: headers always; bodies that are
// replaced; answers that come later, from a thread of the instance's own; denials.
#include <callout/plugin.hpp>
#include <cctype>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using Held = callout::Deferred<callout::HeadersCall>;

class Mixed {
 public:
  struct Stream {
    std::string mix;
  };

  ~Mixed() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    finisher_.join();
  }

  void on_request_headers(callout::HeadersCall& call, Stream& stream) {
    stream.mix = std::string(call.headers().get("x-mix", ""));
    call.set_header("x-version", VERSION);
    if (stream.mix == "deny") return call.deny(403, "denied");
    if (stream.mix != "defer") return;
    std::lock_guard<std::mutex> lock(mutex_);
    held_.push_back(call.defer());
    changed_.notify_all();
  }
  void on_request_body(callout::BodyCall& call, Stream& stream) { Replace(call, stream); }
  void on_response_headers(callout::HeadersCall& call, Stream&) {
    call.set_header("x-version", VERSION);
  }
  void on_response_body(callout::BodyCall& call, Stream& stream) { Replace(call, stream); }

 private:
  static void Replace(callout::BodyCall& call, const Stream& stream) {
    if (stream.mix != "replace") return;
    std::string body(call.body());
    for (char& c : body) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    call.set_body(std::move(body));
  }

  void Finish() {
    std::unique_lock<std::mutex> lock(mutex_);
    while (!stop_ || !held_.empty()) {
      changed_.wait_for(lock, std::chrono::milliseconds(5));
      std::vector<Held> held = std::exchange(held_, {});
      lock.unlock();
      for (Held& one : held) one.finish_with([](auto& later) { later.set_header("x-late", "1"); });
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Held> held_;
  bool stop_ = false;
  std::thread finisher_{[this] { Finish(); }};
};

}  // namespace

CALLOUT_PLUGIN();
CALLOUT_PLUGIN_INFO("mixed", VERSION, "A bit of everything, for soaks");
CALLOUT_PLUGIN_CLASS(Mixed, request_headers, request_body, response_headers, response_body);
