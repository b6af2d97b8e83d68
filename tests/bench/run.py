"""Measures the host beside other servers; see CONTRIBUTING.md, and `scripts/bench --help`.

Rounds are interleaved: in each one every server is measured once in every cell, in another
order, so that what else the machine does falls on all alike. The server has one core to itself
and the load generator another. CPU time per stream is the steadiest figure; ratios are taken
within each round.
"""

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys

import cells
import report
import servers

PEERS = list(servers.LANGUAGES)


def parse(arguments):
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="three cells, three short rounds")
    parser.add_argument("--rounds", type=int, help="how often everything is measured")
    parser.add_argument("--seconds", type=float, help="of each measurement")
    parser.add_argument("--scenarios", help="only cells whose names begin so: headers-8x100,bodies")
    parser.add_argument("--servers", help="only servers whose names begin so: host,grpc-generic,go")
    parser.add_argument("--base", default="grpc-generic-scan", help="what ratios are to")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (3 if options.quick else 9)
    options.seconds = options.seconds or (1 if options.quick else 2)
    return options


def chosen(things, prefixes):
    if prefixes is None:
        return things
    return [t for t in things if any(t.name.startswith(p) for p in prefixes.split(","))]


def wanted_servers(options):
    all_servers = chosen([*servers.bare_servers(), *servers.host_servers()], options.servers)
    for language in PEERS:
        if options.servers is None or any(language.startswith(p) for p in options.servers.split(",")):
            peer = servers.build_peer(language)
            all_servers += [peer] if peer else []
    return all_servers


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


def measure(running, cell, cores, seconds):
    """One sample; None, with the reason printed, if it failed."""
    load = os.path.join(servers.BUILD, "tests", "bench", "bench-load")
    command = [load, *cell.arguments, f"--port={running.port}", f"--server_pid={running.pid}",
               f"--seconds={seconds}"]
    if running.server.header:
        command.append(f"--header={running.server.header}")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60,
                              preexec_fn=lambda: os.sched_setaffinity(0, cores))
    except subprocess.TimeoutExpired:
        print(f"{running.server.name} in {cell.name}: no result in time")
        return None
    sample = json.loads(done.stdout) if done.returncode == 0 else {}
    if not sample.get("streams") or sample["errors"]:
        print(f"{running.server.name} in {cell.name}: {done.stderr.strip() or sample}")
        return None
    sample["resident_mib"] = sample["resident_kib"] / 1024
    return sample


def compare(all_servers, all_cells, options, server_cores):
    """{cell: {server: [sample or None for each round]}}, interleaved."""
    certificate = make_certificate()
    _, load_cores, _ = split_cores()
    samples = {cell.name: {server.name: [] for server in all_servers} for cell in all_cells}
    with contextlib.ExitStack() as stack:
        running = {
            (server.name, tls): stack.enter_context(
                servers.Running(server, tls, certificate, server_cores))
            for server in all_servers
            for tls in {cell.tls for cell in all_cells}
        }
        for process in running.values():
            scenarios = sorted({cell.scenario for cell in all_cells})
            for scenario in scenarios:
                warm = cells.Cell(scenario, 8, 100, tls=process.tls)
                measure(process, warm, load_cores, process.server.warmup / len(scenarios))
        for turn in range(options.rounds):
            for cell in all_cells:
                for server in random.sample(all_servers, len(all_servers)):
                    samples[cell.name][server.name].append(
                        measure(running[server.name, cell.tls], cell, load_cores, options.seconds))
            print(f"round {turn + 1} of {options.rounds} is done", flush=True)
    return samples


def main():
    options = parse(sys.argv[1:])
    os.makedirs(servers.RESULTS, exist_ok=True)
    all_cells = chosen(cells.QUICK if options.quick else cells.FULL, options.scenarios)
    all_servers = wanted_servers(options)
    if not all_cells or not all_servers:
        sys.exit("scripts/bench: nothing has such a name")
    server_cores, _, _ = split_cores()
    samples = compare(all_servers, all_cells, options, server_cores)
    for cell in all_cells:
        print(f"\n{cell.name}: {cell.title}\n")
        print(report.cell_table(samples[cell.name], options.base))


main()
