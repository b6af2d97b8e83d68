// SPDX-License-Identifier: Apache-2.0

// Runs every attack on both transports, one after another, and prints a table in
// Markdown. About five minutes on an idle machine:
//
//   build/tests/attack/attack_table [--transport=nghttp2] [--seconds-like-envoy=60]
//       [--attack=PART_OF_ITS_NAME]
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "attacks.h"

namespace {

using callout::tests::Row;

std::string Cell(const Row& row) {
  std::string text =
      fmt::format("{}{}; memory {:+.1f} MiB",
                  row.outcome.held ? "" : "**not held**: ", row.outcome.what, row.memory_mib);
  if (row.healthy_max_ms > 0) {
    text += fmt::format("; others p99 {:.1f} ms, max {:.0f} ms{}", row.healthy_p99_ms,
                        row.healthy_max_ms, row.healthy ? "" : ", **then none**");
  }
  text += fmt::format("; health {}max {:.0f} ms", row.health_good ? "" : "**not always good**, ",
                      row.health_max_ms);
  return text;
}

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);  // the harness reports through it
  callout::tests::Effort effort;
  std::string wanted;
  std::vector<std::string> transports = {"grpc", "nghttp2"};
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const std::string value(argument.substr(argument.find('=') + 1));
    if (argument.starts_with("--attack=")) wanted = value;
    if (argument.starts_with("--transport=")) transports = {value};
    if (argument.starts_with("--seconds-like-envoy=")) {
      effort.envoy = std::chrono::seconds(std::stoi(value));
    }
  }
  std::string head = "| attack |", line = "|---|";
  for (const std::string& transport : transports) {
    head += " " + transport + " |";
    line += "---|";
  }
  fmt::print("{}\n{}\n", head, line);
  for (const callout::tests::Attack& attack : callout::tests::Attacks()) {
    if (attack.name.find(wanted) == std::string::npos) continue;
    std::string row = "| " + attack.name + " |";
    for (const std::string& transport : transports) {
      row += " " + Cell(RunAttack(attack, transport, effort)) + " |";
    }
    fmt::print("{}\n", row);
    std::fflush(stdout);
  }
}
