// How many cores there are to use, which need not be all that the machine has.
#ifndef CALLOUT_HOST_BASE_CORES_H_
#define CALLOUT_HOST_BASE_CORES_H_

#include <optional>
#include <string_view>

namespace callout::host {

// The cores that this process may run on (sched_getaffinity), or what CPU time its
// cgroup allows if that is less: a container with a limit of 1.5 cores on a
// machine with 64 gets 2. At least 1. Any thread.
int UsableCores();

// The same of cgroup v2's cpu.max: "QUOTA PERIOD" in microseconds, rounded up to
// whole cores. Nothing if there is no limit ("max PERIOD"), or the text is none.
std::optional<int> CoresOfCpuMax(std::string_view cpu_max);

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_CORES_H_
