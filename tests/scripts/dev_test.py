#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""scripts/dev, driven as an author would: with the C++ template, and one in Go if there is a Go.

    CALLOUT_BUILD=BUILD dev_test.py [TEST...]
"""
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ['CALLOUT_BUILD'])
SECONDS = 120


def find_envoy():
    named = os.environ.get('CALLOUT_ENVOY')
    return named or next(map(str, ROOT.glob('.venv/lib/python3*/site-packages/envoy/_bin/envoy')), '')


class Dev:
    """A running scripts/dev, and the lines that it has printed."""

    def __init__(self, folder, *options, program=ROOT / 'scripts' / 'dev', environment=None):
        command = [str(program), str(folder), f'--host={BUILD}/host/callout-host', *options]
        self.child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                      env=environment or os.environ)
        self.lines, self.changed = [], threading.Condition()
        self.reader = threading.Thread(target=self.read)
        self.reader.start()
        self.seen = 0

    def read(self):
        for line in self.child.stdout:
            with self.changed:
                self.lines.append(line.rstrip('\n'))
                self.changed.notify_all()
        with self.changed:
            self.lines.append(None)  # the end
            self.changed.notify_all()

    def expect(self, pattern):
        """The match of the next line that has `pattern`."""
        end = time.monotonic() + SECONDS
        with self.changed:
            while True:
                while self.seen < len(self.lines):
                    line = self.lines[self.seen]
                    if line is None:
                        break
                    self.seen += 1
                    found = re.search(pattern, line)
                    if found:
                        return found
                ended = self.lines and self.lines[-1] is None
                if ended or not self.changed.wait(end - time.monotonic()):
                    raise AssertionError(f'no line with {pattern!r} in:\n' + '\n'.join(map(str, self.lines)))

    def stop(self):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGINT)
        status = self.child.wait(timeout=SECONDS)
        self.reader.join()
        self.child.stdout.close()
        return status


def running_in(folder):
    """Processes that have a file of `folder` on their command line."""
    found = []
    for process in pathlib.Path('/proc').glob('[0-9]*/cmdline'):
        try:
            command = process.read_bytes().decode(errors='replace')
        except OSError:
            continue
        if str(folder) in command:
            found.append(command)
    return found


class DevTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        # What scripts/dev makes lies here, so that leftovers are found.
        self.work = self.folder / 'tmp'
        self.work.mkdir()
        self.environment = dict(os.environ, TMPDIR=str(self.work))

    def plugin(self, language):
        subprocess.run([ROOT / 'scripts' / 'new-plugin', 'stamp', f'--lang={language}', f'--dir={self.folder}'], check=True,
                       stdout=subprocess.DEVNULL)
        return self.folder / 'stamp'

    def dev(self, *arguments, **more):
        dev = Dev(*arguments, environment=more.pop('environment', self.environment), **more)
        self.addCleanup(dev.stop)
        return dev

    def expect_nothing_left(self):
        self.assertEqual(running_in(self.work), [])
        self.assertEqual(list(self.work.iterdir()), [])

    @staticmethod
    def edit(path, old, new):
        text = path.read_text()
        assert old in text, f'{path} has no {old}'
        path.write_text(text.replace(old, new))

    @staticmethod
    def get(url):
        with urllib.request.urlopen(url, timeout=20) as response:
            return response.read().decode()

    def need_envoy(self):
        if not find_envoy():
            if os.environ.get('CI') == 'true':
                self.fail('there is no Envoy')
            self.skipTest('there is no Envoy')

    def drive(self, source, reloaded):
        """Changes, breaks and mends what sets the header, with requests through Envoy."""
        dev = self.dev(source.parent)
        dev.expect('passed, 0 failed')
        url = dev.expect(r'send requests to (\S+)')[1]
        dev.expect('watching')
        self.assertIn('x-seen-by: stamp\n', self.get(url))

        self.edit(source, 'x-seen-by"', 'x-changed"')
        dev.expect('changed: ' + source.name)
        dev.expect(reloaded)
        dev.expect(r'expected .stamp., got none')  # the case says the old name
        dev.expect('failed after')
        self.assertIn('x-changed: stamp\n', self.get(url))

        self.edit(source, 'x-changed"', 'x-broken" %%% ')
        dev.expect(r'\berror\b|expected')
        dev.expect('the build failed; the version before goes on serving')
        self.assertIn('x-changed: stamp\n', self.get(url))

        self.edit(source, 'x-broken" %%% ', 'x-seen-by"')
        dev.expect(reloaded)
        dev.expect('passed, 0 failed')
        self.assertIn('x-seen-by: stamp\n', self.get(url))

        self.assertEqual(dev.stop(), 0)
        self.expect_nothing_left()

    def test_a_change_serves_a_broken_source_does_not(self):
        self.need_envoy()
        self.drive(self.plugin('cpp') / 'stamp.cc', r'the host has reloaded: generation \d+ serves')

    def test_go_has_the_host_started_again(self):
        self.need_envoy()
        if shutil.which('go') is None:
            self.skipTest('there is no go')
        self.drive(self.plugin('go') / 'plugin.go', 'callout-host serves on')

    def test_without_envoy_it_serves_the_host_only_and_says_so(self):
        folder = self.plugin('c')
        program = self.folder / 'callout-dev'  # not in a checkout, so without its .venv
        shutil.copy(ROOT / 'scripts' / 'dev', program)
        environment = dict(self.environment, PATH='/usr/bin:/bin')
        environment.pop('CALLOUT_ENVOY', None)
        dev = self.dev(folder, program=program, environment=environment)
        dev.expect('callout-host serves on')
        dev.expect('there is no Envoy .* only the host is served')
        dev.expect('watching')
        self.assertEqual(dev.stop(), 0)
        self.expect_nothing_left()

    def test_an_edit_during_a_build_is_built_and_what_a_build_writes_is_no_change(self):
        folder = self.plugin('c')
        compiler = f'cc -shared -fPIC -fvisibility=hidden -I {ROOT}/plugin_api stamp.c'
        # The first build is edited under way: the source is older than the file that was made of what it was.
        (folder / 'Makefile').write_text(
            'stamp.so: stamp.c\n'
            f'\t{compiler} -o $@.new\n'
            '\ttest -f product.lock || sed -i s/x-seen-by/x-edited-by/ stamp.c\n'
            '\techo made >product.lock; cp /bin/true built_test\n'
            '\tcp $@.new $@\n')
        shutil.rmtree(folder / 'cases')
        dev = self.dev(folder)
        dev.expect('watching')
        dev.expect(r'changed: stamp\.c$')
        dev.expect(r'the host has reloaded: generation \d+ serves')
        dev.expect('done after')
        self.assertEqual(len([line for line in dev.lines if line and 'changed: ' in line]), 1)
        self.assertEqual(dev.stop(), 0)
        self.expect_nothing_left()

    def test_a_configuration_that_is_refused_is_told(self):
        folder = self.plugin('cpp')
        self.edit(folder / 'stamp.cc', 'stamped")) {}', 'stamped")) { setup.fail("never good"); }')
        dev = self.dev(folder, '--once')
        dev.expect('never good')
        dev.expect('callout-host does not start')
        self.assertEqual(dev.child.wait(timeout=SECONDS), 1)
        self.expect_nothing_left()

    def test_what_a_version_logs_while_it_is_made_is_no_refusal(self):
        folder = self.plugin('cpp')
        self.edit(folder / 'stamp.cc', 'stamped")) {}',
                  'stamped")) { setup.host().warning("stamp is old"); setup.host().error("stamp is odd"); }')
        dev = self.dev(folder)
        dev.expect('passed, 0 failed')
        dev.expect('watching')
        self.edit(folder / 'stamp.cc', 'stamp is old', 'stamp is older')
        dev.expect(r'the host has reloaded: generation \d+ serves')
        dev.expect('passed, 0 failed')
        self.edit(folder / 'stamp.cc', 'setup.host().error("stamp is odd")', 'setup.fail("stamp is bad")')
        dev.expect('the host refuses the new version; the version before goes on serving')
        self.assertEqual(dev.stop(), 0)
        self.expect_nothing_left()

    def test_cases_that_cannot_be_run_have_not_passed(self):
        alone = self.folder / 'alone' / 'callout-host'
        alone.parent.mkdir()
        alone.write_text(f'#!/bin/sh\nexec {BUILD.resolve()}/host/callout-host "$@"\n')
        alone.chmod(0o755)
        dev = self.dev(self.plugin('c'), '--once', f'--host={alone}')
        dev.expect(r'there is no \S+/alone/callout-test, so the cases in \S+/cases cannot be run')
        self.assertEqual(dev.child.wait(timeout=SECONDS), 1)
        self.expect_nothing_left()

    def test_it_dies_with_all_it_started(self):
        dev = self.dev(self.plugin('c'))
        dev.expect('watching')
        self.assertNotEqual(running_in(self.work), [])
        dev.child.kill()
        end = time.monotonic() + SECONDS
        while running_in(self.work):
            self.assertLess(time.monotonic(), end, 'the host outlives it')
            time.sleep(0.05)

    def test_wrong_usage_is_told(self):
        def refusal(*arguments):
            done = subprocess.run([ROOT / 'scripts' / 'dev', *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  text=True, env=self.environment)
            self.assertEqual(done.returncode, 2)
            return done.stderr
        self.assertIn('PLUGIN_DIR', refusal())
        self.assertIn('is not a directory', refusal(str(self.folder / 'missing')))
        host = f'--host={BUILD}/host/callout-host'
        self.assertIn('has no Makefile, meson.build, Cargo.toml or go.mod', refusal(str(self.folder), host))
        self.assertIn('give another Envoy by --envoy=PATH', refusal(str(self.folder), host, '--envoy=/missing'))
        self.assertIn('there is no callout-host', refusal(str(self.folder), '--host=/missing'))
        self.expect_nothing_left()


if __name__ == '__main__':
    unittest.main(verbosity=2)
