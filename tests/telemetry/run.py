#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Exchanges with a host, and the traces that a collector then has, read with OpenTelemetry's classes.

    run.py --build BUILD --transport grpc|nghttp2 [--workers N]

Ends with 77, for "skipped", if a package of scripts/setup is missing; with CI=true that is a failure."""

import argparse
import http.server
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import unittest

SKIPPED = 77
SECONDS_MAX = int(os.environ.get("CALLOUT_TELEMETRY_SECONDS", "60"))
TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
VENV = os.path.join(TOP, ".venv", "bin", "python")

# With the packages of .venv, if this is another Python.
if os.path.exists(VENV) and os.environ.get("CALLOUT_TELEMETRY_INNER") is None:
    os.execve(VENV, [VENV, *sys.argv], {**os.environ, "CALLOUT_TELEMETRY_INNER": "1"})

try:
    import grpc
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
    from opentelemetry.proto.trace.v1 import trace_pb2
except ImportError as reason:
    print(f"{reason}; scripts/setup installs it into .venv")
    sys.exit(1 if os.environ.get("CI") == "true" else SKIPPED)

PROCESS = "envoy.service.ext_proc.v3.ExternalProcessor/Process"
CHECK = "envoy.service.auth.v3.Authorization/Check"
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
OTHER_TRACE = "11111111111111111111111111111111"


class Collector:
    """Takes traces; `reply(number)` gives (status, headers, body) for a request."""

    def __init__(self, reply=lambda number: (200, {}, b"")):
        self.spans, self.resources, self.requests = [], [], 0
        self.changed = threading.Condition()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with outer.changed:
                    number, outer.requests = outer.requests, outer.requests + 1
                    status, headers, reply_body = reply(number)
                    if status == 200:
                        outer.take(self, body)
                    outer.changed.notify_all()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply_body)))
                self.end_headers()
                self.wfile.write(reply_body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def take(self, handler, body):
        assert handler.path == "/v1/traces", handler.path
        assert handler.headers["Content-Type"] == "application/x-protobuf"
        request = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
        for resource_spans in request.resource_spans:
            self.resources.append(attributes(resource_spans.resource))
            for scope_spans in resource_spans.scope_spans:
                assert scope_spans.scope.name == "callout-host"
                self.spans += scope_spans.spans

    def wait(self, condition):
        with self.changed:
            assert self.changed.wait_for(lambda: condition(self), SECONDS_MAX), \
                [span.name for span in self.spans]

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Host:
    def __init__(self, options, environment, *arguments):
        self.log = tempfile.NamedTemporaryFile("w+", prefix="callout-telemetry-")
        plugin = os.path.join(options.build, "tests", "telemetry", "outcomes.so")
        command = [os.path.join(options.build, "host", "callout-host"),
                   f"--transport={options.transport}", f"--plugin=out={plugin}",
                   "--plugin_permissions=off", "--plaintext_address=127.0.0.1:0", "--disable_tls",
                   "--combined_health_check", "--admin_address=127.0.0.1:0",
                   "--hook_deadline_ms=20000", *arguments]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log,
                                        env={**clean, **environment})
        self.admin = self.address("admin")
        self.channel = grpc.insecure_channel(self.address("plaintext"))

    def text(self):
        with open(self.log.name) as file:
            return file.read()

    def address(self, listener):
        give_up = time.monotonic() + SECONDS_MAX
        while time.monotonic() < give_up and self.process.poll() is None:
            if found := re.search(rf"listening {listener} (\S+:\d+)$", self.text(), re.MULTILINE):
                return found[1]
            time.sleep(0.02)
        raise AssertionError(self.text())

    def metric(self, series):
        import urllib.request
        with urllib.request.urlopen(f"http://{self.admin}/metrics", timeout=SECONDS_MAX) as page:
            found = re.search(rf"^{re.escape(series)} (\S+)$", page.read().decode(), re.MULTILINE)
        return float(found[1]) if found else -1

    def await_metric(self, series, at_least):
        give_up = time.monotonic() + SECONDS_MAX
        while self.metric(series) < at_least:
            assert time.monotonic() < give_up, f"{series}: {self.metric(series)}\n{self.text()}"

    def await_log(self, text):
        give_up = time.monotonic() + SECONDS_MAX
        while text not in self.text():
            assert time.monotonic() < give_up, self.text()
            time.sleep(0.02)

    def kill(self):
        self.process.kill()
        self.process.wait(SECONDS_MAX)

    def stop(self):
        self.channel.close()
        self.process.terminate()
        return self.process.wait(SECONDS_MAX)


def read_classes(build):
    pool = descriptor_pool.DescriptorPool()
    with open(os.path.join(build, "tests", "interop", "ext_proc.protoset"), "rb") as file:
        for descriptor in descriptor_pb2.FileDescriptorSet.FromString(file.read()).file:
            pool.Add(descriptor)
    return [message_factory.GetMessageClass(
                pool.FindMessageTypeByName(f"envoy.service.ext_proc.v3.{name}"))
            for name in ("ProcessingRequest", "ProcessingResponse")]


def attributes(owner):
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value"))
            for pair in owner.attributes}


class Traces(unittest.TestCase):
    options = None  # of the command line

    def start(self, environment=None, reply=None, *arguments):
        self.collector = Collector(reply) if reply else Collector()
        self.addCleanup(self.collector.close)
        self.host = Host(self.options, {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.collector.url, "OTEL_BSP_SCHEDULE_DELAY": "10",
            **(environment or {})}, *arguments)
        self.addCleanup(self.host.kill)

    def exchange(self, path, metadata=(), headers=(), method="GET"):
        """The answers to request_headers and response_headers of one stream."""
        Request, Response = read_classes(self.options.build)
        first, second = Request(), Request()
        for name, value in [(":method", method), (":path", path), *headers]:
            header = first.request_headers.headers.headers.add()
            header.key, header.raw_value = name, value if isinstance(value, bytes) else value.encode()
        first.request_headers.end_of_stream = True
        status = second.response_headers.headers.headers.add()
        status.key, status.raw_value = ":status", b"200"
        second.response_headers.end_of_stream = True
        call = self.host.channel.stream_stream(
            f"/{PROCESS}", request_serializer=Request.SerializeToString,
            response_deserializer=Response.FromString)
        try:
            return list(call(iter([first, second]), timeout=SECONDS_MAX, metadata=list(metadata)))
        except grpc.RpcError as error:
            return error.code()

    def spans(self, count):
        self.collector.wait(lambda collector: len(collector.spans) >= count)
        by_kind = {trace_pb2.Span.SPAN_KIND_SERVER: [], trace_pb2.Span.SPAN_KIND_INTERNAL: []}
        for span in self.collector.spans:
            by_kind[span.kind].append(span)
        return by_kind[trace_pb2.Span.SPAN_KIND_SERVER], by_kind[trace_pb2.Span.SPAN_KIND_INTERNAL]

    def test_an_exchange_is_a_server_span_with_a_child_for_each_call(self):
        self.start({"OTEL_SERVICE_NAME": "gate", "OTEL_RESOURCE_ATTRIBUTES": "a=b%20c"})
        before = time.time_ns()
        self.exchange("/mutated?token=secret", [("traceparent", f"00-{TRACE}-{PARENT}-01"),
                                                ("tracestate", "envoy=1")])
        servers, calls = self.spans(3)
        after = time.time_ns()
        self.assertEqual((len(servers), len(calls)), (1, 2))
        server = servers[0]
        self.assertEqual(server.name, PROCESS)
        self.assertEqual(server.trace_id.hex(), TRACE)
        self.assertEqual(server.parent_span_id.hex(), PARENT)
        self.assertEqual(server.trace_state, "envoy=1")
        self.assertEqual(server.flags & 0xff, 1)
        self.assertTrue(before - 10**9 < server.start_time_unix_nano <= server.end_time_unix_nano
                        < after + 10**9)
        self.assertEqual(server.status.code, trace_pb2.Status.STATUS_CODE_UNSET)
        of_server = attributes(server)
        self.assertGreater(of_server.pop("callout.stream"), 0)
        self.assertEqual(of_server, {
            "rpc.system.name": "grpc", "rpc.method": PROCESS, "rpc.response.status_code": "OK",
            "http.request.method": "GET", "url.path": "/mutated"})
        self.assertEqual([call.name for call in calls],
                         ["out request_headers", "out response_headers"])
        for call, outcome in zip(calls, ("changed", "unchanged")):
            self.assertEqual(call.trace_id, server.trace_id)
            self.assertEqual(call.parent_span_id, server.span_id)
            self.assertTrue(server.start_time_unix_nano <= call.start_time_unix_nano
                            <= call.end_time_unix_nano <= server.end_time_unix_nano)
            of_call = attributes(call)
            self.assertEqual(of_call["callout.plugin"], "out")
            self.assertEqual(of_call["callout.outcome"], outcome)
            self.assertEqual(of_call["callout.generation"], 1)
            self.assertIs(of_call["callout.deferred"], False)
            self.assertGreater(of_call["callout.request_bytes"], 0)
        self.assertEqual(self.collector.resources[0]["service.name"], "gate")
        self.assertEqual(self.collector.resources[0]["a"], "b c")
        self.assertEqual(self.host.stop(), 0, self.host.text())

    def test_each_outcome_has_its_name(self):
        self.start()
        for path, outcome, status in (("/deny", "immediate", 403), ("/deferred", "changed", None),
                                      ("/fault", "fault:illegal_header", 500)):
            with self.subTest(path):
                self.collector.spans.clear()
                self.exchange(path)
                servers, calls = self.spans(2)
                of_call = attributes(calls[0])
                self.assertEqual(of_call["callout.outcome"], outcome)
                self.assertEqual(of_call.get("http.response.status_code"), status)
                self.assertEqual(of_call["callout.deferred"], path == "/deferred")
                failed = calls[0].status.code == trace_pb2.Status.STATUS_CODE_ERROR
                self.assertEqual(failed, path == "/fault")
                # After a fault the host refuses by an immediate response of its own.
                self.assertEqual(attributes(servers[0]).get("http.response.status_code"), status)

    def test_the_rpcs_parent_goes_before_the_http_requests(self):
        self.start()
        other = f"00-{OTHER_TRACE}-{PARENT}-01"
        self.exchange("/", [("traceparent", f"00-{TRACE}-{PARENT}-01")], [("traceparent", other)])
        self.exchange("/", [("traceparent", "junk")], [("traceparent", other)])
        self.exchange("/", (), [("traceparent", other)])
        servers, _ = self.spans(9)
        self.assertEqual([server.trace_id.hex() for server in servers],
                         [TRACE, OTHER_TRACE, OTHER_TRACE])

    def test_a_parent_that_is_not_sampled_is_obeyed(self):
        self.start()
        self.exchange("/", [("traceparent", f"00-{OTHER_TRACE}-{PARENT}-00")])
        self.exchange("/", [("traceparent", f"00-{TRACE}-{PARENT}-01")])
        servers, _ = self.spans(3)
        self.assertEqual([server.trace_id.hex() for server in servers], [TRACE])
        self.assertEqual(self.host.stop(), 0, self.host.text())
        self.assertEqual(len(self.collector.spans), 3)

    def test_samplers_are_obeyed(self):
        self.start({"OTEL_TRACES_SAMPLER": "always_off"})
        for _ in range(20):
            self.exchange("/", [("traceparent", f"00-{TRACE}-{PARENT}-01")])
        self.assertEqual(self.host.stop(), 0, self.host.text())
        self.assertEqual(self.collector.spans, [])

    def test_texts_of_clients_are_made_utf8(self):
        self.start()
        self.exchange("/", headers=[("x", b"\xff")], method="G\u00e9T")
        servers, _ = self.spans(3)
        self.assertEqual(len(servers), 1)

    def test_a_check_is_traced_as_a_stream_is(self):
        self.start()
        check = self.host.channel.unary_unary(f"/{CHECK}")

        def record(number, value):
            return bytes([number << 3 | 2, len(value)]) + value

        # attributes = 1, request = 4, http = 2: {method = 2, headers = 3, path = 4}.
        headers = [(b":method", b"GET"), (b":path", b"/deny")]
        http = record(2, b"GET") + record(4, b"/deny") + b"".join(
            record(3, record(1, name) + record(2, value)) for name, value in headers)
        check(record(1, record(4, record(2, http))), timeout=SECONDS_MAX,
              metadata=[("traceparent", f"00-{TRACE}-{PARENT}-01")])
        servers, calls = self.spans(2)
        self.assertEqual((servers[0].name, servers[0].trace_id.hex()), (CHECK, TRACE))
        self.assertEqual(attributes(servers[0])["url.path"], "/deny")
        self.assertEqual(calls[0].name, "out check")
        self.assertEqual(attributes(calls[0])["callout.outcome"], "immediate")
        self.assertEqual(attributes(calls[0])["http.response.status_code"], 403)

    def test_workers_send_their_own(self):
        self.start({}, None, "--workers=2")
        for _ in range(4):
            self.exchange("/mutated")
        servers, calls = self.spans(12)
        self.assertEqual((len(servers), len(calls)), (4, 8))
        self.assertEqual(self.host.stop(), 0, self.host.text())

    def test_a_collector_that_recovers_gets_what_waited(self):
        self.start({}, lambda number: (503, {"Retry-After": "1"}, b"") if number == 0
                   else (200, {}, b""))
        self.exchange("/mutated")
        self.spans(3)
        self.host.await_metric('callout_trace_exports_total{outcome="retry"}', 1)
        self.host.await_metric('callout_trace_spans_total{outcome="sent"}', 3)
        self.assertIn("HTTP status 503", self.host.text())

    def test_nothing_of_a_broken_collector_reaches_the_streams(self):
        self.start({"OTEL_BSP_EXPORT_TIMEOUT": "50", "OTEL_BSP_MAX_QUEUE_SIZE": "6"},
                   lambda number: (502, {}, b"<html>" * 1000))
        for _ in range(20):
            self.assertEqual(len(self.exchange("/mutated")), 2)
        self.host.await_metric('callout_trace_spans_total{outcome="failed"}', 1)
        self.assertEqual(self.host.metric('callout_trace_spans_total{outcome="sent"}'), 0)
        self.host.await_log("OTEL_EXPORTER_OTLP_ENDPOINT")
        self.assertEqual(self.host.stop(), 0, self.host.text())

    def test_nobody_at_the_endpoint(self):
        self.start({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
                    "OTEL_BSP_EXPORT_TIMEOUT": "50"})
        self.assertEqual(len(self.exchange("/mutated")), 2)
        self.host.await_metric('callout_trace_spans_total{outcome="failed"}', 3)
        self.host.await_log("given up after OTEL_BSP_EXPORT_TIMEOUT=50")
        self.assertEqual(self.host.stop(), 0, self.host.text())

    def test_a_protocol_that_is_not_spoken_is_a_warning(self):
        self.start({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})
        self.assertEqual(len(self.exchange("/mutated")), 2)
        self.assertIn("OTEL_EXPORTER_OTLP_PROTOCOL=grpc", self.host.text())
        self.assertEqual(self.host.metric('callout_trace_spans_total{outcome="sent"}'), -1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default="build")
    parser.add_argument("--transport", default="nghttp2")
    Traces.options, rest = parser.parse_known_args()
    unittest.main(argv=[sys.argv[0], *rest], verbosity=2)
