# SPDX-License-Identifier: Apache-2.0
"""The microbenchmarks of bench-micro, as a table."""

import json
import os
import statistics
import subprocess

import report
import servers


def table(rounds, cores):
    done = subprocess.run(
        [os.path.join(servers.BUILD, "tests", "bench", "bench-micro"), "--benchmark_format=json",
         f"--benchmark_repetitions={rounds}", "--benchmark_min_time=0.05"],
        capture_output=True, text=True, check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores))
    times = {}
    for run in json.loads(done.stdout)["benchmarks"]:
        if run["run_type"] == "iteration":
            times.setdefault(run["name"], []).append(run["cpu_time"])
    rows = [[name, f"{statistics.median(each):.1f}", f"{min(each):.1f}"]
            for name, each in times.items()]
    return report.markdown(["what", "median ns", "least ns"], rows)
