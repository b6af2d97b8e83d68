#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that every test which README.md names exists: Suite.Name as a GoogleTest anywhere in
tests/, and files in this folder.

    promises_test.py
"""
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def main():
    with open(os.path.join(HERE, "README.md"), encoding="utf-8") as file:
        rows = [line.split("|")[2] for line in file if line.startswith("| ") and "`" in line]
    named = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    found = subprocess.run(
        ["grep", "-rhoE", "--include=*.cc", r"^TEST(_F|_P)?\(\w+, *\w+\)", os.path.dirname(HERE)],
        check=True, capture_output=True, text=True).stdout
    tests = {".".join(re.findall(r"\w+", line)[1:]) for line in found.splitlines()}
    missing = [name for name in named
               if name not in tests and not os.path.exists(os.path.join(HERE, name))]
    for name in missing:
        print(f"README.md names {name}, and there is no such test")
    if len(named) < 50:
        print(f"README.md names only {len(named)} tests: are its tables still read?")
    sys.exit(1 if missing or len(named) < 50 else 0)


main()
