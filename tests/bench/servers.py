# SPDX-License-Identifier: Apache-2.0
"""The servers that the benchmark compares: how each is built, started and stopped."""

import dataclasses
import functools
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.environ.get("CALLOUT_BENCH_BUILD") or os.path.join(TOP, "build-bench")
RESULTS = os.path.join(BUILD, "results")

# Language: the programs that building its server takes.
LANGUAGES = {
    "go": ["go", "protoc"],
    "rust": ["cargo", "protoc"],
    "java": ["mvn", "java"],
    "python": ["python3"],
}
# Those whose server answers ext_authz, too: with a library's generated classes, and the least that a
# server can do.
CHECKING = ["go", "rust", "grpc-generic", "h2-bare"]


# Those that stand for the others where not all are measured.
SOME = ["h2-bare", "grpc-generic-scan", "host-grpc+basic", "host-nghttp2+basic", "go", "rust", "java"]


@dataclasses.dataclass(frozen=True)
class Server:
    name: str
    command: tuple  # without port and TLS
    header: str = "x-callout"  # that its answer to request headers sets; "": none
    is_host: bool = False
    any_phase: bool = False  # its answers are of one phase, whatever the request's
    under: tuple = ()  # a program that runs it, with options
    unix: bool = False  # listens on a unix socket, not on a port
    warmup: float = 0.5  # seconds of load before it is as fast as it gets

    def arguments(self, tls, certificate, unix_path):
        chain, key = certificate
        if self.is_host:
            plaintext = f"unix:{unix_path}" if unix_path else "127.0.0.1:0"
            return [
                *self.under,
                *self.command,
                f"--plaintext_address={plaintext}",
                "--secure_address=127.0.0.1:0",
                "--combined_health_check",
                "--admin_address=off",
                f"--cert_chain_path={chain}",
                f"--private_key_path={key}",
            ]
        address = f"unix:{unix_path}" if unix_path else "0"
        return [*self.under, *self.command[:1], address, *self.command[1:], *(["--tls", chain, key] if tls else [])]


def host_server(name, plugins, *options, header="x-callout", folder="plugins"):
    host = os.path.join(BUILD, "host", "callout-host")
    paths = [
        f"--plugin=p{i}={os.path.join(BUILD, folder, plugin + '.so')}"
        for i, plugin in enumerate(plugins)
    ]
    # Cells of the protocol answer every message; early ends have cells of their own.
    early_end = [] if any("early_end" in option for option in options) else ["--early_end=off"]
    if not host_has("early_end"):
        early_end = []
    return Server(name, (host, *paths, *early_end, *options), header, is_host=True)


def host_has(option):
    """The host's help as a whole, if it knows `option`; else None."""
    host = os.path.join(BUILD, "host", "callout-host")
    text = subprocess.run([host, "--help"], capture_output=True, text=True, check=True).stdout
    return text if f"--{option} " in text else None


def transports():
    """[(what to call the host, its options)]"""
    if not host_has("transport"):
        return [("host", ())]
    return [(f"host-{kind}", (f"--transport={kind}",)) for kind in ("grpc", "nghttp2")]


def host_servers():
    servers = []
    for name, options in transports():
        servers += [
            host_server(name, [], *options, header=""),
            host_server(f"{name}+minimal_c", ["minimal_c"], *options),
            host_server(f"{name}+basic", ["basic"], *options, header="header-request"),
        ]
    return servers


def chain_servers():
    servers = []
    for name, options in transports():
        servers.append(host_server(f"{name}, no plugin", [], *options, header=""))
        servers += [host_server(f"{name}, chain of {n}", ["minimal_c"] * n, *options)
                    for n in (1, 2, 4, 8)]
    return servers


