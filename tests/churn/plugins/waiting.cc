// SPDX-License-Identifier: Apache-2.0

// Lets requests wait for calls to upstreams and for timers, as they say; makes calls and timers of
// its own in the background; and counts in shared data. It ends the process if the host
//
//   - runs a function of an instance that has been destroyed, or two that must not overlap;
//   - destroys an instance before it has released everything that the instance has started;
//   - returns from finish() something else than OK, CANCELLED or DEADLINE_EXCEEDED.
//
// The header x-plan has the steps of a message, each of which begins when the one before is over:
//
//   h, H  a call to the upstream "held" or "held2"
//   s     a call to "held" that may take 5 ms
//   f     a call to "free"
//   t     a timer
//   r     a call to "held2" and a timer: the first that ends ends the step and cancels the other
//   w     a task
//   ?     nothing: the response has the counts in shared data
//
// The response repeats x-id.
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include <callout/calls.hpp>
#include <callout/plugin.hpp>
#include <callout/shared_data.hpp>
#include <callout/timers.hpp>

namespace {

using std::chrono::milliseconds;

[[noreturn]] void Die(const char* what, int64_t number) {
  std::fprintf(stderr, "waiting.cc: %s (%jd)\n", what, static_cast<intmax_t>(number));
  std::abort();
}

// What the instances of this file have started and the host has not released, by the instance's
// number. It outlives them, so it can be asked about one that is gone.
class Ledger {
 public:
  static uint64_t Add() {
    const std::lock_guard<std::mutex> lock(mutex_);
    started_[++last_] = 0;
    return last_;
  }
  static void Change(uint64_t instance, int64_t by, const char* what) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = started_.find(instance);
    if (found == started_.end()) Die(what, static_cast<int64_t>(instance));
    found->second += by;
  }
  static void Remove(uint64_t instance) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const int64_t left = started_[instance];
    if (left != 0) Die("an instance is destroyed before all is released", left);
    started_.erase(instance);
  }

 private:
  inline static std::mutex mutex_;  // guards the following
  inline static std::map<uint64_t, int64_t> started_;
  inline static uint64_t last_ = 0;
};

// A part of whatever is started. The host releases it with the rest.
class Token {
 public:
  explicit Token(uint64_t instance) : instance_(instance) { Change(1); }
  Token(const Token& other) : instance_(other.instance_) { Change(1); }
  Token& operator=(const Token&) = delete;
  ~Token() { Change(-1); }

  void RequireAlive() const {
    Ledger::Change(instance_, 0, "a function of a destroyed instance runs");
  }

 private:
  void Change(int64_t by) const {
    Ledger::Change(instance_, by, "something of a destroyed instance is started or released");
  }

  const uint64_t instance_;
};

// One of several functions that must not overlap.
class Alone {
 public:
  explicit Alone(std::atomic<bool>* busy) : busy_(busy) {
    if (busy_->exchange(true)) Die("two functions overlap", 0);
  }
  ~Alone() { busy_->store(false); }
  Alone(const Alone&) = delete;
  Alone& operator=(const Alone&) = delete;

 private:
  std::atomic<bool>* const busy_;
};

// A message that waits.
struct Work {
  using Deferred = callout::Deferred<callout::HeadersCall>;

  Work(std::string with_plan, std::string with_id, std::shared_ptr<Deferred> call)
      : plan(std::move(with_plan)), id(std::move(with_id)), deferred(std::move(call)) {}

  const std::string plan, id;
  std::mutex mutex;                    // guards the following
  size_t step = 0;                     // the one that is under way
  std::shared_ptr<Deferred> deferred;  // null: it is finished
  callout::OutgoingCall call;
  callout::Timer timer;
};
using WorkPtr = std::shared_ptr<Work>;

class Waiting {
 public:
  struct Stream {
    explicit Stream(Waiting& of) : owner(of) { owner.opened_.add(); }
    ~Stream() { owner.closed_.add(); }
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;

    Waiting& owner;
    std::mutex mutex;  // guards the following, which a cancel reads
    WorkPtr work;
  };

