// SPDX-License-Identifier: Apache-2.0

// When what is due: deadlines that differ from one another (Deadlines), and waits
// that all take equally long (TimeoutQueue), which cost no memory and no search.
//
//   Deadlines<Call> deadlines;
//   deadlines.Move(call, old_ns, new_ns);               // 0: none
//   deadlines.TakeDue(now_ns, [](Call* call) { … });     // which moves its own
//
//   TimeoutQueue<Call> first_message(10 s);
//   first_message.Start(&call->wait, now_ns);  …  TimeoutQueue<Call>::Stop(&call->wait);
//
// Times are CLOCK_MONOTONIC in nanoseconds. One thread's each.
#ifndef CALLOUT_HOST_TRANSPORT_DEADLINES_H_
#define CALLOUT_HOST_TRANSPORT_DEADLINES_H_

#include <cstdint>
#include <set>
#include <utility>

namespace callout::host {

// The earlier of two deadlines, where 0 is never.
inline uint64_t EarlierDeadline(uint64_t a_ns, uint64_t b_ns) {
  if (a_ns == 0 || b_ns == 0) return a_ns + b_ns;
  return a_ns < b_ns ? a_ns : b_ns;
}

template <class T>
class Deadlines {
 public:
  // `old_ns` is what the last Move for `owner` has set; 0: none.
  void Move(T* owner, uint64_t old_ns, uint64_t new_ns) {
    if (old_ns == new_ns) return;
    if (old_ns != 0) due_.erase({old_ns, owner});
    if (new_ns != 0) due_.insert({new_ns, owner});
  }
  // 0: there is none.
  uint64_t next_ns() const { return due_.empty() ? 0 : due_.begin()->first; }
  // Calls `on_due` with each owner whose deadline has come, earliest first; it must
  // move that owner's deadline past `now_ns`, and may move others.
  template <class OnDue>
  void TakeDue(uint64_t now_ns, OnDue on_due) {
    while (!due_.empty() && due_.begin()->first <= now_ns) on_due(due_.begin()->second);
  }

 private:
  std::set<std::pair<uint64_t, T*>> due_;
};

template <class T>
class TimeoutQueue {
 public:
  // One wait of `owner`'s, which has the entry as a member. In one queue at most.
  class Entry {
   public:
    explicit Entry(T* owner) : owner_(owner) {}
    ~Entry() { Stop(this); }
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;
    bool waits() const { return next_ != nullptr; }

   private:
    friend class TimeoutQueue;
    T* const owner_;
    Entry* previous_ = nullptr;
    Entry* next_ = nullptr;  // null: in no queue
    uint64_t due_ns_ = 0;
  };

  // 0: its waits never end.
  explicit TimeoutQueue(uint64_t timeout_ns) : timeout_ns_(timeout_ns), ends_(nullptr) {
    ends_.previous_ = ends_.next_ = &ends_;
  }
  // Every entry has been stopped.
  ~TimeoutQueue() { ends_.next_ = nullptr; }
  TimeoutQueue(const TimeoutQueue&) = delete;
  TimeoutQueue& operator=(const TimeoutQueue&) = delete;

  // Begins the wait, anew if the entry waits already. `now_ns` never goes back.
  void Start(Entry* entry, uint64_t now_ns) {
    Stop(entry);
    entry->due_ns_ = now_ns + timeout_ns_;
    entry->previous_ = ends_.previous_;
    entry->next_ = &ends_;
    entry->previous_->next_ = entry;
    ends_.previous_ = entry;
  }
  // Harmless if it does not wait.
  static void Stop(Entry* entry) {
    if (entry->next_ == nullptr) return;
    entry->previous_->next_ = entry->next_;
    entry->next_->previous_ = entry->previous_;
    entry->previous_ = entry->next_ = nullptr;
  }

  // 0: nothing waits for an end.
  uint64_t next_ns() const {
    return timeout_ns_ == 0 || ends_.next_ == &ends_ ? 0 : ends_.next_->due_ns_;
  }
  // Stops each wait that is over, longest ago first, and calls `on_due` with its
  // owner, which may then go.
  template <class OnDue>
  void TakeDue(uint64_t now_ns, OnDue on_due) {
    while (next_ns() != 0 && next_ns() <= now_ns) {
      Entry* entry = ends_.next_;
      Stop(entry);
      on_due(entry->owner_);
    }
  }
  // When the wait of `entry`, which waits, began.
  uint64_t began_ns(const Entry& entry) const { return entry.due_ns_ - timeout_ns_; }
  // Of all that wait, longest first. `visit` may stop the wait of, or destroy, the
  // owner it is given, and no other.
  template <class Visit>
  void ForEach(Visit visit) {
    for (Entry* entry = ends_.next_; entry != &ends_;) {
      T* const owner = entry->owner_;
      entry = entry->next_;
      visit(owner);
    }
  }

 private:
  const uint64_t timeout_ns_;
  Entry ends_;  // between the last and the first
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_TRANSPORT_DEADLINES_H_
