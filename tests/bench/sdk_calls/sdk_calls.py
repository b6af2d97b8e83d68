#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a call costs in C++, Rust and Go: a host that does nothing calls a hook that looks for one of 12 headers,
sets one and removes one. docs/performance.md has the results.

    tests/bench/sdk_calls/sdk_calls.py [ROUNDS]

Prints the CPU time of a call, the median of ROUNDS (5), and the instructions of a call by callgrind, where that
works.
"""
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
API = ROOT / 'plugin_api'
CALLS = 1_000_000


def run(*command, cwd=None):
    return subprocess.run([str(part) for part in command], cwd=cwd, check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True)


def build(work):
    """(name, shared object, hook) of each that can be built here."""
    run('cc', '-O2', '-I', API, HERE / 'calls.c', '-o', work / 'calls', '-ldl', '-pthread')
    run('c++', '-std=c++17', '-O2', '-shared', '-fPIC', '-fvisibility=hidden', '-I', API, HERE / 'guard.cc', '-o', work / 'cpp.so')
    built = [('C++', 'cpp.so', 'request')]
    if shutil.which('cargo'):
        run('cargo', 'build', '--release', '--target-dir', work / 'target', cwd=HERE / 'rust')
        shutil.copy(work / 'target' / 'release' / 'libguard.so', work / 'rust.so')
        built += [('Rust', 'rust.so', 'request'), ('Rust, async', 'rust.so', 'response')]
    if shutil.which('go'):
        run('go', 'run', 'callout.test/callout/cmd/callout-build', '-o', work / 'go.so', '.', cwd=HERE / 'go')
        built += [('Go', 'go.so', 'request'), ('Go, deferred', 'go.so', 'response')]
    return built


def instructions(work, plugin, hook):
    """The difference between two numbers of calls, so that neither start nor warming up is in it."""
    def count(calls):
        ran = run('valgrind', '--tool=callgrind', f'--callgrind-out-file={work}/out', work / 'calls', work / plugin, hook, calls)
        return int(re.search(r'Collected : (\d+)', ran.stderr)[1])
    return (count(20_000) - count(10_000)) / 11_000


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory() as directory:
        work = pathlib.Path(directory)
        built = build(work)
        times = {name: [] for name, _, _ in built}
        for _ in range(rounds):
            for name, plugin, hook in built:
                calls = CALLS if 'deferred' not in name else CALLS // 20
                ran = run(work / 'calls', work / plugin, f'callout_on_{hook}_headers', calls)
                times[name].append(float(ran.stdout))
        print('| language | ns of CPU | instructions |')
        print('|---|---|---|')
        for name, plugin, hook in built:
            counted = '-'
            if shutil.which('valgrind') and 'Go' not in name:  # Go has a scheduler of its own
                counted = f'{instructions(work, plugin, f"callout_on_{hook}_headers"):.0f}'
            print(f'| {name} | {statistics.median(times[name]):.0f} | {counted} |')


if __name__ == '__main__':
    main()
