#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Sets the last folder of a shared object's run path to where a package puts it.

    run_path.py FILE SUFFIX FOLDER

The last folder in the run path, which ends with SUFFIX, becomes FOLDER. It has to be no longer than the one
that is there: the text is changed in its place.
"""
import pathlib
import re
import subprocess
import sys


def main():
    file, suffix, folder = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    shown = subprocess.run(['readelf', '--dynamic', '--wide', file], capture_output=True, text=True, check=True).stdout
    found = re.search(r'\((?:RUNPATH|RPATH)\).*\[(.*)\]', shown)
    if not found:
        sys.exit(f'{file} has no run path')
    old = found[1].encode()
    first, _, last = found[1].rpartition(':')
    if not last.endswith(suffix) or len(folder) > len(last):
        sys.exit(f'{file}: its run path {found[1]} cannot be made to end with {folder}')
    new = f'{first}:{folder}'.encode()
    code = file.read_bytes()
    if code.count(old + b'\0') != 1:
        sys.exit(f'{file} has the text of its run path several times')
    file.write_bytes(code.replace(old + b'\0', new + b'\0' * (len(old) - len(new) + 1)))


main()
