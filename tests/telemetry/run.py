#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Exchanges with a host, and the traces that a collector then has, read with OpenTelemetry's classes.

    run.py --build BUILD --transport grpc|nghttp2 [--workers N]

Ends with 77, for "skipped", if a package of scripts/setup is missing; with CI=true that is a failure."""

import argparse
import contextlib
import os
import sys
import time
import unittest

from doubles import SECONDS_MAX, Collector, Host, RawCollector, attributes, skip

try:
    import grpc
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
    from opentelemetry.proto.trace.v1 import trace_pb2
except ImportError as reason:
    skip(f"{reason}; scripts/setup installs it into .venv")

PROCESS = "envoy.service.ext_proc.v3.ExternalProcessor/Process"
CHECK = "envoy.service.auth.v3.Authorization/Check"
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
OTHER_TRACE = "11111111111111111111111111111111"


def read_classes(build):
    pool = descriptor_pool.DescriptorPool()
    with open(os.path.join(build, "tests", "interop", "ext_proc.protoset"), "rb") as file:
        for descriptor in descriptor_pb2.FileDescriptorSet.FromString(file.read()).file:
            pool.Add(descriptor)
    return [message_factory.GetMessageClass(
                pool.FindMessageTypeByName(f"envoy.service.ext_proc.v3.{name}"))
            for name in ("ProcessingRequest", "ProcessingResponse")]


class Traces(unittest.TestCase):
    options = None  # of the command line

    def start(self, environment=None, reply=None, *arguments):
        self.collector = Collector(reply) if reply else Collector()
        self.addCleanup(self.collector.close)
        self.run_host({"OTEL_EXPORTER_OTLP_ENDPOINT": self.collector.url,
                       "OTEL_BSP_SCHEDULE_DELAY": "10", **(environment or {})}, *arguments)

    def run_host(self, environment, *arguments):
        plugin = os.path.join(self.options.build, "tests", "telemetry", "outcomes.so")
        self.host = Host(self.options, environment, f"--plugin=out={plugin}", *arguments)
        self.addCleanup(self.host.kill)
        self.channel = grpc.insecure_channel(self.host.plaintext)
        self.addCleanup(self.channel.close)

    def stop(self):
        self.channel.close()
        return self.host.stop()

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
        call = self.channel.stream_stream(
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
        self.assertEqual(self.stop(), 0, self.host.text())

    def test_a_plugin_adds_attributes_and_events_to_its_span(self):
        self.start()
        answers = self.exchange("/traced", [("traceparent", f"00-{TRACE}-{PARENT}-01"),
                                            ("tracestate", "envoy=1")])
        _, calls = self.spans(3)
        call = next(call for call in calls if call.name == "out request_headers")
        of_call = attributes(call)
        self.assertEqual((of_call["tenant"], of_call["rule"], of_call["score"], of_call["hit"]),
                         ("bl\u00fc", -942100, 0.5, False))
        self.assertEqual(of_call["callout.plugin"], "out")
        # 204 in all, at most 128.
        self.assertEqual(of_call["more.123"], 123)
        self.assertNotIn("more.124", of_call)
        self.assertEqual(call.dropped_attributes_count, 76)
        self.assertEqual([event.name for event in call.events], ["looked up", "done"])
        self.assertEqual(attributes(call.events[0]), {"entries": 3, "where": "cache"})
        for event in call.events:
            self.assertTrue(call.start_time_unix_nano <= event.time_unix_nano
                            <= call.end_time_unix_nano)
        # What the plugin passes on has its own span as the parent.
        told = {header.header.key: header.header.raw_value.decode() for header in
                answers[0].request_headers.response.header_mutation.set_headers}
        self.assertEqual(told["x-traceparent"], f"00-{TRACE}-{call.span_id.hex()}-01")
        self.assertEqual(told["x-tracestate"], "envoy=1")
        self.host.await_metric(
            'callout_trace_dropped_total{plugin="out",what="attribute"}', 76)
        self.host.await_log("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT=128")

    def test_the_variables_limit_what_a_plugin_adds(self):
        self.start({"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "2", "OTEL_SPAN_EVENT_COUNT_LIMIT": "1",
                    "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": "1",
                    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "3"})
        self.exchange("/traced")
        _, calls = self.spans(3)
        call = next(call for call in calls if call.name == "out request_headers")
        of_call = attributes(call)
        self.assertEqual((of_call["tenant"], of_call["rule"]), ("bl", -942100))
        self.assertNotIn("score", of_call)
        self.assertEqual(call.dropped_attributes_count, 202)
        self.assertEqual((len(call.events), call.dropped_events_count), (1, 1))
        self.assertEqual(attributes(call.events[0]), {"entries": 3})
        self.assertEqual(call.events[0].dropped_attributes_count, 1)

    def test_an_option_limits_all_that_plugins_add_to_an_exchange(self):
        self.start({}, None, "--max_trace_bytes=0")
        self.exchange("/traced")
        _, calls = self.spans(3)
        call = next(call for call in calls if call.name == "out request_headers")
        self.assertNotIn("tenant", attributes(call))
        self.assertEqual(call.dropped_attributes_count, 204)
        self.assertEqual(call.dropped_events_count, 2)

    def test_what_is_sent_can_be_compressed(self):
        self.start({"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip", "OTEL_BSP_SCHEDULE_DELAY": "500"})
        for _ in range(10):
            self.exchange("/mutated")
        servers, _ = self.spans(30)
        self.assertEqual(len(servers), 10)
        self.assertEqual(self.collector.encodings, {"gzip"})
        self.assertLess(3 * self.collector.packed_bytes, self.collector.bytes)

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
        self.assertEqual(self.stop(), 0, self.host.text())
        self.assertEqual(len(self.collector.spans), 3)

    def test_samplers_are_obeyed(self):
        self.start({"OTEL_TRACES_SAMPLER": "always_off"})
        for _ in range(20):
            self.exchange("/", [("traceparent", f"00-{TRACE}-{PARENT}-01")])
        self.assertEqual(self.stop(), 0, self.host.text())
        self.assertEqual(self.collector.spans, [])

    def test_texts_of_clients_are_made_utf8(self):
        self.start()
        self.exchange("/", headers=[("x", b"\xff")], method="G\u00e9T")
        servers, _ = self.spans(3)
        self.assertEqual(len(servers), 1)

    def test_a_check_is_traced_as_a_stream_is(self):
        self.start()
        check = self.channel.unary_unary(f"/{CHECK}")

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
        self.assertEqual(self.stop(), 0, self.host.text())

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
        self.assertEqual(self.stop(), 0, self.host.text())

    def test_a_collector_that_is_not_to_be_asked_soon(self):
        self.start({"OTEL_BSP_EXPORT_TIMEOUT": "1000"},
                   lambda number: (429, {"Retry-After": "3600"}, b""))
        for _ in range(5):
            self.assertEqual(len(self.exchange("/mutated")), 2)
        self.host.await_metric('callout_trace_spans_total{outcome="failed"}', 3)
        self.host.await_log("HTTP status 429")
        self.assertEqual(self.collector.requests, 1)
        self.assertEqual(self.stop(), 0, self.host.text())

    def test_a_collector_that_takes_only_a_part(self):
        reply = trace_service_pb2.ExportTraceServiceResponse()
        reply.partial_success.rejected_spans = 2
        reply.partial_success.error_message = "too old\nand more"
        self.start({}, lambda number: (200, {}, reply.SerializeToString()))
        self.exchange("/mutated")
        self.host.await_metric('callout_trace_spans_total{outcome="rejected"}', 2)
        self.assertEqual(self.host.metric('callout_trace_spans_total{outcome="sent"}'), 1)
        self.host.await_log("2 spans were rejected: too old\\x0aand more")

    def hostile(self, reply, log):
        """Streams go on, the spans are lost and counted, and the log says why."""
        collector = RawCollector(reply)
        self.addCleanup(collector.close)
        self.run_host({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
                       "OTEL_BSP_SCHEDULE_DELAY": "10", "OTEL_BSP_EXPORT_TIMEOUT": "300",
                       "OTEL_EXPORTER_OTLP_TIMEOUT": "300"})
        for _ in range(10):
            self.assertEqual(len(self.exchange("/mutated")), 2)
        self.host.await_metric('callout_trace_spans_total{outcome="failed"}', 1)
        self.host.await_metric('callout_trace_exports_total{outcome="retry"}', 1)
        self.host.await_log(log)
        self.assertEqual(self.host.metric('callout_trace_spans_total{outcome="sent"}'), 0)
        collector.stopped.set()
        self.assertEqual(self.stop(), 0, self.host.text())

    def test_a_collector_that_sends_garbage(self):
        self.hostile(lambda connection: connection.sendall(b"\0\xff" * 1000), "invalid response")

    def test_a_collector_whose_response_is_huge(self):
        def reply(connection):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
        self.hostile(reply, "body limit exceeded")

    def test_a_collector_whose_headers_are_huge(self):
        def reply(connection):
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            with contextlib.suppress(OSError):
                for _ in range(1000):
                    connection.sendall(b"x: " + b"y" * 1000 + b"\r\n")
        self.hostile(reply, "header limit exceeded")

    def test_a_collector_that_never_ends_its_response(self):
        def reply(connection):
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            with contextlib.suppress(OSError):
                while connection.send(b"1\r\nx\r\n"):
                    time.sleep(0.01)
        self.hostile(reply, "no response within")

    def test_a_collector_that_never_responds(self):
        self.hostile(lambda connection: connection.recv(1 << 16), "no response within")

    def test_nobody_at_the_endpoint(self):
        self.start({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
                    "OTEL_BSP_EXPORT_TIMEOUT": "50"})
        self.assertEqual(len(self.exchange("/mutated")), 2)
        self.host.await_metric('callout_trace_spans_total{outcome="failed"}', 3)
        self.host.await_log("given up after OTEL_BSP_EXPORT_TIMEOUT=50")
        self.assertEqual(self.stop(), 0, self.host.text())

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
