# SPDX-License-Identifier: Apache-2.0
"""Measures servers in cells, interleaved: in each round every server is measured once in every cell, in
another order, so that what else the machine does falls on all alike."""

import contextlib
import dataclasses
import json
import os
import random
import subprocess
import time

import cells
import envoy
import servers

WARMUP_S = 0.2  # of the load itself, before each measurement; the servers are warm by then
SETTLE_S = 10  # at most, for a server that fell behind


def make_certificate():
    pair = [os.path.join(servers.RESULTS, name) for name in ("certificate.pem", "key.pem")]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-subj", "/CN=localhost", "-days", "2", "-out", pair[0], "-keyout", pair[1]],
        check=True, capture_output=True,
    )
    return pair


def split_cores():
    """The server's, the generator's and all cores; on one core everybody shares it."""
    cores = sorted(os.sched_getaffinity(0))
    return {cores[0]}, {cores[-1]}, set(cores)


def settle(pid):
    """Lets a server that fell behind be done with what it still has, which its next cell would pay for."""
    give_up = time.monotonic() + SETTLE_S
    while time.monotonic() < give_up:
        before = envoy.cpu_ns(pid)
        time.sleep(0.1)
        if envoy.cpu_ns(pid) - before < 10e6:
            return


def measure(running, cell, cores, seconds):
    """One sample; None, with the reason printed, if it failed."""
    load = os.path.join(servers.BUILD, "tests", "bench", "bench-load")
    address = f"--unix={running.unix_path}" if running.unix_path else f"--port={running.port}"
    command = [load, *cell.arguments, address, f"--server_pid={running.pid}",
               f"--warmup={WARMUP_S}", f"--seconds={seconds}"]
    if running.server.header:
        command.append(f"--header={running.server.header}")
    if running.server.any_phase:
        command.append("--any_phase")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 20,
                              preexec_fn=lambda: os.sched_setaffinity(0, cores))
    except subprocess.TimeoutExpired:
        print(f"{running.server.name} in {cell.name}: no result in time")
        return None
    sample = json.loads(done.stdout) if done.returncode == 0 else {}
    # At a fixed rate a server may refuse what is too much for it: the table says so.
    if not sample.get("streams") or sample["errors"] and not cell.rate:
        print(f"{running.server.name} in {cell.name}: {done.stderr.strip() or sample}")
        return None
    if sample["errors"] or sample["unanswered"]:
        settle(running.pid)
    sample["resident_mib"] = sample["resident_kib"] / 1024
    return sample


@contextlib.contextmanager
def started(all_servers, tls_kinds, cores):
    """{(name, tls): a running server}; without those that do not start, of which it prints why."""
    certificate = make_certificate()
    running = {}
    with contextlib.ExitStack() as stack:
        for server in all_servers:
            for tls in sorted(tls_kinds):
                try:
                    process = servers.Running(server, tls, certificate, cores)
                except (OSError, RuntimeError) as error:
                    print(error)
                    continue
                running[server.name, tls] = stack.enter_context(process)
        yield running


def warm_up(running, all_cells, load_cores):
    """With what the cells say, each thing once: many streams at once, unless they are large."""
    said = {cell.scenario: cell if cell.body_mib
            else cells.Cell(cell.scenario, 8, 100, recordings=cell.recordings) for cell in all_cells}
    for process in running.values():
        for _, cell in sorted(said.items()):
            measure(process, dataclasses.replace(cell, tls=process.tls), load_cores,
                    process.server.warmup / len(said))


def compare(all_servers, all_cells, options, server_cores):
    """{cell: {server: [sample or None for each round]}}"""
    _, load_cores, _ = split_cores()
    samples = {cell.name: {server.name: [] for server in all_servers} for cell in all_cells}
    with started(all_servers, {cell.tls for cell in all_cells}, server_cores) as running:
        warm_up(running, all_cells, load_cores)
        for turn in range(options.rounds):
            for cell in all_cells:
                for server in random.sample(all_servers, len(all_servers)):
                    process = running.get((server.name, cell.tls))
                    samples[cell.name][server.name].append(
                        process and measure(process, cell, load_cores, options.seconds * cell.lasts))
            print(f"round {turn + 1} of {options.rounds} is done", flush=True)
    return samples
