#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What scripts/fuzz_coverage.py makes of a target's head and of what llvm-cov prints."""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts"))
import fuzz_coverage  # noqa: E402


class FuzzCoverageTest(unittest.TestCase):
    def test_reads_readers_and_functions_over_several_lines(self):
        head = ("// What it is.\n//\n// Readers: host/a.cc\n// host/b.cc\n"
                "// Not counted: Write K::Put (write what\n// is read elsewhere)\n"
                "// Not counted: Clock (reads no bytes)\n#include <a>\n// Readers: none\n")
        self.assertEqual(fuzz_coverage.read_head(head),
                         (["host/a.cc", "host/b.cc"], ["Write", "K::Put", "Clock"]))

    def test_wants_a_reason(self):
        with self.assertRaises(ValueError):
            fuzz_coverage.read_head("// Readers: host/a.cc\n// Not counted: Write\n#include <a>\n")

    def test_knows_functions_by_their_whole_names(self):
        write = "callout::host::(anonymous namespace)::K::Write[abi:cxx11](int) const"
        self.assertTrue(fuzz_coverage.is_named(write, "Write"))
        self.assertTrue(fuzz_coverage.is_named(write, "K::Write"))
        self.assertFalse(fuzz_coverage.is_named(write, "rite"))
        self.assertFalse(fuzz_coverage.is_named(write, "L::Write"))
        self.assertTrue(fuzz_coverage.is_named("void a::Put<int>(int)", "Put"))

    def test_leaves_out_the_lines_of_functions_with_the_lambdas_in_them(self):
        shown = ("a.cc:n::(anonymous namespace)::Write(int):\n   12|      0|int Write(int x) {\n"
                 "   13|       |  // text\n   14|      0|}\n"
                 "n::Other(int):\n   20|      1|int Other(int x) { return x; }\n")
        self.assertEqual(fuzz_coverage.lines_of_functions(shown, ["Write"]), {"Write": {12, 13, 14}})

    def test_reads_counts_of_lines(self):
        lcov = "SF:./../host/a.cc\nFN:3,f\nDA:3,0\nDA:4,17\nend_of_record\nSF:b\nDA:1,1\n"
        self.assertEqual(fuzz_coverage.lines_of_files(lcov),
                         {"./../host/a.cc": {3: 0, 4: 17}, "b": {1: 1}})

    def test_names_ranges_of_lines(self):
        self.assertEqual(fuzz_coverage.ranges([3, 1, 2, 7]), "1-3 7")


if __name__ == "__main__":
    unittest.main()
