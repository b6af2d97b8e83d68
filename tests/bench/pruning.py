# SPDX-License-Identifier: Apache-2.0
"""What --phase_pruning saves behind a real Envoy that is configured to send bodies (STREAMED), with a plugin
that wants the headers of both directions only; with early end and without."""

import os
import random

import early_end
import envoy
import report
import servers

CLIENTS = early_end.CLIENTS
BODY = b"b" * 1024  # of each request; the response has two bytes
WAYS = [(end, pruning) for end in ("off", "on") for pruning in ("off", "on")]  # the first is what others are to
FILTER = {"processing_mode": {"request_body_mode": "STREAMED", "response_body_mode": "STREAMED"},
          "allow_mode_override": True}


def name_of(transport, end, pruning):
    return f"{transport}+early_end={end}+pruning={pruning}"


def wanted_servers():
    return [servers.host_server(name_of(transport, end, pruning), ["both_headers"], *options,
                                "--envoy_mode_override=allowed", f"--early_end={end}",
                                f"--phase_pruning={pruning}", folder="tests/bench")
            for transport, options in servers.transports() for end, pruning in WAYS]


def compare(running, options, cores):
    """{(name, clients): [sample or None for each round]}"""
    server_cores, envoy_cores, _ = cores
    body_path = os.path.join(servers.RESULTS, "request-body")
    with open(body_path, "wb") as file:
        file.write(BODY)
    samples = {(name, clients): [] for name in running for clients in CLIENTS}

    def measured(name, clients, share=1):
        requests = early_end.requests_of(options.seconds * share, clients)
        return early_end.measure(running_envoy, name, running[name].pid, server_cores, requests, clients,
                                 body_path)

    with early_end.Upstream() as upstream:
        ports = {name: server.port for name, server in running.items()}
        with envoy.Envoy(ports, envoy_cores, upstream.port, more=FILTER) as running_envoy:
            for name in running:
                measured(name, max(CLIENTS), 0.1)
            for _ in range(options.rounds):
                for name, clients in random.sample(list(samples), len(samples)):
                    samples[name, clients].append(measured(name, clients))
    return samples


FIGURES = [("messages/request", "messages", 2), ("requests/s", "requests_per_second", 0),
           ("p50 µs", "p50_us", 0), ("p99 µs", "p99_us", 0), ("Envoy's CPU µs/request", "envoy_us", 1),
           ("the host's", "server_us", 1), ("both", "both_us", 1)]


def rows_of(samples_by_name):
    for (name, clients), samples in samples_by_name.items():
        transport, *ways = name.split("+")
        head = [transport, *(way.split("=")[1] for way in ways), str(clients)]
        yield head, samples, samples_by_name.get((name_of(transport, *WAYS[0]), clients), [])


HEAD = ["server", "early end", "pruning", "clients"]


def table(samples_by_name):
    rows = []
    for head, samples, _ in rows_of(samples_by_name):
        good = [sample for sample in samples if sample]
        rows.append(head + [f"{report.median(good, key):.{digits}f}" if good else "failed"
                            for _, key, digits in FIGURES])
    return report.markdown(HEAD + [title for title, _, _ in FIGURES], rows)


def ratio_table(samples_by_name):
    """Against neither, within each round."""
    keys = [("messages", "messages"), ("CPU of both", "both_us"), ("of Envoy", "envoy_us"),
            ("of the host", "server_us"), ("requests/s", "requests_per_second"), ("p50", "p50_us")]
    rows = []
    for head, samples, neither in rows_of(samples_by_name):
        if samples is neither:
            continue
        found = [report.ratio(samples, neither, key) for _, key in keys]
        rows.append(head + ["-" if ratio is None else f"{ratio:.2f}" for ratio in found])
    return report.markdown(HEAD + [title for title, _ in keys], rows)