  explicit Waiting(callout::Setup& setup)
      : version_(std::string(VERSION " ").append(setup.config())),
        timers_(setup),
        own_(setup),
        common_(setup, "churn"),
        held_(setup, "held"),
        held2_(setup, "held2"),
        free_(setup, "free"),
        made_(setup.counter("churn_made_total", "Instances made")),
        destroyed_(setup.counter("churn_destroyed_total", "Instances destroyed")),
        opened_(setup.counter("churn_opened_total", "Streams opened")),
        closed_(setup.counter("churn_closed_total", "Streams closed")),
        begun_(setup.counter("churn_begun_total", "Messages that wait or have waited")),
        finished_(setup.counter("churn_finished_total", "Those that were answered")),
        left_(setup.counter("churn_left_total", "Those whose client had left")),
        late_(setup.counter("churn_late_total", "Those whose deadline had passed")),
        cancels_(setup.counter("churn_cancels_total", "Calls and timers that a cancel has ended")),
        refused_(setup.counter("churn_refused_total", "Calls and timers that were not started")) {
    made_.add();
    tick_ = timers_.every(milliseconds(5), [this, token = Token(number_)] {
      token.RequireAlive();
      const Alone alone(&in_timer_);
      Tick();
    });
    if (!tick_) setup.fail("the host has not started the timer");
  }
  ~Waiting() {
    destroyed_.add();
    Ledger::Remove(number_);
  }
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;

  void on_request_headers(callout::HeadersCall& call, Stream& stream) { Wait(call, stream); }
  void on_response_headers(callout::HeadersCall& call, Stream& stream) { Wait(call, stream); }

  // Only wakes a thread.
  void on_stream_cancel(callout::CancelCall&, Stream& stream) {
    WorkPtr work;
    {
      const std::lock_guard<std::mutex> lock(stream.mutex);
      work = stream.work;
    }
    if (work == nullptr) return;
    const bool is_started = timers_.run([this, work, token = Token(number_)] {
      token.RequireAlive();
      const Alone alone(&in_timer_);
      Abandon(work);
    });
    if (!is_started) refused_.add();
  }

 private:
  void Wait(callout::HeadersCall& call, Stream& stream) {
    std::string plan(call.headers().get("x-plan", ""));
    std::string id(call.headers().get("x-id", ""));
    if (plan == "?") return Report(call);
    begun_.add();
    common_.add("begun", 1);
    const auto work = std::make_shared<Work>(std::move(plan), std::move(id), call.defer().share());
    {
      const std::lock_guard<std::mutex> lock(stream.mutex);
      stream.work = work;
    }
    GoOn(work);
  }
  void Report(callout::HeadersCall& call) const {
    call.set_header("x-begun", std::to_string(common_.add("begun", 0).value_or(-1)));
    call.set_header("x-over", own_.get("over").value_or("none"));
  }

  // Begins the next step; after the last, finishes the call.
  void GoOn(const WorkPtr& work) {
    std::unique_lock<std::mutex> lock(work->mutex);
    while (work->step < work->plan.size()) {
      if (Begin(work)) return;
      refused_.add();
      ++work->step;
    }
    const auto deferred = std::exchange(work->deferred, nullptr);
    lock.unlock();
    if (deferred == nullptr) return;
    const callout_status_t status = deferred->finish_with([&](callout::HeadersCall& later) {
      later.set_header("x-id", work->id);
      later.set_header("x-version", version_);
    });
    Count(*work, status);
  }
  // A step is over, unless it was already.
  void Advance(const WorkPtr& work, size_t step) {
    callout::OutgoingCall call;
    callout::Timer timer;
    {
      const std::lock_guard<std::mutex> lock(work->mutex);
      if (work->step != step || work->deferred == nullptr) return;
      ++work->step;
      call = std::move(work->call);
      timer = std::move(work->timer);
    }
    if (call.cancel()) cancels_.add();
    if (timer.cancel()) cancels_.add();
    GoOn(work);
  }
  // The client has left.
  void Abandon(const WorkPtr& work) {
    callout::OutgoingCall call;
    callout::Timer timer;
    std::shared_ptr<Work::Deferred> deferred;
    {
      const std::lock_guard<std::mutex> lock(work->mutex);
      deferred = std::exchange(work->deferred, nullptr);
      call = std::move(work->call);
      timer = std::move(work->timer);
    }
    if (call.cancel()) cancels_.add();
    if (timer.cancel()) cancels_.add();
    if (deferred != nullptr) Count(*work, deferred->finish());
  }
  void Count(const Work& work, callout_status_t status) {
    switch (status) {
      case CALLOUT_OK:
        finished_.add();
        break;
      case CALLOUT_CANCELLED:
        left_.add();
        break;
      case CALLOUT_DEADLINE_EXCEEDED:
        late_.add();
        break;
      default:
        Die("finish() returned", status);
    }
    own_.update("over", [](std::optional<std::string> before) {
      return std::to_string(std::atoll(before.value_or("0").c_str()) + 1);
    });
    own_.cache("of " + work.id, std::string(200, 'x'), milliseconds(500));
  }

