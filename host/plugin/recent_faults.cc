// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/recent_faults.h"

#include <algorithm>
#include <utility>

namespace callout::host {

RecentFaults& RecentFaults::InProcess() {
  // Never destroyed: plugins' threads may still run when the process ends.
  static auto* const faults = new RecentFaults();
  return *faults;
}

void RecentFaults::Note(RecentFault fault) {
  for (std::string* text : {&fault.what, &fault.request_id}) {
    text->resize(std::min(text->size(), kTextBytesMax));
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  Key key{fault.plugin, fault.phase, fault.kind};
  const auto known = faults_.find(key);
  if (known != faults_.end()) {
    fault.count = known->second.count + 1;
    known->second = std::move(fault);
    return;
  }
  if (faults_.size() >= kMax) {
    faults_.erase(std::min_element(
        faults_.begin(), faults_.end(),
        [](const auto& a, const auto& b) { return a.second.time_ns < b.second.time_ns; }));
  }
  fault.count = 1;
  faults_.emplace(std::move(key), std::move(fault));
}

std::vector<RecentFault> RecentFaults::List() const {
  std::vector<RecentFault> list;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& [key, fault] : faults_) list.push_back(fault);
  }
  std::sort(list.begin(), list.end(),
            [](const RecentFault& a, const RecentFault& b) { return a.time_ns > b.time_ns; });
  return list;
}

}  // namespace callout::host
