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
  Key key{fault.plugin, fault.phase, fault.kind};
  const auto noted = std::make_shared<RecentFault>(std::move(fault));
  std::shared_ptr<const RecentFault> replaced;  // freed when the lock is
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto known = faults_.find(key);
  if (known != faults_.end()) {
    noted->count = known->second->count + 1;
    replaced = std::exchange(known->second, noted);
    return;
  }
  if (faults_.size() >= kMax) {
    faults_.erase(std::min_element(
        faults_.begin(), faults_.end(),
        [](const auto& a, const auto& b) { return a.second->time_ns < b.second->time_ns; }));
  }
  noted->count = 1;
  faults_.emplace(std::move(key), noted);
}

std::vector<RecentFault> JoinRecentFaults(std::vector<RecentFault> faults) {
  std::stable_sort(faults.begin(), faults.end(), [](const RecentFault& a, const RecentFault& b) {
    return a.time_ns > b.time_ns;
  });
  std::map<std::tuple<std::string, std::string, std::string>, size_t> places;
  std::vector<RecentFault> joined;
  for (RecentFault& fault : faults) {
    const auto [place, is_new] =
        places.try_emplace({fault.plugin, fault.phase, fault.kind}, joined.size());
    if (is_new) {
      joined.push_back(std::move(fault));
    } else {
      joined[place->second].count += fault.count;
    }
  }
  joined.resize(std::min(joined.size(), RecentFaults::kMax));
  return joined;
}

std::vector<RecentFault> RecentFaults::List() const {
  std::vector<std::shared_ptr<const RecentFault>> shared;
  shared.reserve(kMax);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& [key, fault] : faults_) shared.push_back(fault);
  }
  std::sort(shared.begin(), shared.end(),
            [](const auto& a, const auto& b) { return a->time_ns > b->time_ns; });
  std::vector<RecentFault> list;
  for (const auto& fault : shared) list.push_back(*fault);
  return list;
}

}  // namespace callout::host
