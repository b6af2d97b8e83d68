// SPDX-License-Identifier: Apache-2.0

// callout/started.hpp - what a plugin has started and the host runs later. Include
// <callout/timers.hpp> or <callout/calls.hpp>, which are built on it.
//
// Thread: an object belongs to one thread at a time.
#ifndef CALLOUT_STARTED_HPP_
#define CALLOUT_STARTED_HPP_

#include <callout/host.hpp>
#include <cstdint>
#include <exception>
#include <utility>

namespace callout {
namespace internal {

// Something that was started. It is cancelled with the object, unless detach() was called.
// `Table` is the extension's, with `cancel`.
template <class Table>
class Started {
 public:
  Started() = default;
  Started(const Table* table, const callout_host_t* host, uint64_t id)
      : table_(table), host_(host), id_(id) {}
  Started(Started&& other) noexcept
      : table_(other.table_), host_(other.host_), id_(std::exchange(other.id_, 0)) {}
  Started& operator=(Started&& other) noexcept {
    if (this == &other) return *this;
    cancel();
    table_ = other.table_;
    host_ = other.host_;
    id_ = std::exchange(other.id_, 0);
    return *this;
  }
  ~Started() { cancel(); }

  // Whether there is one: false if it could not be started, and after cancel().
  explicit operator bool() const { return id_ != 0; }
  // True: its function runs no more. False: it is over, or running at this moment, for the last
  // time; cancel never waits.
  bool cancel() {
    const uint64_t id = std::exchange(id_, 0);
    return id != 0 && table_->cancel(host_, id) == CALLOUT_OK;
  }
  // It goes on by itself, until it is over or the instance ends.
  void detach() { id_ = 0; }

 private:
  const Table* table_ = nullptr;
  const callout_host_t* host_ = nullptr;
  uint64_t id_ = 0;
};

// Runs what nobody waits for: what it throws is logged as thrown by `what`.
template <class Work>
void run_and_log(const callout_host_t* host, const char* what, Work&& work) noexcept {
#if defined(__cpp_exceptions)
  try {
    work();
  } catch (const std::exception& error) {
    Host(host).error(what, " threw: ", error.what());
  } catch (...) {
    Host(host).error(what, " threw");
  }
#else
  static_cast<void>(host);
  static_cast<void>(what);
  work();
#endif
}

}  // namespace internal
}  // namespace callout

#endif  // CALLOUT_STARTED_HPP_
