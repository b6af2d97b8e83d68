#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""callout-host as a service manager and a shell see it: sd_notify, sockets that are passed on, and the exit codes
of --print_config and --doctor.

    commands_test.py CALLOUT_HOST PLUGIN.so [TEST…]
"""
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import unittest

HOST, PLUGIN = sys.argv[1:3]
TOP = pathlib.Path(__file__).resolve().parents[2]
TRANSPORT = os.environ.get('CALLOUT_TEST_TRANSPORT', 'grpc')
GIVE_UP_S = 120  # only turns a test that hangs into one that fails
TARGETS = ('envoy', 'envoy-gateway', 'istio', 'kgateway', 'agentgateway', 'gke', 'gcloud')


def run(*options, **more):
    return subprocess.run([HOST, f'--transport={TRANSPORT}', f'--plugin={PLUGIN}', *options], capture_output=True,
                          text=True, timeout=GIVE_UP_S, check=False, **more)


class Directory(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name)

    def file(self, name, text):
        path = self.directory / name
        path.write_text(text)
        return path


class PrintAndDoctor(Directory):
    def test_doctor_finds_nothing_in_what_is_printed(self):
        for target in TARGETS:
            options = ['--early_end=off'] if target in ('agentgateway', 'gke', 'gcloud') else []
            printed = run(f'--print_config={target}', *options)
            self.assertEqual(printed.returncode, 0, printed.stderr)
            file = self.file(f'{target}.yaml', printed.stdout)
            doctor = run(f'--doctor={file}', *options)
            self.assertEqual(doctor.returncode, 0, doctor.stdout + doctor.stderr)
            self.assertEqual(doctor.stdout, f'{file}: nothing would fail in silence (1 ext_proc filter)\n')

    def test_a_finding_is_exit_code_1(self):
        printed = run('--print_config=envoy').stdout
        file = self.file('envoy.yaml', printed.replace('failure_mode_allow: false', 'failure_mode_allow: true'))
        doctor = run(f'--doctor={file}')
        self.assertEqual(doctor.returncode, 1, doctor.stderr)
        self.assertIn('failure_mode_allow\n  found  true\n  write  failure_mode_allow: false\n', doctor.stdout)
        self.assertTrue(doctor.stdout.endswith(f'{file}: 1 finding (1 ext_proc filter)\n'), doctor.stdout)

    def test_what_cannot_be_read_is_exit_code_2(self):
        missing = self.directory / 'missing.yaml'
        for file, why in ((missing, 'cannot read it: No such file or directory'),
                          (self.directory, 'cannot read it: it is a directory'),
                          (self.file('bad.yaml', 'a: [1\n'), 'line 2: '),
                          (self.file('other.yaml', 'kind: Deployment\n'), 'no ext_proc filter was found')):
            doctor = run(f'--doctor={file}')
            self.assertEqual(doctor.returncode, 2, doctor.stdout)
            self.assertIn(f'--doctor={file}: {why}', doctor.stderr)
            self.assertEqual(doctor.stderr.count('\n'), 1, doctor.stderr)

    def test_a_plugin_that_does_not_load_is_exit_code_2(self):
        for command in ('--print_config=envoy', f'--doctor={self.file("e.yaml", "a: 1")}'):
            failed = run(command, f'--plugin=other={self.file("other.so", "no ELF")}')
            self.assertEqual(failed.returncode, 2, failed.stdout)
            self.assertEqual(failed.stdout, '')


class ManualPages(Directory):
    def setUp(self):
        super().setUp()
        programs = [path for path in pathlib.Path(HOST).resolve().parent.glob('callout-*')
                    if path.is_file() and not path.suffix]
        self.shown = {}
        for name, program in [*((path.name, path) for path in programs), ('callout-dev', TOP / 'scripts/dev')]:
            self.shown[name] = subprocess.run([program, '--help'], capture_output=True, text=True, check=True,
                                              timeout=GIVE_UP_S).stdout
            self.file(f'{name}.help', self.shown[name])
        texts = sorted(self.directory.glob('*.help'))
        subprocess.run([TOP / 'scripts/man_pages.py', '1.2.3', self.directory, *texts], check=True, timeout=GIVE_UP_S)
        self.pages = {path.stem: path for path in self.directory.glob('*.1')}

    def test_have_every_option(self):
        self.assertEqual(self.pages.keys(), self.shown.keys())
        self.assertIn('"callout-host 1.2.3"', self.pages['callout-host'].read_text())
        for program, page in self.pages.items():
            options = re.findall(r'^  --(\w+)', self.shown[program], re.MULTILINE)
            self.assertGreater(len(options), 2)
            listed = re.findall(r'^\.TP\n\\fB\\-\\-(\w+)', page.read_text(), re.MULTILINE)
            self.assertEqual(listed, options)

    def test_are_set_without_a_warning(self):
        if not shutil.which('groff'):
            self.skipTest('there is no groff')
        for page in self.pages.values():
            made = subprocess.run(['groff', '-man', '-Tutf8', '-ww', page], capture_output=True, text=True, check=False,
                                  timeout=GIVE_UP_S)
            self.assertEqual((made.returncode, made.stderr), (0, ''))
            self.assertNotIn('{{', made.stdout)


class Service(Directory):
    """The host as systemd starts it."""

    def start(self, *options, sockets=(), names='', notify=''):
        # What a service manager does between fork and exec: descriptors from 3 on, and whose they are.
        def pass_sockets():
            copies = [os.dup2(s.fileno(), 100 + i) for i, s in enumerate(sockets)]
            for i, copy in enumerate(copies):
                os.dup2(copy, 3 + i)

        setting = f'LISTEN_PID=$$ LISTEN_FDS={len(sockets)} LISTEN_FDNAMES={names} ' if sockets else ''
        process = subprocess.Popen(
            ['/bin/sh', '-c', f'{setting}exec "$@"', 'sh', HOST, f'--transport={TRANSPORT}', '--disable_tls',
             f'--plugin={PLUGIN}', '--admin_address=off', *options],
            preexec_fn=pass_sockets, close_fds=False, stderr=subprocess.PIPE, text=True,
            env={**os.environ, **({'NOTIFY_SOCKET': str(notify)} if notify else {})})

        def end():
            process.kill()
            process.wait()
            process.stderr.close()

        self.addCleanup(end)
        return process

    def await_line(self, process, text):
        timer = threading.Timer(GIVE_UP_S, process.kill)
        timer.start()
        seen = []
        for line in process.stderr:
            seen.append(line)
            if text in line:
                timer.cancel()
                return line
        timer.cancel()
        self.fail(f'no {text!r} in {seen}')

    def listening(self):
        listener = socket.create_server(('127.0.0.1', 0))
        self.addCleanup(listener.close)
        return listener

    def notified(self, address):
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(receiver.close)
        receiver.bind(address)
        receiver.settimeout(GIVE_UP_S)
        return receiver

    def test_says_when_it_is_ready_and_when_it_stops(self):
        path = str(self.directory / 'notify')
        abstract = f'callout-test-{os.getpid()}-{TRANSPORT}'
        for address, name in ((path, path), ('\0' + abstract, '@' + abstract)):
            receiver = self.notified(address)
            process = self.start('--plaintext_address=127.0.0.1:0', '--combined_health_check', notify=name)
            self.assertEqual(receiver.recv(100), b'READY=1')
            process.send_signal(signal.SIGTERM)
            self.assertEqual(receiver.recv(100), b'STOPPING=1')
            self.assertEqual(process.wait(GIVE_UP_S), 0)

    def test_a_manager_that_does_not_listen_is_only_a_warning(self):
        process = self.start('--plaintext_address=127.0.0.1:0', '--combined_health_check',
                             notify=self.directory / 'nobody')
        self.await_line(process, 'cannot tell the service manager READY=1')

    def test_serves_on_sockets_that_are_passed_on(self):
        health, plaintext = self.listening(), self.listening()
        process = self.start(sockets=[health, plaintext], names='health:plaintext')
        line = self.await_line(process, 'listening plaintext ')
        self.assertIn(f'127.0.0.1:{plaintext.getsockname()[1]}', line)
        self.await_line(process, 'serving with 1 plugin')
        with socket.create_connection(health.getsockname(), GIVE_UP_S) as client:
            client.sendall(b'GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n')
            self.assertTrue(client.makefile('rb').readline().startswith(b'HTTP/1.1 200 '))

    def test_a_client_that_connects_during_a_restart_is_served_by_the_next_process(self):
        plaintext = self.listening()
        options = ('--combined_health_check',)
        first = self.start(*options, sockets=[plaintext], names='plaintext')
        self.await_line(first, 'serving with')
        first.send_signal(signal.SIGTERM)
        self.assertEqual(first.wait(GIVE_UP_S), 0)
        with socket.create_connection(plaintext.getsockname(), GIVE_UP_S) as client:  # nobody accepts yet
            client.sendall(b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n' + b'\0\0\0\4\0\0\0\0\0')
            self.start(*options, sockets=[plaintext], names='plaintext')
            client.settimeout(GIVE_UP_S)
            header = client.recv(9, socket.MSG_WAITALL)
            self.assertEqual(header[3], 4, 'SETTINGS come first')

    def test_a_socket_without_a_listener_of_its_name_ends_the_start(self):
        for names, why in (('grpc', "a socket named 'grpc' was passed"), ('secure', "named 'secure' was passed")):
            process = self.start('--plaintext_address=127.0.0.1:0', '--combined_health_check',
                                 sockets=[self.listening()], names=names)
            self.await_line(process, why)
            self.assertEqual(process.wait(GIVE_UP_S), 2)

    def test_a_descriptor_that_does_not_listen_ends_the_start(self):
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(datagrams.close)
        process = self.start('--combined_health_check', sockets=[datagrams], names='plaintext')
        self.await_line(process, 'is no listening stream socket')
        self.assertEqual(process.wait(GIVE_UP_S), 2)

    def test_sockets_of_another_process_are_left_alone(self):
        process = self.start('--plaintext_address=127.0.0.1:0', '--combined_health_check')
        self.await_line(process, 'listening plaintext ')


if __name__ == '__main__':
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
