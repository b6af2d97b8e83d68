# SPDX-License-Identifier: Apache-2.0
"""ghz as a second opinion on the load generator: what a server uses for a stream must not depend on
who asks. ghz itself uses far more than any server, so its rates say nothing."""

import base64
import json
import os
import shutil
import subprocess

import envoy
import report
import servers

VERSION = "v0.120.0"
STREAMS = 5000  # for each second that a measurement is to take; ghz is slow
HEADERS = {":method": "GET", ":path": "/", ":authority": "shop.example.com", ":scheme": "https"}


def find_ghz():
    """The program, built if it is not there yet; RuntimeError if it cannot be."""
    folder = os.path.join(servers.BUILD, "ghz")
    program = os.path.join(folder, "ghz")
    if os.path.exists(program):
        return program
    if shutil.which("go") is None:
        raise RuntimeError("there is no Go to build ghz with")
    built = subprocess.run(["go", "install", f"github.com/bojand/ghz/cmd/ghz@{VERSION}"],
                           env={**os.environ, "GOBIN": folder}, capture_output=True, text=True,
                           timeout=900)
    if built.returncode != 0:
        raise RuntimeError(f"ghz cannot be built: {built.stderr.strip().splitlines()[-1:]}")
    return program


def measure(program, running, cores, options):
    """CPU microseconds per stream; None, with the reason printed, if one failed."""
    streams = max(200, int(STREAMS * options.seconds))
    headers = [{"key": key, "raw_value": base64.b64encode(value.encode()).decode()}
               for key, value in HEADERS.items()]
    message = {"request_headers": {"headers": {"headers": headers}, "end_of_stream": True}}
    start = envoy.cpu_ns(running.pid)
    done = subprocess.run(
        [program, "--insecure", "--proto", "envoy/service/ext_proc/v3/external_processor.proto",
         "--import-paths", ".", "--call", "envoy.service.ext_proc.v3.ExternalProcessor/Process",
         "--data", json.dumps([message]), "--total", str(streams), "--concurrency", "100",
         "--connections", "8", "--format", "json", f"127.0.0.1:{running.port}"],
        cwd=os.path.join(servers.TOP, "proto"), capture_output=True, text=True, timeout=120,
        preexec_fn=lambda: os.sched_setaffinity(0, cores))
    used = (envoy.cpu_ns(running.pid) - start) / streams / 1e3
    try:
        codes = json.loads(done.stdout)["statusCodeDistribution"]
    except ValueError:
        codes = done.stderr
    if codes != {"OK": streams}:
        print(f"ghz with {running.server.name}: {codes}")
        return None
    return used


def table(used_by_name):
    rows = [[name, f"{used:.2f}" if used else "failed"] for name, used in used_by_name.items()]
    return report.markdown(["server", "CPU µs/stream"], rows)
