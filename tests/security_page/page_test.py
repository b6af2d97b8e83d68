#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every test, fuzz target and script that SECURITY.md names exists."""

import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = (ROOT / 'SECURITY.md').read_text()
TEST = re.compile(r'\bTEST(?:_F|_P)?\(\s*(\w+),\s*(\w+)\)')


def tests():
    """Suite.Name of all tests in C++."""
    found = set()
    for file in (ROOT / 'tests').rglob('*.cc'):
        found.update('.'.join(match) for match in TEST.findall(file.read_text()))
    return found


class Page(unittest.TestCase):
    def test_names_tests_that_exist(self):
        named = set(re.findall(r'`([A-Z]\w+\.[A-Z]\w+)`', PAGE))
        self.assertGreater(len(named), 30, 'the tables name tests')
        self.assertEqual(named - tests(), set())

    def test_names_fuzz_targets_that_exist(self):
        targets = {file.name[:-len('_fuzz.cc')] for file in (ROOT / 'tests/fuzz').glob('*_fuzz.cc')}
        named = set(re.findall(r'target `(\w+)`', PAGE))
        self.assertGreater(len(named), 3)
        self.assertEqual(named - targets, set())

    def test_names_scripts_that_exist(self):
        for script in re.findall(r'`(scripts/[\w-]+)', PAGE):
            self.assertTrue((ROOT / script).exists(), script)


if __name__ == '__main__':
    unittest.main()
