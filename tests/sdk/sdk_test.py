#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The SDK of one language: its own tests and what it is packed as, and a plugin of it on the real host.

    CALLOUT_BUILD=BUILD sdk_test.py rust|go [TEST...]
"""
import contextlib
import http.server
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ['CALLOUT_BUILD'])
RUST, GO = ROOT / 'plugin_api' / 'rust', ROOT / 'plugin_api' / 'go'
SECONDS = 120


def run(*command, expect=0, **more):
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
    if done.returncode != expect:
        raise AssertionError(f'{" ".join(map(str, command))} has ended with {done.returncode}:\n{done.stdout}')
    return done.stdout


def find_envoy():
    named = os.environ.get('CALLOUT_ENVOY')
    return named or next(map(str, ROOT.glob('.venv/lib/python3*/site-packages/envoy/_bin/envoy')), '')


def need(found, what):
    if not found:
        if os.environ.get('CI') == 'true':
            raise AssertionError(f'there is no {what}')
        raise unittest.SkipTest(f'there is no {what}')


class OnTheHost:
    """What a plugin in either language does: tests/sdk/cases says it."""

    @classmethod
    def setUpClass(cls):
        need(shutil.which(cls.tool), cls.tool)
        cls.folder = tempfile.TemporaryDirectory()
        cls.work = pathlib.Path(cls.folder.name)
        cls.plugin = cls.work / 'sdk_acts.so'
        cls.build()

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def cases(self, *options):
        return run(BUILD / 'host' / 'callout-test', ROOT / 'tests' / 'sdk' / 'cases', f'--plugins_dir={self.work}', *options)

    def test_cases_in_process(self):
        self.assertIn('12 passed, 0 failed', self.cases())

    def test_cases_behind_envoy(self):
        need(find_envoy(), 'Envoy')
        self.assertIn('12 passed, 0 failed', self.cases('--envoy', f'--envoy_path={find_envoy()}'))

    def test_the_host_takes_it_with_these_exports(self):
        exported = run('nm', '-D', '--defined-only', self.plugin).split()[2::3]
        hooks = ['callout_on_request_body', 'callout_on_request_headers', 'callout_on_response_headers',
                 'callout_on_response_trailers', 'callout_on_stream_cancel', 'callout_on_stream_close', 'callout_on_stream_open']
        others = ['callout_abi_revision', 'callout_abi_version', 'callout_plugin_create', 'callout_plugin_destroy']
        self.assertEqual(sorted(exported), sorted(hooks + others + self.more_exports))
        checked = run(BUILD / 'host' / 'callout-host', '--check', f'--plugin={self.plugin}')
        self.assertIn('the configuration is good', checked)

    def test_a_configuration_that_it_has_no_place_for_is_refused(self):
        refused = run(BUILD / 'host' / 'callout-host', '--check', f'--plugin={self.plugin}', '--plugin_config=sdk_acts={"a": 1}', expect=2)
        self.assertIn(self.refusal, refused)

    def test_a_client_that_leaves_ends_the_work(self):
        with self.behind_envoy() as (port, work):
            host_log = next(work.glob('callout-dev-*')) / 'host.log'
            client = socket.create_connection(('127.0.0.1', port))
            client.sendall(b'GET /wait HTTP/1.1\r\nhost: a\r\n\r\n')
            self.await_text(host_log, r'INFO plugin sdk_acts: waiting')
            client.close()
            self.await_text(host_log, r'WARNING plugin sdk_acts: the client has left')

    def test_what_it_adds_to_its_span_gets_to_a_collector(self):
        bodies = []

        class Collector(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                bodies.append(self.rfile.read(int(self.headers['content-length'])))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass
        server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Collector)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        variables = {'OTEL_EXPORTER_OTLP_ENDPOINT': f'http://127.0.0.1:{server.server_port}', 'OTEL_BSP_SCHEDULE_DELAY': '50'}
        with self.behind_envoy(variables=variables) as (port, _):
            with urllib.request.urlopen(f'http://127.0.0.1:{port}/traced', timeout=30) as response:
                seen = response.read().decode()  # what the backend got
            end = time.monotonic() + SECONDS
            while not any(b'sdk.attribute' in body for body in bodies) and time.monotonic() < end:
                time.sleep(0.02)
        sent = next(body for body in bodies if b'sdk.attribute' in body)
        for text in (b'of the span', b'sdk.event', b'sdk.number'):
            self.assertIn(text, sent)
        trace, span = re.search(r'x-context: 00-([0-9a-f]{32})-([0-9a-f]{16})-01\n', seen).groups()
        self.assertIn(bytes.fromhex(trace), sent)
        self.assertIn(bytes.fromhex(span), sent)
        self.assertRegex(seen, r'x-keys: [01]\n')

    def test_another_service_is_asked(self):
        class Service(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers['content-length']))
                if self.path == '/ask-down':
                    return  # closes the connection
                self.send_response(201)
                self.send_header('x-service', self.headers['x-asks'])
                self.end_headers()
                self.wfile.write(body + b', answered')

            def log_message(self, *_):
                pass
        server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Service)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        upstreams = self.work / 'upstreams.json'
        upstreams.write_text(json.dumps({'service': {'url': f'http://127.0.0.1:{server.server_port}', 'timeout_ms': 20000}}))
        with self.behind_envoy(f'--upstreams={upstreams}') as (port, _):
            with urllib.request.urlopen(f'http://127.0.0.1:{port}/ask', timeout=30) as response:
                seen = response.read().decode()  # what the backend got
            self.assertIn('x-answer: 201 a question, answered\n', seen)
            self.assertIn('x-service: sdk\n', seen)
            with self.assertRaises(urllib.error.HTTPError) as failed:
                urllib.request.urlopen(f'http://127.0.0.1:{port}/ask-down', timeout=30)
            self.assertEqual(failed.exception.code, 500)
            failed.exception.close()

    @contextlib.contextmanager
    def behind_envoy(self, *options, variables=None):
        """The port of an Envoy before the host with the plugin, by scripts/dev, and its folder."""
        need(find_envoy(), 'Envoy')
        with tempfile.TemporaryDirectory() as directory:
            folder, work = pathlib.Path(directory) / 'plugin', pathlib.Path(directory)
            folder.mkdir()
            shutil.copy(self.plugin, folder)
            (folder / 'Makefile').write_text('all:\n')
            log = work / 'dev.log'
            with open(log, 'w') as output:
                dev = subprocess.Popen([ROOT / 'scripts' / 'dev', folder, f'--host={BUILD}/host/callout-host', '--',
                                        '--log_level=info', '--hook_deadline_ms=20000', *options], stdout=output,
                                       env=dict(os.environ, TMPDIR=directory, **(variables or {})))
            try:
                yield int(self.await_text(log, r'send requests to http://127\.0\.0\.1:(\d+)/')[1]), work
            finally:
                dev.terminate()
                self.assertEqual(dev.wait(timeout=SECONDS), 0)

    def await_text(self, path, pattern):
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            found = re.search(pattern, path.read_text())
            if found:
                return found
            time.sleep(0.02)
        self.fail(f'no {pattern!r} in:\n{path.read_text()}')


class RustTest(OnTheHost, unittest.TestCase):
    tool = 'cargo'
    more_exports = ['callout_plugin_info']
    refusal = 'it has no configuration, and was given one'

    @classmethod
    def build(cls):
        folder = pathlib.Path(os.environ.get('CARGO_TARGET_DIR', cls.work)) / 'acts'
        source = cls.work / 'source'
        shutil.copytree(ROOT / 'tests' / 'sdk' / 'rust', source)
        text = (source / 'Cargo.toml').read_text().replace('../../../plugin_api', str(ROOT / 'plugin_api'))
        (source / 'Cargo.toml').write_text(text)
        shutil.copy(RUST / 'Cargo.lock', source)
        run('cargo', 'build', '--quiet', '--release', '--target-dir', folder, cwd=source)
        shutil.copy(folder / 'release' / 'libsdk_acts.so', cls.plugin)

    def test_its_own_tests(self):
        self.assertIn('test result: ok. ', run('cargo', 'test', '--locked', cwd=RUST))

    def test_clippy_finds_nothing(self):
        if 'clippy' not in run('cargo', '--list'):
            self.skipTest('there is no clippy')
        run('cargo', 'clippy', '--locked', '--all-targets', '--', '-D', 'warnings', cwd=RUST)

    def test_it_is_formatted_and_documented(self):
        run('cargo', 'fmt', '--check', cwd=RUST)
        run('cargo', 'doc', '--locked', '--no-deps', cwd=RUST, env=dict(os.environ, RUSTDOCFLAGS='-D warnings'))

    def test_it_can_be_packed_and_built_from_the_package(self):
        with tempfile.TemporaryDirectory() as target:
            printed = run('cargo', 'package', '--locked', '--workspace', '--allow-dirty', '--target-dir', target, cwd=RUST)
            self.assertNotIn('warning', printed)
            self.assertTrue(list(pathlib.Path(target).glob('package/callout-0.*.crate')))

    def test_a_plugin_must_be_able_to_unwind(self):
        environment = dict(os.environ, RUSTFLAGS='-C panic=abort')
        with tempfile.TemporaryDirectory() as target:
            printed = run('cargo', 'check', '--locked', '--package', 'callout', '--target-dir', target, cwd=RUST, env=environment, expect=101)
        self.assertRegex(printed, r'a plugin needs panic = .{1,2}unwind')


class GoTest(OnTheHost, unittest.TestCase):
    tool = 'go'
    more_exports = []
    refusal = 'configuration: unknown field "a"'

    @classmethod
    def build(cls):
        run('go', 'run', 'callout.test/callout/cmd/callout-build', '-o', cls.plugin, '.', cwd=ROOT / 'tests' / 'sdk' / 'go')

    def test_its_own_tests(self):
        run('go', 'vet', './...', cwd=GO)
        run('go', 'test', './...', cwd=GO)

    def test_its_own_tests_find_no_race(self):
        run('go', 'test', '-race', '.', cwd=GO)

    def test_it_is_formatted(self):
        self.assertEqual(run('gofmt', '-l', '.', cwd=GO), '')

    def test_a_program_that_go_builds_by_itself_is_a_plugin_too(self):
        plain = self.work / 'plain.so'
        run('go', 'build', '-buildmode=c-shared', '-o', plain, '.', cwd=ROOT / 'tests' / 'sdk' / 'go')
        checked = run(BUILD / 'host' / 'callout-host', '--check', f'--plugin={plain}')
        self.assertIn('the configuration is good', checked)

    def test_a_hook_that_is_not_exported_is_told(self):
        script = self.work / 'few.map'
        script.write_text('{ global: callout_abi_*; callout_plugin_*; callout_on_request_body; local: *; };')
        few = self.work / 'few.so'
        run('go', 'build', '-buildmode=c-shared', '-o', few, f'-ldflags=-extldflags=-Wl,--version-script={script}', '.',
            cwd=ROOT / 'tests' / 'sdk' / 'go')
        refused = run(BUILD / 'host' / 'callout-host', '--check', f'--plugin={few}', expect=2)
        self.assertRegex(refused, r'\*main\.acts has On\w+, which the shared object does not export: build it by callout-build')

    def test_a_method_that_the_registered_value_does_not_have_is_told(self):
        """The receiver is a pointer, and the function gives a value."""
        for method in ('OnRequestHeaders(call *callout.HeadersCall) error { return call.Deny(403, "") }',
                       'OnStreamOpen(*callout.OpenCall) error { return callout.Errorf(callout.PermissionDenied, "no") }',
                       'OnStreamEnd(callout.StreamEnd) {}'):
            with self.subTest(method):
                self.refuse_method_of_pointer(method)

    def refuse_method_of_pointer(self, method):
        with tempfile.TemporaryDirectory(prefix='a b') as directory:
            folder = pathlib.Path(directory)
            (folder / 'go.mod').write_text(f'module example.com/a\n\ngo 1.23\n\nrequire callout.test/callout v0.1.0\n\n'
                                           f'replace callout.test/callout => {GO}\n')
            (folder / 'a.go').write_text("""package main

