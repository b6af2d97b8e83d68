// SPDX-License-Identifier: Apache-2.0

// What a process and its children have used so far, as the kernel counts it.
#ifndef CALLOUT_TESTS_BENCH_LOAD_USAGE_H_
#define CALLOUT_TESTS_BENCH_LOAD_USAGE_H_

#include <sys/types.h>

#include <cstdint>

namespace callout::bench {

struct Usage {
  uint64_t cpu_ns = 0;  // user and system, of all threads
  uint64_t context_switches = 0;
  uint64_t resident_kib = 0;
};

// Exits with a message if there is no such process.
Usage ReadUsage(pid_t pid);

}  // namespace callout::bench

#endif  // CALLOUT_TESTS_BENCH_LOAD_USAGE_H_
