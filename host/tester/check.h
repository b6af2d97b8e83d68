// SPDX-License-Identifier: Apache-2.0

// Compares an outcome with what a case expects.
//
//   for (const CaseDifference& difference : Check(tested, outcome)) …
//
// Plain functions.
//
// Tested by tests/tester/tester_test.cc.
#ifndef CALLOUT_HOST_TESTER_CHECK_H_
#define CALLOUT_HOST_TESTER_CHECK_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "host/tester/case_file.h"
#include "host/tester/outcome.h"

namespace callout::host {

struct CaseDifference {
  int line = 0;  // of the case file
  std::string text;
};

std::vector<CaseDifference> Check(const Case& tested, const Outcome& outcome);

// Where the golden file of a case is: golden/FILE.CASE.json beside the case file, with characters
// that are no letter, digit, "-" or "_" as "_".
std::string GoldenPath(const CaseFile& file, const Case& tested);

// Compares the outcome with the golden file, or writes it. One difference at most. UNAVAILABLE if
// it cannot be written.
absl::StatusOr<std::vector<CaseDifference>> CheckGolden(const std::string& path, bool update,
                                                        int line, const Outcome& outcome);

}  // namespace callout::host

#endif  // CALLOUT_HOST_TESTER_CHECK_H_
