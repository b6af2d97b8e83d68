# SPDX-License-Identifier: Apache-2.0
"""What --early_end saves behind a real Envoy: both header phases are sent, a plugin wants request
headers only, and a real upstream responds, or lets its clients wait. Beside it stands what could be
saved at best: the same where Envoy is configured not to send the response headers at all."""

import contextlib
import json
import os
import random
import resource
import socket
import subprocess
import time
import urllib.request

import envoy
import idle
import report
import servers

WAITING = 2000  # responses that are pending at a time, for the memory of a stream
AT_ONCE = 20  # of them, so that no burst of streams at work is measured
PATIENCE_S = 60
WAYS = ("off", "on")
UNSENT = "unsent"  # --early_end=off, and Envoy sends the request headers only
CLIENTS = (1, 16)  # one waits for each response; sixteen send in step, and Envoy writes for many at once


def wanted_servers():
    # The name becomes Envoy's :authority, so it has no blanks.
    return [servers.host_server(f"{name}+early_end={way}", ["minimal_c"], *options,
                                f"--early_end={way}")
            for name, options in servers.transports() for way in WAYS]


class Upstream:
    def __init__(self):
        program = os.path.join(servers.BUILD, "tests", "bench", "bench-upstream")
        self._process = subprocess.Popen([program], stdout=subprocess.PIPE, text=True)
        self.port = int(self._process.stdout.readline().split()[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait()
        self._process.stdout.close()


def counter(running_envoy, name, what):
    page = f"http://{running_envoy.admin}/stats?format=json&filter=ext_proc.{what}"
    with urllib.request.urlopen(page) as stats:
        return sum(stat["value"] for stat in json.load(stats)["stats"] if f"http.{name}." in stat["name"])


def waiting_kib(running_envoy, name, pid):
    """KiB that the host takes for each of WAITING requests whose response is pending."""
    before = idle.resident_kib(pid)
    answered = counter(running_envoy, name, "stream_msgs_received")
    with contextlib.ExitStack() as stack:
        for opened in range(AT_ONCE, WAITING + 1, AT_ONCE):
            for _ in range(AT_ONCE):
                client = stack.enter_context(socket.create_connection(
                    ("127.0.0.1", running_envoy.ports[name]), PATIENCE_S))
                client.sendall(b"GET /hold HTTP/1.1\r\nhost: localhost\r\n\r\n")
            give_up = time.monotonic() + PATIENCE_S
            while counter(running_envoy, name, "stream_msgs_received") < answered + opened:
                if time.monotonic() > give_up:
                    raise RuntimeError(f"{name}: the host has not answered {opened} requests")
                time.sleep(0.01)
        return (idle.resident_kib(pid) - before) / WAITING


def requests_of(seconds, clients):
    # A client that waits for each response makes a quarter of the requests.
    return max(100, int(envoy.REQUESTS * seconds / (4 if clients == 1 else 1)))


def measure(running_envoy, name, pid, cores, requests, clients, body_path=None):
    sent = counter(running_envoy, name, "stream_msgs_sent")
    sample = envoy.measure(running_envoy, name, pid, cores, requests, clients, body_path)
    if sample:
        sample["messages"] = (counter(running_envoy, name, "stream_msgs_sent") - sent) / requests
        sample["both_us"] = sample["envoy_us"] + sample["server_us"]
    return sample


def unsent(name):
    return name.replace("early_end=off", UNSENT)


def compare(running, options, cores):
    """({(name, clients): [sample or None for each round]}, {name: KiB of a stream whose response is
    pending})."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    server_cores, envoy_cores, _ = cores
    half = {unsent(name): name for name in running if name.endswith("=off")}
    pids = {name: running[half.get(name, name)].pid for name in [*running, *half]}
    samples = {(name, clients): [] for name in pids for clients in CLIENTS}

    def measured(name, clients, share=1):
        requests = requests_of(options.seconds * share, clients)
        return measure(running_envoy, name, pids[name], server_cores, requests, clients)

    with Upstream() as upstream:
        ports = {name: server.port for name, server in running.items()}
        with envoy.Envoy(ports, envoy_cores, upstream.port, half) as running_envoy:
            for name in pids:
                measured(name, max(CLIENTS), 0.1)
            for _ in range(options.rounds):
                for name, clients in random.sample(list(samples), len(samples)):
                    samples[name, clients].append(measured(name, clients))
            waiting = {name: waiting_kib(running_envoy, name, server.pid)
                       for name, server in running.items()}
    return samples, waiting


def table(samples_by_name, waiting):
    rows = []
    for (name, clients), samples in samples_by_name.items():
        good = [sample for sample in samples if sample]
        if not good:
            rows.append([name, str(clients)] + ["failed"] * 6)
            continue
        rows.append([name, str(clients), *(f"{report.median(good, key):.{digits}f}" for key, digits in
                                           (("messages", 2), ("requests_per_second", 0),
                                            ("envoy_us", 1), ("server_us", 1), ("both_us", 1))),
                     f"{max(waiting[name], 0):.2f}" if name in waiting else "-"])
    return report.markdown(["server", "clients", "messages/request", "requests/s",
                            "Envoy's CPU µs/request", "the host's", "both",
                            "KiB while a response is pending"], rows)


def ratio_table(samples_by_name):
    """On, and unsent, against off, within each round."""
    rows = []
    for (name, clients), samples in samples_by_name.items():
        server, way = name.split("+")
        if way == "early_end=off":
            continue
        off = samples_by_name[f"{server}+early_end=off", clients]
        found = [report.ratio(samples, off, key) for key in ("messages", "both_us", "requests_per_second")]
        rows.append([server, way, str(clients), *("-" if r is None else f"{r:.2f}" for r in found)])
    return report.markdown(["server", "against early_end=off", "clients", "messages", "CPU of both",
                            "requests/s"], rows)
