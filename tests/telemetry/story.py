#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A story behind a real Envoy: a plugin gets slow for one value of a header, and an operator finds out.

    story.py --build BUILD --transport grpc|nghttp2

The operator looks at the admin page, which shows the plugin and the phase. The exemplar of a slow call at
/metrics names a trace, and the span of the call in that trace has the value. An explained request shows it
as well. A mended version is put in the place of the plugin's file; the page shows the new generation, and
how the quantile falls. All the while requests go through Envoy, and none fails.

Ends with 77, for "skipped", without Envoy; with CI=true that is a failure."""

import argparse
import glob
import html.parser
import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest
import urllib.error
import urllib.parse
import urllib.request

from doubles import SECONDS_MAX, TOP, Collector, Host, HttpServer, attributes, await_true, skip

from opentelemetry.proto.trace.v1 import trace_pb2

TENANTS = ["red", "green", "blue", "acme"]
SLOW = 0.05  # seconds; the plugin takes twice as long, and its mended version next to nothing


def envoy_binary():
    named = os.environ.get("CALLOUT_ENVOY")
    found = [named] if named else glob.glob(
        os.path.join(TOP, ".venv", "lib", "python3*", "site-packages", "envoy", "_bin", "envoy"))
    return found[0] if found and os.path.exists(found[0]) else None


class Backend(HttpServer):
    """Counts what reaches it without the header of the plugin."""

    def __init__(self):
        self.without_quota = 0
        super().__init__(self.on_request, "HTTP/1.1")

    def on_request(self, handler):
        if handler.headers["x-quota"] != handler.headers["x-tenant"]:
            self.without_quota += 1
        self.respond(handler, 200, {}, b"ok")


def any_of(kind, **fields):
    return {"@type": f"type.googleapis.com/envoy.{kind}", **fields}


def cluster(name, port, http2=False):
    options = "extensions.upstreams.http.v3.HttpProtocolOptions"
    protocol = {"http2_protocol_options": {}} if http2 else {"http_protocol_options": {}}
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    return {
        "name": name, "type": "STATIC", "connect_timeout": "5s",
        "typed_extension_protocol_options": {
            f"envoy.{options}": any_of(options, explicit_http_config=protocol)},
        "load_assignment": {"cluster_name": name, "endpoints": [
            {"lb_endpoints": [{"endpoint": {"address": address}}]}]}}


def bootstrap(host_port, backend_port, collector_port):
    tracer = any_of("config.trace.v3.OpenTelemetryConfig", service_name="envoy", http_service={
        "http_uri": {"uri": f"http://127.0.0.1:{collector_port}/v1/traces", "cluster": "collector",
                     "timeout": "5s"}})
    ext_proc = any_of("extensions.filters.http.ext_proc.v3.ExternalProcessor",
                      grpc_service={"envoy_grpc": {"cluster_name": "host"}, "timeout": "20s"},
                      message_timeout="20s")
    manager = any_of(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="story",
        tracing={"random_sampling": {"value": 100},
                 "provider": {"name": "envoy.tracers.opentelemetry", "typed_config": tracer}},
        http_filters=[
            {"name": "envoy.filters.http.ext_proc", "typed_config": ext_proc},
            {"name": "envoy.filters.http.router",
             "typed_config": any_of("extensions.filters.http.router.v3.Router")}],
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "route": {"cluster": "backend", "timeout": "30s"}}]}]})
    free = {"socket_address": {"address": "127.0.0.1", "port_value": 0}}
    return {
        "admin": {"address": free},
        "static_resources": {
            "clusters": [cluster("host", host_port, http2=True), cluster("backend", backend_port),
                         cluster("collector", collector_port)],
            "listeners": [{"name": "story", "address": free, "filter_chains": [{"filters": [
                {"name": "envoy.filters.network.http_connection_manager",
                 "typed_config": manager}]}]}]}}


class Envoy:
    def __init__(self, folder, config):
        path, admin = os.path.join(folder, "envoy.json"), os.path.join(folder, "admin.txt")
        with open(path, "w") as file:
            json.dump(config, file)
        self.log = open(os.path.join(folder, "envoy.log"), "w+")
        self.process = subprocess.Popen(
            [envoy_binary(), "-c", path, "--admin-address-path", admin, "--use-dynamic-base-id",
             "--concurrency", "1", "-l", "warning"], stdout=self.log, stderr=self.log)

        def read():
            with open(self.log.name) as file:
                return file.read()

        def listening():
            assert self.process.poll() is None, read()
            if not os.path.exists(admin):
                return None
            with open(admin) as file:
                address = file.read().strip()
            if not address:
                return None
            try:
                with urllib.request.urlopen(f"http://{address}/listeners?format=json") as page:
                    listeners = json.load(page).get("listener_statuses", [])
            except urllib.error.URLError:
                return None
            return listeners[0]["local_address"]["socket_address"]["port_value"] if listeners else None
        self.port = await_true(listening, read)

    def stop(self):
        self.process.terminate()
        self.process.wait(SECONDS_MAX)
        self.log.close()


class Traffic:
    """Two clients, request after request, of all tenants in turn."""

    def __init__(self, port):
        self.port, self.count, self.failures = port, 0, []
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(2)]
        for thread in self._threads:
            thread.start()

    def _run(self, first):
        number = first
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS_MAX)
        while not self._stop.is_set():
            number += 1
            failure = self._ask(connection, TENANTS[number % len(TENANTS)])
            with self._lock:
                self.count += 1
                if failure is not None:
                    self.failures.append(failure)
        connection.close()

    @staticmethod
    def _ask(connection, tenant):
        try:
            connection.request("GET", f"/orders?tenant={tenant}", headers={"x-tenant": tenant})
            response = connection.getresponse()
            body = response.read()
            good = (response.status, body, response.headers["x-quota"]) == (200, b"ok", "seen")
            return None if good else f"{tenant}: {response.status} {dict(response.headers)} {body}"
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            return f"{tenant}: {error!r}"

    def stop(self):
        self._stop.set()
        for thread in self._threads:
            thread.join()


class Page(html.parser.HTMLParser):
    """What the admin page says of each plugin: {name: {"text": …, "rows": [[cell, …], …]}}."""

    def __init__(self, text):
        super().__init__()
        self.plugins, self._plugin, self._in_name, self._row = {}, None, False, None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "section" and ("class", "plugin") in attrs:
            self._plugin = {"text": "", "rows": []}
        self._in_name |= tag == "h3"
        if tag == "tr":
            self._row = []
        if tag in ("td", "th") and self._row is not None:
            self._row.append("")

    def handle_endtag(self, tag):
        if tag == "section":
            self._plugin = None
        if tag == "h3":
            self._in_name = False
        if tag == "tr" and self._plugin is not None:
            self._plugin["rows"].append(self._row)
        if tag == "tr":
            self._row = None

    def handle_data(self, data):
        if self._plugin is None:
            return
        if self._in_name:
            self.plugins[data] = self._plugin
        self._plugin["text"] += data
        if self._row:
            self._row[-1] += data

    def p99(self):
        """Seconds by (plugin, phase)."""
        found = {}
        for name, plugin in self.plugins.items():
            column = None
            for row in plugin["rows"]:
                if row[0] == "phase":
                    column = row.index("p99")
                elif row[0] == "generation":
                    column = None
                elif column is not None:
                    found[name, row[0]] = seconds(row[column])
        return found

    def generation(self, name):
        """(number, version) of the one that serves."""
        rows = self.plugins[name]["rows"]
        serving = [row for row in rows if len(row) > 2 and row[2] == "serving"]
        return tuple(serving[0][:2]) if serving else None


def seconds(text):
    """"12.5 ms"; 0 where there were no calls."""
    match = re.fullmatch(r"([\d.]+) (µs|ms|s)", text)
    return float(match[1]) * {"µs": 1e-6, "ms": 1e-3, "s": 1}[match[2]] if match else 0


def taken(span):
    return (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9


class Story(unittest.TestCase):
    options = None  # of the command line

    def built(self, *path):
        return os.path.join(self.options.build, *path)

    def put(self, source, name):
        """As an operator should: a rename never shows half a file."""
        new = os.path.join(self.plugins, f".{name}.new")
        shutil.copy(source, new)
        os.rename(new, os.path.join(self.plugins, name))

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="callout-story-")
        self.addCleanup(folder.cleanup)
        self.plugins = os.path.join(folder.name, "plugins")
        os.mkdir(self.plugins)
        self.put(self.built("plugins", "basic.so"), "basic.so")
        self.put(self.built("tests", "telemetry", "quota.so"), "quota.so")
        self.backend, self.collector = Backend(), Collector()
        self.addCleanup(self.backend.close)
        self.addCleanup(self.collector.close)
        self.host = Host(self.options,
                         {"OTEL_EXPORTER_OTLP_ENDPOINT": self.collector.url,
                          "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip", "OTEL_BSP_SCHEDULE_DELAY": "50"},
                         f"--plugins_dir={self.plugins}", "--admin_writes=on")
        self.addCleanup(self.host.kill)
        host_port = int(self.host.plaintext.rsplit(":", 1)[1])
        self.envoy = Envoy(folder.name,
                           bootstrap(host_port, self.backend.port, self.collector.port))
        self.addCleanup(self.envoy.stop)
        self.traffic = Traffic(self.envoy.port)
        self.addCleanup(self.traffic.stop)

    def page(self):
        return Page(self.host.page("/", Accept="text/html"))

    def await_requests(self, more):
        enough = self.traffic.count + more
        await_true(lambda: self.traffic.count >= enough, lambda: self.traffic.failures)

    def slowest_of_the_page(self):
        """((plugin, phase), p99), once it is slow."""
        def found():
            p99 = self.page().p99()
            slowest = max(p99, key=p99.get, default=None)
            return (slowest, p99[slowest]) if slowest is not None and p99[slowest] > SLOW else None
        return await_true(found, lambda: self.page().p99())

    def trace_of_a_slow_call(self, plugin, phase):
        """The trace id of an exemplar above SLOW in the plugin's histogram."""
        series = re.compile(
            r'^callout_call_seconds_bucket\{(?P<labels>[^}]*)\} \S+'
            r' # \{trace_id="(?P<trace>[0-9a-f]{32})"\} (?P<value>\S+)', re.MULTILINE)

        def found():
            metrics = self.host.page("/metrics", Accept="application/openmetrics-text")
            for match in series.finditer(metrics):
                labels = match["labels"]
                if (f'plugin="{plugin}"' in labels and f'phase="{phase}"' in labels
                        and float(match["value"]) > SLOW):
                    return match["trace"]
            return None
        return await_true(found, lambda: self.host.page("/metrics"))

    def spans_of(self, trace):
        """By kind, once the exchange's span and a span of Envoy's have come."""
        def found():
            with self.collector.changed:
                own = [span for span in self.collector.spans if span.trace_id.hex() == trace]
                envoys = [s for s in self.collector.foreign_spans if s.trace_id.hex() == trace]
            return (own, envoys) if own and envoys else None
        return await_true(found, lambda: f"trace {trace}")

    def explained_call_of_the_slow_kind(self, plugin, phase):
        """The slow call of the next requests, as the host explains it."""
        form = urllib.parse.urlencode({"path_prefix": "/orders", "count": "20"}).encode()
        request = urllib.request.Request(f"http://{self.host.admin}/actions/explain", data=form)
        with urllib.request.urlopen(request, timeout=SECONDS_MAX) as answer:
            self.assertLess(answer.status, 400)

        def found():
            for exchange in json.loads(self.host.page("/explain"))["explained"]:
                for step in exchange["steps"]:
                    if (step.get("plugin"), step.get("phase")) != (plugin, phase):
                        continue
                    if step["took_us"] > SLOW * 1e6:
                        return step
            return None
        return await_true(found, lambda: self.host.page("/explain"))

    def test_a_plugin_gets_slow_for_one_value_of_a_header(self):
        self.await_requests(40)

        # The page shows plugin and phase.
        (plugin, phase), slow_p99 = self.slowest_of_the_page()
        self.assertEqual((plugin, phase), ("quota", "request_headers"))
        self.assertEqual(self.page().generation("quota"), ("1", "1.0.0"))
        self.assertEqual(self.page().generation("basic")[0], "1")

        # The metrics name the trace of a slow call, and the trace has the value.
        trace = self.trace_of_a_slow_call(plugin, phase)
        own, envoys = self.spans_of(trace)
        server, = [span for span in own if span.kind == trace_pb2.Span.SPAN_KIND_SERVER]
        self.assertIn(server.parent_span_id, {span.span_id for span in envoys})
        call, = [span for span in own if span.name == f"{plugin} {phase}"]
        self.assertGreater(taken(call), SLOW)
        self.assertEqual(attributes(call)["quota.tenant"], "acme")
        self.assertEqual([event.name for event in call.events], ["no entry in the cache"])
        # It is the one value that is slow, and of all that are traced always.
        self.await_requests(20)
        with self.collector.changed:
            calls = [span for span in self.collector.spans if span.name == f"{plugin} {phase}"]
        self.assertEqual({attributes(call)["quota.tenant"] for call in calls}, set(TENANTS))
        always = {tenant: min(taken(call) for call in calls
                              if attributes(call)["quota.tenant"] == tenant) for tenant in TENANTS}
        self.assertEqual([tenant for tenant in TENANTS if always[tenant] > SLOW], ["acme"])

        # One request, explained, says the same.
        saw = json.dumps(self.explained_call_of_the_slow_kind(plugin, phase)["saw"])
        self.assertRegex(saw, r'"x-tenant\W+acme"')

        # The mended version, and what the page then shows.
        self.put(self.built("tests", "telemetry", "quota_mended.so"), "quota.so")
        await_true(lambda: self.page().generation("quota") == ("2", "1.0.1"),
                   lambda: self.page().plugins["quota"])
        # The quantile is that of the last 30 s.
        await_true(lambda: 0 < self.page().p99()[plugin, phase] < SLOW < slow_p99,
                   lambda: self.page().p99())
        self.await_requests(40)
        with self.collector.changed:
            mended = [span for span in self.collector.spans if span.name == f"{plugin} {phase}"
                      and attributes(span).get("callout.generation") == 2
                      and attributes(span).get("quota.tenant") == "acme"]
        self.assertGreater(len(mended), 0)
        self.assertTrue(all(not span.events for span in mended))

        # Nobody has noticed anything but the time.
        self.traffic.stop()
        self.assertEqual(self.traffic.failures, [])
        self.assertEqual(self.backend.without_quota, 0)
        self.assertGreater(self.traffic.count, 100)
        faults = re.findall(r"^callout_plugin_faults_total\S* ([1-9]\S*)$",
                            self.host.page("/metrics"), re.MULTILINE)
        self.assertEqual(faults, [])
        print(f"{self.traffic.count} requests, 0 failed")
        self.assertEqual(self.host.stop(), 0, self.host.text())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default="build")
    parser.add_argument("--transport", default="nghttp2")
    Story.options, rest = parser.parse_known_args()
    if envoy_binary() is None:
        skip("there is no Envoy: scripts/setup installs it into .venv")
    unittest.main(argv=[sys.argv[0], *rest], verbosity=2)
