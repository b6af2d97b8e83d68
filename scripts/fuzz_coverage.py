#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How many lines of its readers a fuzz target has reached: for scripts/fuzz --coverage.

    scripts/fuzz_coverage.py NAME PROFILE

PROFILE is what llvm-profdata has merged. The head of tests/fuzz/NAME_fuzz.cc says what counts:

    // Readers: host/net/certificate.cc
    // Not counted: MakeSelfSignedKeyPair FillAndSign (make a certificate, and read nothing)

The files' lines with code count, without those of the functions that are not counted, which are
named with or without their class. A line counts once, however many functions and templates it is a
part of. Prints one line; build-fuzz/coverage/NAME.txt gets the lines that were not reached. Fails
below 95 %, and if a name stands for no function.
"""

import pathlib
import re
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parent.parent
BUILD = TOP / "build-fuzz"
PERCENT_MIN = 95


def read_head(source):
    """The readers, and the functions that are not counted."""
    keys = {"Readers": [], "Not counted": []}
    texts = None
    for line in source.splitlines():
        if not line.startswith("//"):
            if any(keys.values()):
                break
            continue
        if found := re.match(r"// (Readers|Not counted): (.*)", line):
            texts = keys[found[1]]
            texts.append(found[2])
        elif line == "//":
            texts = None
        elif texts:
            texts[-1] += line[len("//"):]
    names = []
    for text in keys["Not counted"]:
        found = re.fullmatch(r"([^()]+?) \((.+)\)", text)
        if not found:
            raise ValueError(f"'// Not counted: {text}': expected NAMES (WHY)")
        names += found[1].split()
    return [file for text in keys["Readers"] for file in text.split()], names


def is_named(demangled, name):
    """Whether a function is `name`, such as Write or Message::Write, or a lambda within it."""
    plain = demangled.replace("(anonymous namespace)::", "")
    return re.search(rf"(^|[: ]){re.escape(name)}(\[abi:\w+\])?(<.*>)?\(", plain) is not None


def lines_of_functions(shown, names):
    """What `llvm-cov show` prints of functions of one file: {name: lines}, of those in `names`."""
    found = {}
    lines = None
    for line in shown.splitlines():
        if number := re.match(r" *(\d+)\|", line):
            if lines is not None:
                lines.add(int(number[1]))
        elif heading := re.fullmatch(r"(?:[^ :]+\.\w+:)?(\S.*):", line):
            name = next((name for name in names if is_named(heading[1], name)), None)
            lines = None if name is None else found.setdefault(name, set())
    return found


def lines_of_files(lcov):
    """What `llvm-cov export -format=lcov` prints: {file: {line: count}}."""
    files, lines = {}, {}
    for line in lcov.splitlines():
        if line.startswith("SF:"):
            lines = files.setdefault(line[3:], {})
        elif line.startswith("DA:"):
            number, count = line[3:].split(",")[:2]
            lines[int(number)] = int(count)
    return files


def llvm_cov(command, name, profile, readers, *options):
    """Of these files only. Paths in a program begin with that from the build directory to the top."""
    return subprocess.run(["llvm-cov", command, f"tests/fuzz/{name}_fuzz",
                           f"-instr-profile={profile.resolve()}", f"-path-equivalence=./..,{TOP}",
                           *options, *(TOP / reader for reader in readers)],
                          cwd=BUILD, capture_output=True, text=True, check=True).stdout


def ranges(numbers):
    """[1, 2, 3, 7] as "1-3 7"."""
    found = []
    for number in sorted(numbers):
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return " ".join(str(a) if a == b else f"{a}-{b}" for a, b in found)


def lines_not_counted(name, profile, reader, names):
    """{name: lines}"""
    if not names:
        return {}
    # Mangled, a name follows its length.
    patterns = [f"-name-regex=[0-9]{re.escape(each.split('::')[-1])}[A-Z]" for each in names]
    shown = llvm_cov("show", name, profile, [reader], "-show-instantiations=false",
                     "-Xdemangler=c++filt", *patterns)
    return lines_of_functions(shown, names)


def main():
    name, profile = sys.argv[1], pathlib.Path(sys.argv[2])
    readers, names = read_head((TOP / "tests" / "fuzz" / f"{name}_fuzz.cc").read_text())
    if not readers:
        sys.exit(f"{name}: its target names no '// Readers: '")
    files = lines_of_files(llvm_cov("export", name, profile, readers, "-format=lcov"))
    reached, all_lines, report, known = 0, 0, "", set()
    for reader in readers:
        path = next((file for file in files if file.endswith("/" + reader)), None)
        if path is None:
            sys.exit(f"{name}: it has no code of {reader}; see its '// Readers: '")
        left_out = lines_not_counted(name, profile, reader, names)
        known |= left_out.keys()
        out = set().union(*left_out.values())
        missed = {line for line, count in files[path].items() if count == 0} - out
        lines = len(files[path].keys() - out)
        report += f"{reader}: {lines - len(missed)} of {lines} lines, without {ranges(missed)}\n"
        reached += lines - len(missed)
        all_lines += lines
    if missing := [each for each in names if each not in known]:
        sys.exit(f"{name}: no function is called {' '.join(missing)}; see its '// Not counted: '")
    (BUILD / "coverage" / f"{name}.txt").write_text(report)
    # Down: 94.96 % is not 95 %.
    percent = reached * 1000 // max(all_lines, 1) / 10
    print(f"{name}: {reached} of {all_lines} lines, {percent} %")
    return 0 if percent >= PERCENT_MIN else 1


if __name__ == "__main__":
    sys.exit(main())
