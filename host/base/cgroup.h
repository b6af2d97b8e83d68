// SPDX-License-Identifier: Apache-2.0

// Finds the cgroup (version 2) of this process, for its limits on CPU and memory.
//
// Plain functions; any thread.
//
// Tested by tests/host/base/memory_budget_test.cc.
#ifndef CALLOUT_HOST_BASE_CGROUP_H_
#define CALLOUT_HOST_BASE_CGROUP_H_

#include <optional>
#include <string>

namespace callout::host {

inline constexpr char kCgroupRoot[] = "/sys/fs/cgroup";

// The path of the process's cgroup under kCgroupRoot, "/" for the root; nothing without a cgroup of
// version 2. A container sees its own cgroup as the root.
std::optional<std::string> OwnCgroup();

// The first line of a file such as memory.max; "" if it cannot be read.
std::string FirstLineOf(const std::string& path);

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_CGROUP_H_
