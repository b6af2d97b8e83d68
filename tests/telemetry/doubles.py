# SPDX-License-Identifier: Apache-2.0
"""What the tests of this folder share: the host as a process, and collectors that are none.

Ends the program with 77, for "skipped", if a package of scripts/setup is missing; with CI=true that
is a failure."""

import contextlib
import gzip
import http.server
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

SKIPPED = 77
SECONDS_MAX = int(os.environ.get("CALLOUT_TELEMETRY_SECONDS", "60"))
TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
VENV = os.path.join(TOP, ".venv", "bin", "python")

# With the packages of .venv, if this is another Python.
if os.path.exists(VENV) and os.environ.get("CALLOUT_TELEMETRY_INNER") is None:
    os.execve(VENV, [VENV, *sys.argv], {**os.environ, "CALLOUT_TELEMETRY_INNER": "1"})


def skip(reason):
    print(reason)
    sys.exit(1 if os.environ.get("CI") == "true" else SKIPPED)


try:
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
except ImportError as error:
    skip(f"{error}; scripts/setup installs it into .venv")


def attributes(owner):
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value"))
            for pair in owner.attributes}


def await_true(condition, what):
    """The first value of `condition()` that is true; `what()` says what there was instead."""
    give_up = time.monotonic() + SECONDS_MAX
    while not (value := condition()):
        assert time.monotonic() < give_up, what()
        time.sleep(0.02)
    return value


def read_body(handler):
    if handler.headers["Transfer-Encoding"] != "chunked":
        return handler.rfile.read(int(handler.headers["Content-Length"]))
    body = b""
    while size := int(handler.rfile.readline(), 16):
        body += handler.rfile.read(size)
        handler.rfile.readline()
    handler.rfile.readline()
    return body


class HttpServer:
    """Calls `on_request(handler)` for each GET and POST, on a thread of the connection."""

    def __init__(self, on_request, version="HTTP/1.0"):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = version

            def do_GET(self):
                on_request(self)

            do_POST = do_GET

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"

    @staticmethod
    def respond(handler, status, headers, body):
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def close(self):
        self._server.shutdown()
        self._server.server_close()


class Collector(HttpServer):
    """Takes traces; `reply(number)` gives (status, headers, body) for a request."""

    def __init__(self, reply=lambda number: (200, {}, b"")):
        self.spans, self.resources, self.requests = [], [], 0
        self.foreign_spans = []  # of other services
        self.encodings, self.packed_bytes, self.bytes = set(), 0, 0
        self.changed = threading.Condition()
        self.reply = reply
        super().__init__(self.on_request)

    def on_request(self, handler):
        body = read_body(handler)
        with self.changed:
            number, self.requests = self.requests, self.requests + 1
            status, headers, reply_body = self.reply(number)
            if status == 200:
                self.take(handler, body)
            self.changed.notify_all()
        with contextlib.suppress(OSError):  # who has sent it may be gone
            self.respond(handler, status, headers, reply_body)

    def take(self, handler, body):
        assert handler.path == "/v1/traces", handler.path
        assert handler.headers["Content-Type"] == "application/x-protobuf"
        encoding = handler.headers["Content-Encoding"]
        packed = len(body)
        if encoding == "gzip":
            body = gzip.decompress(body)
        request = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
        for resource_spans in request.resource_spans:
            for scope_spans in resource_spans.scope_spans:
                if scope_spans.scope.name != "callout-host":
                    self.foreign_spans += scope_spans.spans
                    continue
                self.resources.append(attributes(resource_spans.resource))
                self.spans += scope_spans.spans
                self.encodings.add(encoding)
                self.packed_bytes += packed
                self.bytes += len(body)

    def wait(self, condition):
        with self.changed:
            assert self.changed.wait_for(lambda: condition(self), SECONDS_MAX), \
                [span.name for span in self.spans]


class RawCollector:
    """Takes a connection after the other, and calls `reply(connection)` once a request is there."""

    def __init__(self, reply):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.stopped = threading.Event()
        threading.Thread(target=self._run, args=(reply,), daemon=True).start()

    def _run(self, reply):
        while not self.stopped.is_set():
            with contextlib.suppress(OSError):
                connection, _ = self._listener.accept()
                with connection:
                    connection.recv(1 << 16)
                    reply(connection)

    def close(self):
        self.stopped.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


class Host:
    """With the traces' variables in `environment`, and in no other environment."""

    def __init__(self, options, environment, *arguments):
        self.log = tempfile.NamedTemporaryFile("w+", prefix="callout-telemetry-")
        command = [os.path.join(options.build, "host", "callout-host"),
                   f"--transport={options.transport}", "--plugin_permissions=off",
                   "--plaintext_address=127.0.0.1:0", "--disable_tls", "--combined_health_check",
                   "--admin_address=127.0.0.1:0", "--hook_deadline_ms=20000", *arguments]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log,
                                        env={**clean, **environment})
        self.admin = self.address("admin")
        self.plaintext = self.address("plaintext")

    def text(self):
        with open(self.log.name) as file:
            return file.read()

    def address(self, listener):
        def found():
            assert self.process.poll() is None, self.text()
            return re.search(rf"listening {listener} (\S+:\d+)$", self.text(), re.MULTILINE)
        return await_true(found, self.text)[1]

    def page(self, path, **headers):
        request = urllib.request.Request(f"http://{self.admin}{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=SECONDS_MAX) as page:
            return page.read().decode()

    def metric(self, series):
        found = re.search(rf"^{re.escape(series)} (\S+)$", self.page("/metrics"), re.MULTILINE)
        return float(found[1]) if found else -1

    def await_metric(self, series, at_least):
        await_true(lambda: self.metric(series) >= at_least,
                   lambda: f"{series}: {self.metric(series)}\n{self.text()}")

    def await_log(self, text):
        await_true(lambda: text in self.text(), self.text)

    def kill(self):
        self.process.kill()
        self.process.wait(SECONDS_MAX)

    def stop(self):
        self.process.terminate()
        return self.process.wait(SECONDS_MAX)
