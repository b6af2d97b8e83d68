#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Looks whether built programs and shared objects are hardened as meson.build asks for.

    hardening.py [--exports=none] [--large-frames] FILE...   exit 1, and one line for each that is not

Read from the files, by readelf: a flag that the compiler ignores, or that another one takes back,
shows here and nowhere else.
"""
import argparse
import re
import subprocess
import sys

ENDBR64 = b'\xf3\x0f\x1e\xfa'
PACIASP = b'\x3f\x23\x03\xd5'  # signs the return address, and is a mark for indirect branches
PROBE = b'\x48\x83\x0c\x24\x00'  # orq $0, (%rsp): touches each page of a large frame


def readelf(path, *options):
    return subprocess.run(['readelf', '-W', *options, path], capture_output=True, text=True,
                          check=True, env={'LC_ALL': 'C'}).stdout


def text_of(path):
    """The bytes of .text."""
    found = re.search(r'\s\.text\s+PROGBITS\s+\w+\s+(\w+)\s+(\w+)', readelf(path, '-S'))
    with open(path, 'rb') as file:
        file.seek(int(found[1], 16))
        return file.read(int(found[2], 16))


def faults_of(path, exports, large_frames):
    header, segments, dynamic = readelf(path, '-h'), readelf(path, '-l'), readelf(path, '-d')
    symbols = readelf(path, '--dyn-syms').splitlines()
    imported = {line.split()[7].split('@')[0] for line in symbols if ' UND ' in line and len(line.split()) > 7}
    copied_names = set(re.findall(r'R_\w+_COPY\s+\w+\s+(\w+)', readelf(path, '-r')))
    is_program = ' INTERP ' in segments
    if not re.search(r'Type:\s+DYN', header) or (is_program and ' PIE' not in dynamic):
        yield 'is not position independent'
    if 'GNU_RELRO' not in segments or not re.search(r'FLAGS.*\bNOW\b', dynamic):
        yield 'has no full RELRO'
    if not re.search(r'GNU_STACK(\s+\w+){5}\s+RW\s', segments):
        yield 'has an executable stack'
    if re.search(r'LOAD(\s+0x\w+){5}\s+RWE', segments) or 'TEXTREL' in dynamic:
        yield 'has code that can be written to'
    if '__stack_chk_fail' not in imported:
        yield 'has no stack protector'
    if 'BIND_NOW' in dynamic and re.search(r'\((RPATH|RUNPATH)\)', dynamic):
        yield 'looks for libraries in a path of its own'
    if is_program:
        if not any(re.fullmatch(r'__\w+_chk', name) and name != '__stack_chk_fail' for name in imported):
            yield 'is not fortified'
        if '_ZSt21__glibcxx_assert_failPKciS0_S0_' not in imported:
            yield 'has no assertions of the standard library'
        if 'Build ID' not in readelf(path, '-n'):
            yield 'has no build id'
    if 'X86-64' in header:
        code = text_of(path)
        functions = code.count(ENDBR64)
        if functions < 4:
            yield f'has {functions} marks for indirect branches'
        if large_frames and code.count(PROBE) < 4:
            yield f'touches pages of large frames {code.count(PROBE)} times'
    if 'AArch64' in header and (functions := text_of(path).count(PACIASP)) < 4:
        yield f'has {functions} functions that sign where they return to'
    if exports == 'none':
        rows = [line.split() for line in symbols if re.match(r'\s*\d+: (?!0+ )', line)]
        # What a library's variable is copied to has to be found by the library.
        copied = {row[1] for row in rows if row[7].split('@')[0] in copied_names}
        for row in rows:
            if row[4] != 'LOCAL' and row[6] != 'UND' and row[1] not in copied:
                yield f'exports {row[7]}'


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--exports', choices=['none', 'any'], default='any')
    parser.add_argument('--large-frames', action='store_true', help='the files have some, which must be probed')
    parser.add_argument('files', nargs='+')
    arguments = parser.parse_args()
    faults = [f'{path}: {fault}' for path in arguments.files
              for fault in faults_of(path, arguments.exports, arguments.large_frames)]
    print('\n'.join(faults))
    sys.exit(1 if faults else 0)


if __name__ == '__main__':
    main()
