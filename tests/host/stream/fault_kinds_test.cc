// SPDX-License-Identifier: Apache-2.0

// docs/faults.md is the table of host/stream/fault_kinds.h.
#include "host/stream/fault_kinds.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace callout::host {
namespace {

std::string Row(const FaultKind& kind) {
  const std::string outcome = kind.only_counted ? "none: it is counted and logged"
                              : kind.http_status == 0
                                  ? "gRPC error"
                                  : fmt::format("immediate response {}", kind.http_status);
  return fmt::format("| `{}` | {} | {} | {} |", ViolationName(kind.violation), kind.cause,
                     kind.client_can_cause ? "yes" : "no", outcome);
}

TEST(FaultKinds, AreAllInTheTableInOrder) {
  for (size_t i = 0; i < kFaultKinds.size(); ++i) {
    EXPECT_EQ(static_cast<size_t>(kFaultKinds[i].violation), i + 1);
  }
}

TEST(FaultKinds, AreWhatTheDocumentSays) {
  // As the compiler was given this file's path: from the build's directory.
  const auto tests = std::filesystem::path(__FILE__).parent_path().parent_path().parent_path();
  const auto path = tests.parent_path() / "docs" / "faults.md";
  std::ifstream file(path);
  ASSERT_TRUE(file.is_open()) << path << "; run this in the build's directory";
  std::stringstream text;
  text << file.rdbuf();
  int rows = 0;
  for (std::string line; std::getline(text, line);)
    rows += line.ends_with("| gRPC error |") ||
            line.ends_with("| none: it is counted and logged |") ||
            line.find("| immediate response ") != std::string::npos;
  EXPECT_EQ(rows, static_cast<int>(kFaultKinds.size()));
  for (const FaultKind& kind : kFaultKinds) {
    EXPECT_NE(text.str().find(Row(kind) + "\n"), std::string::npos) << Row(kind);
  }
}

}  // namespace
}  // namespace callout::host
