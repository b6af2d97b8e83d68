// SPDX-License-Identifier: Apache-2.0

// What became of cases, for people and for machines.
//
// Plain functions.
//
// Tested by tests/tester/tester_test.cc.
#ifndef CALLOUT_HOST_TESTER_REPORT_H_
#define CALLOUT_HOST_TESTER_REPORT_H_

#include <string>
#include <vector>

#include "host/tester/check.h"

namespace callout::host {

struct CaseResult {
  std::string file, name;
  int line = 0;
  double milliseconds = 0;
  std::vector<CaseDifference> differences;  // none: passed, unless it was skipped
  std::string skipped;                      // why it was not run
};

// The lines for a failed case: "FILE:LINE: NAME: what is different".
std::string FailureText(const CaseResult& result);
// "2 passed, 1 failed, 1 skipped".
std::string SummaryText(const std::vector<CaseResult>& results);

// JUnit's XML, a test suite for each file.
std::string JunitXml(const std::vector<CaseResult>& results);
// {"passed": 2, "failed": 1, "skipped": 0, "cases": [{"file", "line", "name", "passed", "skipped",
// "milliseconds", "differences": [{"line", "text"}]}]}
std::string JsonReport(const std::vector<CaseResult>& results);

}  // namespace callout::host

#endif  // CALLOUT_HOST_TESTER_REPORT_H_
