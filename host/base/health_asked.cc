// SPDX-License-Identifier: Apache-2.0

#include "host/base/health_asked.h"

#include <atomic>

#include "host/base/clock.h"

namespace callout::host {
namespace {

std::atomic<uint64_t> g_asked_ns{0};  // 0: never

}  // namespace

void NoteHealthAsked() { g_asked_ns.store(MonotonicNs(), std::memory_order_relaxed); }

bool HealthAskedWithin(uint64_t seconds) {
  const uint64_t asked_ns = g_asked_ns.load(std::memory_order_relaxed);
  return asked_ns != 0 && MonotonicNs() - asked_ns <= seconds * 1'000'000'000;
}

}  // namespace callout::host
