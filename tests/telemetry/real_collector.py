#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The host's traces, sent to OpenTelemetry's own collector: what it has equals what was sent.

    real_collector.py --build BUILD --transport grpc|nghttp2

Builds collector/ with Go, whose modules are fetched by the Go proxy the first time: scripts/check --full
runs it. Between host and collector stands a server that keeps the bytes of both directions. Ends with
77, for "skipped", without Go."""

import argparse
import base64
import contextlib
import gzip
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import unittest

from doubles import SECONDS_MAX, Host, HttpServer, await_true, read_body, skip

try:
    import grpc
    from google.protobuf import json_format
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
except ImportError as reason:
    skip(f"{reason}; scripts/setup installs it into .venv")

HERE = os.path.dirname(os.path.abspath(__file__))
PROCESS = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"


def build_collector(build):
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if go is None:
        skip("no Go: the collector is not built")
    program = os.path.abspath(os.path.join(build, "otel-collector"))
    subprocess.run([go, "build", "-o", program, "."], cwd=os.path.join(HERE, "collector"),
                   env={**os.environ, "CGO_ENABLED": "0"}, check=True)
    return program


class RealCollector:
    def __init__(self, program, folder):
        self.lines = os.path.join(folder, "lines.json")
        self.log = open(os.path.join(folder, "collector.log"), "w+")
        config = os.path.join(folder, "collector.yaml")
        # It has no way to tell a port that it was given by the system; somebody may take this one.
        for _ in range(5):
            with socket.create_server(("127.0.0.1", 0)) as free:
                self.port = free.getsockname()[1]
            with open(config, "w") as file:
                json.dump({
                    "receivers": {"otlp": {"protocols": {"http": {
                        "endpoint": f"127.0.0.1:{self.port}"}}}},
                    "exporters": {"lines": {"path": self.lines}},
                    "service": {"telemetry": {"metrics": {"level": "none"}},
                                "pipelines": {"traces": {"receivers": ["otlp"],
                                                         "exporters": ["lines"]}}}}, file)
            self.process = subprocess.Popen([program, f"--config=file:{config}"], stdout=self.log,
                                            stderr=self.log)
            if await_true(self.state, self.text) == "serving":
                return
        raise AssertionError(self.text())

    def state(self):
        if self.process.poll() is not None:
            return "ended"
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port)).close()
            return "serving"
        return None

    def text(self):
        with open(self.log.name) as file:
            return file.read()

    def requests(self):
        if not os.path.exists(self.lines):
            return []
        with open(self.lines) as file:
            return [json.loads(line) for line in file if line.endswith("\n")]

    def stop(self):
        self.process.terminate()
        self.process.wait(SECONDS_MAX)
        self.log.close()


class Between(HttpServer):
    """Passes requests on to the collector at `port`, and keeps them and the responses."""

    def __init__(self, port):
        self.sent, self.replies = [], []
        self.collector_port = port
        super().__init__(self.on_request)

    def on_request(self, handler):
        body = read_body(handler)
        connection = http.client.HTTPConnection("127.0.0.1", self.collector_port,
                                                timeout=SECONDS_MAX)
        connection.request("POST", handler.path, body, dict(handler.headers))
        response = connection.getresponse()
        reply = response.read()
        connection.close()
        self.sent.append((handler.headers["Content-Encoding"], body))
        self.replies.append((response.status, reply))
        content_type = response.headers["Content-Type"] or "text/plain"
        self.respond(handler, response.status, {"Content-Type": content_type}, reply)


def plain(value, key=""):
    """JSON as both sides write it: ids in hexadecimal, and nothing that is empty."""
    if isinstance(value, dict):
        items = {name: plain(one, name) for name, one in value.items()}
        return {name: one for name, one in items.items() if one not in ({}, [], "")}
    if isinstance(value, list):
        return [plain(one) for one in value]
    if key in ("traceId", "spanId", "parentSpanId"):
        return base64.b64decode(value).hex() if len(value) not in (0, 16, 32) else value
    return value


def decoded(body):
    """By OpenTelemetry's classes."""
    request = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
    return plain(json_format.MessageToDict(request, use_integers_for_enums=True))


