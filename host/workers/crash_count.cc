// SPDX-License-Identifier: Apache-2.0

#include "host/workers/crash_count.h"

namespace callout::host {

bool CrashCount::Add(const std::string& plugin, uint64_t now_ns) {
  ++totals_[plugin];
  if (limit_.crashes == 0) return false;
  std::deque<uint64_t>& recent = recent_[plugin];
  recent.push_back(now_ns);
  while (now_ns - recent.front() > limit_.seconds * uint64_t{1'000'000'000}) recent.pop_front();
  return recent.size() >= limit_.crashes;
}

}  // namespace callout::host
