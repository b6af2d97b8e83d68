#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""CPU time of a hook in Python: on the host by plugins/python, and on servers of grpcio.

All run the same class with the same tools, so what differs is the server:

  plugin, serving thread   the host on nghttp2, "blocking": false
  plugin, pool             the same with the default, "blocking": true
  grpcio, threads          grpc.server() with 2 threads, as the samples' CalloutServer
  grpcio, asyncio          grpc.aio.server()

h2load (Debian's nghttp2-client) sends streams of one message, request headers with 12 headers. CPU
time is the kernel's for the process, user and system. Each round measures all in random order; the
table has medians, and a ratio is the median of the rounds' ratios.

  tests/bench/python_hooks.py [--build=build] [--venv=.venv] [--rounds=5] [--streams=4000]

The virtual environment needs grpcio and protobuf.
"""

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
METHOD = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"

SCRIPT = """
from extproc.service.callout_server import CalloutServer
from extproc.service.callout_tools import add_header_mutation


class AddHeader(CalloutServer):
  def on_request_headers(self, headers, context):
    return add_header_mutation([('header-request', 'request')], clear_route_cache=True)
"""

SERVER = """
import asyncio, concurrent.futures, sys
import grpc
from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingRequest, ProcessingResponse
from add_header import AddHeader

server = AddHeader()


def process(requests, context):
  for request in requests:
    yield server.process(request, context)


async def process_async(requests, context):
  async for request in requests:
    yield server.process(request, context)


def handlers(behavior):
  handler = grpc.stream_stream_rpc_method_handler(
      behavior, ProcessingRequest.FromString, ProcessingResponse.SerializeToString)
  return grpc.method_handlers_generic_handler(
      'envoy.service.ext_proc.v3.ExternalProcessor', {'Process': handler})


async def serve_async():
  served = grpc.aio.server()
  served.add_generic_rpc_handlers((handlers(process_async),))
  print('listening', served.add_insecure_port('127.0.0.1:0'), flush=True)
  await served.start()
  await served.wait_for_termination()


if sys.argv[1] == 'asyncio':
  asyncio.run(serve_async())
served = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers=2))
served.add_generic_rpc_handlers((handlers(process),))
print('listening', served.add_insecure_port('127.0.0.1:0'), flush=True)
served.start()
served.wait_for_termination()
"""


def varint(number):
    encoded = b""
    while number > 127:
        encoded += bytes([number & 127 | 128])
        number >>= 7
    return encoded + bytes([number])


def record(field, payload):
    return varint(field << 3 | 2) + varint(len(payload)) + payload


def request_headers():
    """A ProcessingRequest with 12 headers, as gRPC frames it."""
    names = [":authority", ":path", ":method", ":scheme", "user-agent", "accept", "accept-encoding",
             "x-forwarded-for", "x-forwarded-proto", "x-request-id", "cookie", "authorization"]
    headers = b"".join(record(1, record(1, name.encode()) + record(3, b"value of " + name.encode() * 2))
                       for name in names)
    message = record(2, record(1, headers))
    return b"\0" + len(message).to_bytes(4, "big") + message


class Server:
    """One that runs; `name` is its row in the table."""

    def __init__(self, name, command, log_path, listening, environment=None):
        self.name = name
        self._log = open(log_path, "w+")
        self.process = subprocess.Popen(command, stdout=self._log, stderr=self._log,
                                        env={**os.environ, **(environment or {})})
        self.port = None
        while self.port is None:
            if self.process.poll() is not None:
                sys.exit(f"{name} has ended: {open(log_path).read()}")
            for line in open(log_path):
                if listening in line:
                    self.port = int(line.split(":")[-1] if ":" in line else line.split()[-1])

    def cpu_seconds(self):
        # The kernel's clock of the process's CPU time: CPUCLOCK_SCHED of clock_getcpuclockid.
        return time.clock_gettime(~self.process.pid << 3 | 2)

    def load(self, body_path, streams):
        output = subprocess.run(
            ["h2load", f"-n{streams}", "-c8", "-m10", f"-d{body_path}",
             "-H", "content-type: application/grpc", "-H", "te: trailers",
             f"http://127.0.0.1:{self.port}{METHOD}"],
            capture_output=True, text=True, check=True).stdout
        if f"{streams} succeeded" not in output:
            sys.exit(f"{self.name}: h2load says: {output}")

    def microseconds_per_stream(self, body_path, streams):
        before = self.cpu_seconds()
        self.load(body_path, streams)
        return (self.cpu_seconds() - before) * 1e6 / streams

    def verify(self, client):
        request = '{"request_headers": {"headers": {"headers": [{"key": ":path", "raw_value": "Lw=="}]}}}'
        output = subprocess.run([client, f"127.0.0.1:{self.port}", "--plaintext", "--data", request],
                                capture_output=True, text=True).stdout
        if "header-request" not in output:
            sys.exit(f"{self.name} does not set the header: {output}")

    def stop(self):
        self.process.terminate()
        self.process.wait()


def start_servers(folder, build, venv):
    def path(name, text):
        full = os.path.join(folder, name)
        with open(full, "w") as file:
            file.write(text)
        return full

    script, server = path("add_header.py", SCRIPT), path("server.py", SERVER)
    python = os.path.join(venv, "bin", "python")
    packages = os.path.join(build, "plugins", "python", "packages")
    for name, blocking in (("plugin, serving thread", "false"), ("plugin, pool", "true")):
        config = f'{{"script": "{script}", "venv": "{venv}", "blocking": {blocking}}}'
        yield Server(
            name,
            [os.path.join(build, "host", "callout-host"), "--transport=nghttp2",
             f"--plugin=python={os.path.join(build, 'plugins', 'python.so')}",
             f"--plugin_config=python={config}", "--plaintext_address=127.0.0.1:0", "--disable_tls",
             "--combined_health_check", "--admin_address=off", "--server_threads=1",
             "--early_end=off", "--hook_deadline_ms=5000"],
            os.path.join(folder, f"host-{blocking}.log"), "listening plaintext")
    for kind in ("threads", "asyncio"):
        # The environment's own package `envoy` (a binary of Envoy) is no package of messages.
        yield Server(f"grpcio, {kind}", [python, server, kind], os.path.join(folder, f"{kind}.log"),
                     "listening", {"PYTHONPATH": f"{folder}:{packages}"})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default=os.path.join(TOP, "build"))
    parser.add_argument("--venv", default=os.path.join(TOP, ".venv"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", type=int, default=4000)
    options = parser.parse_args()
    build, venv = os.path.abspath(options.build), os.path.abspath(options.venv)
    servers = []
    with tempfile.TemporaryDirectory() as folder:
        body = os.path.join(folder, "body")
        with open(body, "wb") as file:
            file.write(request_headers())
        try:
            for server in start_servers(folder, build, venv):
                servers.append(server)
                server.verify(os.path.join(build, "host", "callout-client"))
                server.load(body, options.streams // 4)
            rounds = []
            for _ in range(options.rounds):
                order = random.sample(servers, len(servers))
                rounds.append({server.name: server.microseconds_per_stream(body, options.streams)
                               for server in order})
        finally:
            for server in servers:
                server.stop()
    print("| server | CPU a stream | streams per CPU second, x grpcio with threads | x with asyncio |")
    print("|---|---|---|---|")
    for server in servers:
        name = server.name
        median = statistics.median(measured[name] for measured in rounds)
        ratios = [statistics.median(measured[f"grpcio, {kind}"] / measured[name] for measured in rounds)
                  for kind in ("threads", "asyncio")]
        print(f"| {name} | {median:.1f} us | {ratios[0]:.1f} | {ratios[1]:.1f} |")


if __name__ == "__main__":
    main()
