# SPDX-License-Identifier: Apache-2.0
"""Instructions that a server takes for a stream in user space, counted by callgrind: those of a run of
streams and of one twice as long differ by what the additional streams take."""

import dataclasses
import glob
import os
import re
import shutil
import subprocess

import compare
import report
import servers

STREAMS = 2000
PATIENCE_S = 300  # for a run: callgrind is some fifty times slower
BARE = ("h2-floor", "h2-bare")  # beside the host


def missing():
    """What this needs and does not find; None if it can be measured."""
    return None if shutil.which("valgrind") else "there is no valgrind, Debian's package"


def wanted_servers():
    bare = [s for s in servers.bare_servers() if s.name in BARE]
    return bare + [s for s in servers.scaling_servers() if "threads" in s.name]


def total(path):
    """Of the counts in a file that callgrind has written."""
    with open(path) as file:
        return int(re.search(r"^totals: (\d+)", file.read(), re.MULTILINE)[1])


class Counted:
    """A server under callgrind, which counts what it takes for a run of streams."""

    def __init__(self, server, cores):
        self._out = os.path.join(servers.RESULTS, "callgrind.out")
        for path in glob.glob(self._out + "*"):
            os.remove(path)
        self._dumps = 0
        self._server = server
        self._process = servers.Running(
            dataclasses.replace(server, under=("valgrind", "--tool=callgrind", f"--callgrind-out-file={self._out}")),
            False, compare.make_certificate(), cores)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.stop()

    def run(self, cell, streams):
        """Instructions since the last run, or the start."""
        load = os.path.join(servers.BUILD, "tests", "bench", "bench-load")
        done = subprocess.run(
            [load, *cell.arguments, f"--port={self._process.port}", f"--streams={streams}",
             *(["--any_phase"] if self._server.any_phase else [])],
            capture_output=True, text=True, timeout=PATIENCE_S)
        if done.returncode != 0:
            raise RuntimeError(f"{self._server.name} in {cell.name}: {done.stderr.strip() or done.stdout}")
        # Not by the end of the server: callgrind may fail when a signal's handler meets another thread.
        subprocess.run(["vgdb", f"--pid={self._process.pid}", "dump"], capture_output=True, check=True,
                       timeout=PATIENCE_S)
        self._dumps += 1
        return total(f"{self._out}.{self._dumps}")


def for_each_stream(server, all_cells, cores):
    """{cell: instructions, or None, with the reason printed, if they cannot be counted}"""
    counted = dict.fromkeys(cell.name for cell in all_cells)
    try:
        with Counted(server, cores) as running:
            for cell in all_cells:
                # The first run also has what is done once.
                _, once, twice = (running.run(cell, n * STREAMS) for n in (1, 1, 2))
                counted[cell.name] = (twice - once) / STREAMS
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        print(error)
    return counted


def table(counted, all_cells):
    """`counted`: {server: {cell: instructions for a stream or None}}."""
    rows = [[server, *("failed" if (found := taken[cell.name]) is None else f"{found:.0f}"
                       for cell in all_cells)]
            for server, taken in counted.items()]
    return report.markdown(["server", *(cell.on for cell in all_cells)], rows)
