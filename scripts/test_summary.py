# SPDX-License-Identifier: Apache-2.0
"""Sums up a run of `meson test` by test cases.

    python3 scripts/test_summary.py build/meson-logs

Prints the skipped and the failed cases and, as the last line, `N passed, N failed` with
`, N skipped` if there are any. Exits 1 if anything failed or nothing ran.

testlog.junit.xml has the cases that GoogleTest programs report, and one case for each other
program. A program that ended badly after it had reported only good cases (it crashed on its way
out, or was stopped at its time limit) is known from testlog.json, and is one failed case.
"""

import json
import pathlib
import sys
import xml.etree.ElementTree as ElementTree

REASON_LENGTH_MAX = 200
GOOD_ENDS = {"OK", "EXPECTEDFAIL", "SKIP"}


def program_of(suite):
    """A suite is called PROJECT.PROGRAM.SUITE; that of the programs without cases PROJECT."""
    parts = suite.get("name").split(".")
    return parts[1] if len(parts) > 1 else None


def read_cases(path):
    """Yields (program, case, "passed" | "failed" | "skipped", reason)."""
    for suite in ElementTree.parse(path).getroot().iter("testsuite"):
        program = program_of(suite)
        for case in suite.iter("testcase"):
            name = f"{case.get('classname')}.{case.get('name')}" if program else case.get("name")
            outcome, reason = "passed", ""
            for element in case:
                if element.tag in ("failure", "error"):
                    outcome, reason = "failed", element.get("message") or ""
                elif element.tag == "skipped":
                    outcome, reason = "skipped", element.get("message") or ""
            yield program or case.get("name"), name, outcome, reason


def read_programs(path):
    """Yields (program, how it ended)."""
    for line in path.read_text(encoding="utf-8").splitlines():
        run = json.loads(line)
        yield run["name"].split(" / ")[-1], run["result"]


def main(logs):
    cases = list(read_cases(logs / "testlog.junit.xml"))
    failed_programs = {program for program, _, outcome, _ in cases if outcome == "failed"}
    for program, end in read_programs(logs / "testlog.json"):
        if end not in GOOD_ENDS and program not in failed_programs:
            cases.append((program, "(the whole program)", "failed", f"it ended with {end}"))

    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for program, name, outcome, reason in cases:
        counts[outcome] += 1
        if outcome != "passed":
            reason = " ".join(reason.split())[:REASON_LENGTH_MAX]
            print(f"{outcome}: {program}: {name}" + (f": {reason}" if reason else ""))
    skipped = f", {counts['skipped']} skipped" if counts["skipped"] else ""
    print(f"{counts['passed']} passed, {counts['failed']} failed{skipped}")
    return 1 if counts["failed"] or not counts["passed"] else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