def scaling_servers():
    ways = {"threads": "--server_thread_count"}
    if host_has("workers"):
        ways["workers"] = "--workers"
    return [
        host_server(f"{name}, {way}: {n}", ["minimal_c"], *options, f"{option}={n}",
                    *(["--server_thread_count=1"] if way == "workers" else []))
        for name, options in transports()
        for way, option in ways.items()
        for n in (1, 2)
    ]


def check_servers():
    """What answers ext_authz: the host by a hook of its own and by the bridge."""
    if not host_has("services"):
        return []
    return [
        server
        for name, options in transports()
        for server in (
            host_server(f"{name}+check", ["check"], *options, folder="tests/bench"),
            host_server(f"{name}+bridge", ["minimal_c"], *options, "--services=ext_authz"),
        )
    ]


def bare_servers():
    def program(name):
        return os.path.join(BUILD, "tests", "bench", name)

    return [
        Server("h2-floor", (program("bench-h2-floor"),), any_phase=True),
        Server("h2-bare", (program("bench-h2-bare"),)),
        Server("grpc-generic", (program("bench-grpc-generic"),)),
        Server("grpc-generic-scan", (program("bench-grpc-generic"), "--scan")),
        Server("grpc-callback", (program("bench-grpc-callback"),)),
    ]


@functools.cache
def build_peer(language):
    """The server written in `language`; None, with a word why, if it cannot be built."""
    missing = [tool for tool in LANGUAGES[language] if shutil.which(tool) is None]
    if missing:
        print(f"no {language}: there is no {missing[0]}")
        return None
    source = os.path.join(TOP, "tests", "bench", "servers", language)
    output = os.path.join(BUILD, "servers", language)
    log_path = os.path.join(RESULTS, f"build-{language}.log")
    with open(log_path, "w") as log:
        built = subprocess.run(
            [os.path.join(source, "build"), os.path.join(TOP, "proto"), output],
            stdout=log, stderr=log,
        )
    if built.returncode != 0:
        print(f"no {language}: building its server failed, see {log_path}")
        return None
    # Java compiles while it runs, Go and Python grow their heaps.
    return Server(language, (os.path.join(output, "server"),), warmup=20 if language == "java" else 1)


class Running:
    """A server that runs, on the cores given; stops at the end of the `with`."""

    def __init__(self, server, tls, certificate, cores):
        self.server = server
        self.tls = tls
        self._folder = tempfile.TemporaryDirectory(prefix="bench-")  # a socket's path must be short
        self.unix_path = os.path.join(self._folder.name, "socket") if server.unix else None
        self._log_path = os.path.join(
            RESULTS, f"server-{re.sub('[^a-z0-9_-]+', '_', server.name)}{'-tls' if tls else ''}.log"
        )
        with open(self._log_path, "w") as log:
            self._process = subprocess.Popen(
                server.arguments(tls, certificate, self.unix_path), stdout=log, stderr=log,
                start_new_session=True, preexec_fn=lambda: os.sched_setaffinity(0, cores),
            )
        self.pid = self._process.pid
        self.port = self._await_port()  # None on a unix socket

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def _await_port(self):
        says = "listening (secure |plaintext )?(.*:)?([0-9]+|/.*)$"
        kind = ("secure " if self.tls else "plaintext ") if self.server.is_host else None
        give_up = time.monotonic() + 60
        while time.monotonic() < give_up and self._process.poll() is None:
            with open(self._log_path) as log:
                for line in log.read().split("\n")[:-1]:
                    found = re.search(says, line)
                    if found and found[1] == kind:
                        return None if self.unix_path else int(found[3])
            time.sleep(0.02)
        self.stop()
        raise RuntimeError(f"{self.server.name} does not listen, see {self._log_path}")

    def stop(self):
        self._stop_process()
        self._folder.cleanup()

    def _stop_process(self):
        # The server's own group, for some are started by a script.
        for number, seconds in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
            try:
                os.killpg(self.pid, number)
                self._process.wait(seconds)
                return
            except (subprocess.TimeoutExpired, ProcessLookupError):
                continue
