// SPDX-License-Identifier: Apache-2.0

// The last faults of this process, for people who look for the reason: one entry for each plugin,
// phase and kind, with its last occurrence. So a plugin that fails all the time hides no other.
//
//   RecentFaults::InProcess().Note({.plugin = "waf", .phase = "request_headers", …});
//   for (const RecentFault& fault : RecentFaults::InProcess().List()) …
//
// Any thread.
#ifndef CALLOUT_HOST_PLUGIN_RECENT_FAULTS_H_
#define CALLOUT_HOST_PLUGIN_RECENT_FAULTS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

namespace callout::host {

struct RecentFault {
  std::string plugin;
  std::string phase;
  std::string kind;
  std::string what;        // what was found; "": the kind says it all
  std::string request_id;  // x-request-id, if the message had one
  std::string trace_id;    // if the exchange is part of a trace
  uint64_t stream_id = 0;
  uint64_t time_ns = 0;  // CLOCK_MONOTONIC
  uint64_t count = 0;    // of faults like it since the process began
};

class RecentFaults {
 public:
  // Entries; a new one takes the place of the one that is oldest.
  static constexpr size_t kMax = 128;
  // Longer texts are cut.
  static constexpr size_t kTextBytesMax = 512;

  static RecentFaults& InProcess();

  // `count` of `fault` is ignored.
  void Note(RecentFault fault);
  // Newest first.
  std::vector<RecentFault> List() const;

 private:
  using Key = std::tuple<std::string, std::string, std::string>;  // plugin, phase, kind

  mutable std::mutex mutex_;  // guards the following
  // Shared, so that a reader of the list copies no texts while streams wait to note a fault.
  std::map<Key, std::shared_ptr<const RecentFault>> faults_;
};

// The lists of several processes as one: one entry for each plugin, phase and kind, with the last
// occurrence and the sum of the counts. Newest first, RecentFaults::kMax at most.
std::vector<RecentFault> JoinRecentFaults(std::vector<RecentFault> faults);

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_RECENT_FAULTS_H_
