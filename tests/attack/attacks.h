// SPDX-License-Identifier: Apache-2.0

// Attacks, each on a host of its own, and their results.
#ifndef CALLOUT_TESTS_ATTACK_ATTACKS_H_
#define CALLOUT_TESTS_ATTACK_ATTACKS_H_

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "../integration/test_host.h"

namespace callout::tests {

// How long an attack may go on.
struct Effort {
  std::chrono::milliseconds flood{3000};
  // Of the client that ends its streams as Envoy does, 2,000 a second.
  std::chrono::milliseconds envoy{60000};
};

struct Outcome {
  bool held = false;  // the host did what it should
  std::string what;   // in words
};

struct Attack {
  std::string name;
  std::vector<std::string> options;  // of the host
  std::function<Outcome(TestHost& host, const Effort& effort)> run;
  double memory_mib_max = 16;   // by which the host may grow
  bool ends_by_itself = false;  // no client is served beside it
};

const std::vector<Attack>& Attacks();

struct Row {
  Outcome outcome;
  double memory_mib = 0;  // by which the host grew, at its peak
  bool healthy = true;    // the other client was always served
  double healthy_p99_ms = 0, healthy_max_ms = 0;
  bool health_good = true;  // each health check was answered with 200
  double health_max_ms = 0;
};
// With a host on `transport` ("grpc", "nghttp2") that ends with the attack.
Row RunAttack(const Attack& attack, const std::string& transport, const Effort& effort);

}  // namespace callout::tests

#endif  // CALLOUT_TESTS_ATTACK_ATTACKS_H_
