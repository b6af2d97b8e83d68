# SPDX-License-Identifier: Apache-2.0
"""What the measurements were made on."""

import datetime
import os
import platform
import re
import subprocess

import servers


def describe():
    with open("/proc/cpuinfo") as file:
        model = re.search(r"model name\s*: (.*)", file.read())
    with open("/proc/meminfo") as file:
        memory = int(re.search(r"MemTotal:\s*(\d+)", file.read())[1]) >> 20
    commit = subprocess.run(["git", "-C", servers.TOP, "rev-parse", "--short", "HEAD"],
                            capture_output=True, text=True).stdout.strip()
    return {
        "date": datetime.date.today().isoformat(),
        "processor": model[1] if model else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": memory,
        "kernel": ".".join(platform.release().split(".")[:2]),
        "commit": commit,
        "load_before": round(os.getloadavg()[0], 1),
    }


def sentence(machine):
    return (f"{machine['date']}, commit {machine['commit']}: {machine['processor']}, "
            f"{machine['cores']} cores, {machine['memory_gib']} GiB, Linux {machine['kernel']}. "
            f"Load average before: {machine['load_before']}.")