  // With the lock of `work`. False: the host has not started it.
  bool Begin(const WorkPtr& work) {
    const milliseconds delay(std::atoll(work->id.c_str()) % 20);
    switch (work->plan[work->step]) {
      case 'h':
        return Ask(held_, work, milliseconds(0));
      case 'H':
        return Ask(held2_, work, milliseconds(0));
      case 's':
        return Ask(held_, work, milliseconds(5));
      case 'f':
        return Ask(free_, work, milliseconds(0));
      case 't':
        return RunLater(work, delay);
      case 'r': {
        const bool asks = Ask(held2_, work, milliseconds(0));
        return RunLater(work, delay) || asks;
      }
      default:
        return RunLater(work, milliseconds(0));
    }
  }
  bool Ask(const callout::Upstream& upstream, const WorkPtr& work, milliseconds timeout) {
    callout::HttpRequest request;
    request.path = "/of/" + work->id;
    request.timeout = timeout;
    request.headers = {{"x-step", std::to_string(work->step)}};
    request.body.assign(work->step * 100, 'b');
    work->call = upstream.start(request, [this, work, step = work->step, token = Token(number_)](
                                             const callout::IncomingResponse& response) {
      token.RequireAlive();
      const Alone alone(&in_done_);
      if (response.ok()) common_.cache(response.body(), response.header("x-kind", "-"));
      Advance(work, step);
    });
    return static_cast<bool>(work->call);
  }
  bool RunLater(const WorkPtr& work, milliseconds delay) {
    work->timer = timers_.after(delay, [this, work, step = work->step, token = Token(number_)] {
      token.RequireAlive();
      const Alone alone(&in_timer_);
      Advance(work, step);
    });
    return static_cast<bool>(work->timer);
  }

  // In the background: always some calls and timers, of which new ones take the place of old ones.
  void Tick() {
    const uint64_t number = ++ticks_;
    common_.add("ticks", 1, milliseconds(100));
    own_.put("tick " + std::to_string(number % 20), std::string(number % 300, 't'),
             milliseconds(30));
    own_.remove("tick " + std::to_string(number % 7));
    callout::HttpRequest request;
    request.path = "/background";
    const callout::Upstream& upstream = number % 4 == 0 ? free_ : held2_;
    calls_[number % calls_.size()] =
        upstream.start(request, [this, token = Token(number_)](const callout::IncomingResponse&) {
          token.RequireAlive();
          const Alone alone(&in_done_);
          common_.add("background", 1, milliseconds(100));
        });
    waits_[number % waits_.size()] =
        timers_.after(milliseconds(number % 50), [this, token = Token(number_)] {
          token.RequireAlive();
          const Alone alone(&in_timer_);
          common_.add("background", 1, milliseconds(100));
        });
    // It takes a while, so that an instance is likely to end in the middle of it.
    std::this_thread::sleep_for(milliseconds(3));
    if (number % 8 == 0) waits_[number % waits_.size()].detach();
    if (number % 16 == 0) calls_[number % calls_.size()].detach();
  }

  const uint64_t number_ = Ledger::Add();
  const std::string version_;
  std::atomic<bool> in_timer_{false}, in_done_{false};
  const callout::Timers timers_;
  const callout::SharedData own_, common_;
  const callout::Upstream held_, held2_, free_;
  const callout::Counter made_, destroyed_, opened_, closed_, begun_, finished_, left_, late_,
      cancels_, refused_;

  // Of the timer only.
  uint64_t ticks_ = 0;
  std::array<callout::OutgoingCall, 16> calls_;
  std::array<callout::Timer, 16> waits_;

  callout::Timer tick_;
};

}  // namespace

CALLOUT_PLUGIN_CLASS(Waiting, ("waiting", VERSION, "Waits for calls and timers, as it is told"),
                     stream_cancel, request_headers, response_headers);
