// SPDX-License-Identifier: Apache-2.0

// How many cores are available to this process, which may be fewer than the machine has.
#ifndef CALLOUT_HOST_BASE_CORES_H_
#define CALLOUT_HOST_BASE_CORES_H_

#include <optional>
#include <string_view>

namespace callout::host {

// The cores that this process may run on (sched_getaffinity), or its cgroup's CPU
// limit if that is lower: a container with a limit of 1.5 cores on a machine with 64
// has 2. At least 1. Any thread.
int UsableCores();

// The same of cgroup v2's cpu.max: "QUOTA PERIOD" in microseconds, rounded up to
// whole cores. Nothing if there is no limit ("max PERIOD") or the text is invalid.
std::optional<int> CoresOfCpuMax(std::string_view cpu_max);

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_CORES_H_