class ToARealCollector(unittest.TestCase):
    options = None  # of the command line
    program = None

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="callout-collector-")
        self.addCleanup(folder.cleanup)
        self.collector = RealCollector(self.program, folder.name)
        self.addCleanup(self.collector.stop)
        self.between = Between(self.collector.port)
        self.addCleanup(self.between.close)

    def exchange(self, host, path):
        # ProcessingRequest{request_headers: HttpHeaders{headers: …, end_of_stream}}, by hand: this
        # test needs no more of ext_proc.
        def record(number, value):
            return bytes([number << 3 | 2, len(value)]) + value
        headers = b"".join(record(1, record(1, name) + record(3, value)) for name, value in (
            (b":method", b"GET"), (b":path", path.encode())))
        message = record(2, record(1, headers) + b"\x18\x01")
        with grpc.insecure_channel(host.plaintext) as channel:
            call = channel.stream_stream(PROCESS)
            answers = list(call(iter([message]), timeout=SECONDS_MAX,
                                metadata=[("tracestate", "a=1"), ("traceparent",
                                           "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")]))
        self.assertEqual(len(answers), 1)

    def run_with(self, compression):
        plugin = os.path.join(self.options.build, "tests", "telemetry", "outcomes.so")
        host = Host(self.options, {"OTEL_EXPORTER_OTLP_ENDPOINT": self.between.url,
                                   "OTEL_EXPORTER_OTLP_COMPRESSION": compression,
                                   "OTEL_BSP_SCHEDULE_DELAY": "50"}, f"--plugin=out={plugin}")
        self.addCleanup(host.kill)
        for path in ("/mutated", "/deny", "/fault", "/deferred", "/traced", "/"):
            self.exchange(host, path)
        host.await_metric('callout_trace_spans_total{outcome="sent"}', 12)
        self.assertEqual(host.metric('callout_trace_exports_total{outcome="ok"}'),
                         len(self.between.sent))
        for outcome in ("failed", "rejected", "queue_full"):
            self.assertEqual(host.metric(f'callout_trace_spans_total{{outcome="{outcome}"}}'), 0)
        self.assertEqual(host.stop(), 0, host.text())
        self.assertEqual({status for status, _ in self.between.replies}, {200})
        for _, reply in self.between.replies:
            answer = trace_service_pb2.ExportTraceServiceResponse.FromString(reply)
            self.assertEqual(answer.partial_success.rejected_spans, 0)
        await_true(lambda: len(self.collector.requests()) == len(self.between.sent),
                   self.collector.text)
        got = [plain(request) for request in self.collector.requests()]
        sent = [decoded(gzip.decompress(body) if encoding == "gzip" else body)
                for encoding, body in self.between.sent]
        self.maxDiff = None
        for one in sent:
            self.assertIn(one, got)
        spans = [span for request in got for of_resource in request["resourceSpans"]
                 for of_scope in of_resource["scopeSpans"] for span in of_scope["spans"]]
        self.assertEqual(len(spans), 12)
        self.assertEqual(sum(len(span.get("events", [])) for span in spans), 2)
        self.assertEqual({encoding for encoding, _ in self.between.sent},
                         {None if compression == "none" else compression})

    def test_it_has_what_was_sent(self):
        self.run_with("none")

    def test_it_has_what_was_sent_compressed(self):
        self.run_with("gzip")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default="build")
    parser.add_argument("--transport", default="nghttp2")
    ToARealCollector.options, rest = parser.parse_known_args()
    ToARealCollector.program = build_collector(ToARealCollector.options.build)
    unittest.main(argv=[sys.argv[0], *rest], verbosity=2)
