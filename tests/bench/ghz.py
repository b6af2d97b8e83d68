"""ghz as a second opinion on the load generator: what a server uses for a stream must not depend on
who asks. ghz itself uses far more than any server, so its rates say nothing."""

import base64
import json
import os
import shutil
import subprocess

import servers

HEADERS = {":method": "GET", ":path": "/", ":authority": "shop.example.com", ":scheme": "https"}


def find_ghz():
    """The program, built if Go is there; None, with a word why, if not."""
    folder = os.path.join(servers.BUILD, "ghz")
    program = os.path.join(folder, "ghz")
    if not os.path.exists(program) and shutil.which("go"):
        subprocess.run(["go", "install", "github.com/bojand/ghz/cmd/ghz@latest"],
                       env={**os.environ, "GOBIN": folder}, capture_output=True)
    if os.path.exists(program):
        return program
    print("no ghz: it could not be built")
    return None


def measure(program, running, cpu_ns, cores, streams):
    """CPU microseconds per stream; None if one failed."""
    headers = [{"key": key, "raw_value": base64.b64encode(value.encode()).decode()}
               for key, value in HEADERS.items()]
    message = {"request_headers": {"headers": {"headers": headers}, "end_of_stream": True}}
    start = cpu_ns(running.pid)
    done = subprocess.run(
        [program, "--insecure", "--proto", "envoy/service/ext_proc/v3/external_processor.proto",
         "--import-paths", ".", "--call", "envoy.service.ext_proc.v3.ExternalProcessor/Process",
         "--data", json.dumps([message]), "--total", str(streams), "--concurrency", "100",
         "--connections", "8", "--format", "json", f"127.0.0.1:{running.port}"],
        cwd=os.path.join(servers.TOP, "proto"), capture_output=True, text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores))
    used = (cpu_ns(running.pid) - start) / streams / 1e3
    try:
        codes = json.loads(done.stdout)["statusCodeDistribution"]
    except ValueError:
        codes = done.stderr
    if codes != {"OK": streams}:
        print(f"ghz with {running.server.name}: {codes}")
        return None
    return used