import "callout.test/callout"

type a struct{}

func (a) OnResponseHeaders(*callout.HeadersCall) error { return nil }
func (*a) METHOD

func init() {
	callout.Register(func(*callout.Setup, struct{}) (a, error) { return a{}, nil })
}

func main() {}
""".replace('METHOD', method))
            # A temporary directory with a blank, too.
            (folder / 'tmp').mkdir()
            run('go', 'run', 'callout.test/callout/cmd/callout-build', '-o', 'a.so', '.', cwd=folder,
                env=dict(os.environ, TMPDIR=str(folder / 'tmp')))
            refused = run(BUILD / 'host' / 'callout-host', '--check', f'--plugin={folder}/a.so', expect=2)
        name = method.partition('(')[0]
        self.assertIn(f'the package has a method {name} that main.a does not have: give callout.Register a function', refused)

    def test_it_comes_from_a_proxy(self):
        """As a module of a version, over a GOPROXY of files."""
        module = 'callout.test/callout'
        proxy = self.work / 'proxy' / module / '@v'
        proxy.mkdir(parents=True)
        (proxy / 'list').write_text('v0.1.0\n')
        (proxy / 'v0.1.0.info').write_text(json.dumps({'Version': 'v0.1.0', 'Time': '2026-01-01T00:00:00Z'}))
        shutil.copy(GO / 'go.mod', proxy / 'v0.1.0.mod')
        with zipfile.ZipFile(proxy / 'v0.1.0.zip', 'w') as packed:
            for path in sorted(GO.rglob('*')):
                if path.is_file():
                    packed.write(path, f'{module}@v0.1.0/{path.relative_to(GO)}')
        run(ROOT / 'scripts' / 'new-plugin', 'proxied', '--lang=go', f'--dir={self.work}')
        folder = self.work / 'proxied'
        text = (folder / 'go.mod').read_text()
        (folder / 'go.mod').write_text(re.sub(r'^replace .*$', '', text, flags=re.M))
        environment = dict(os.environ, GOPROXY=f'file://{self.work / "proxy"}', GONOSUMDB='*', GONOSUMCHECK='1', GOFLAGS='-mod=mod',
                           GOMODCACHE=str(self.work / 'modules'), GONOPROXY='none')
        run('go', 'test', '.', cwd=folder, env=environment)
        run('go', 'run', f'{module}/cmd/callout-build', '-o', 'proxied.so', '.', cwd=folder, env=environment)
        self.assertIn('4 passed, 0 failed', run(BUILD / 'host' / 'callout-test', folder / 'cases'))
        run('go', 'clean', '-modcache', env=environment)  # its files are read-only


if __name__ == '__main__':
    language = {'rust': RustTest, 'go': GoTest}[sys.argv.pop(1)]
    suite = unittest.defaultTestLoader
    names = sys.argv[1:]
    chosen = unittest.TestSuite([language(name) for name in names]) if names else suite.loadTestsFromTestCase(language)
    result = unittest.TextTestRunner(verbosity=2).run(chosen)
    sys.exit(0 if result.wasSuccessful() else 1)
