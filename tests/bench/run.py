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
import docs
import envoy
import ghz
import idle
import machine
import micro
import report
import servers

PARTS = ["peers", "chains", "scaling", "micro", "envoy", "idle", "ghz"]


def parse(arguments):
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="three cells, three short rounds")
    parser.add_argument("--rounds", type=int, help="how often everything is measured")
    parser.add_argument("--seconds", type=float, help="of each measurement")
    parser.add_argument("--scenarios", help="only cells whose names begin so: headers-8x100,bodies")
    parser.add_argument("--servers", help="only servers whose names begin so: host,grpc-generic,go")
    parser.add_argument("--parts", default=",".join(PARTS), help="of: %(default)s")
    parser.add_argument("--write-docs", action="store_true", help="renew docs/performance.md")
    parser.add_argument("--base", default="grpc-generic-scan", help="what ratios are to")
    options = parser.parse_args(arguments)
    options.parts = options.parts.split(",")
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(unknown)}")
    options.rounds = options.rounds or (3 if options.quick else 9)
    options.seconds = options.seconds or (1 if options.quick else 2)
    return options


def chosen(things, prefixes):
    if prefixes is None:
        return things
    return [t for t in things if any(t.name.startswith(p) for p in prefixes.split(","))]


def wanted_servers(options):
    all_servers = chosen([*servers.bare_servers(), *servers.host_servers()], options.servers)
    for language in servers.LANGUAGES:
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


@contextlib.contextmanager
def started(all_servers, tls_kinds, cores):
    """{(name, tls): a running server}."""
    certificate = make_certificate()
    with contextlib.ExitStack() as stack:
        yield {
            (server.name, tls): stack.enter_context(servers.Running(server, tls, certificate, cores))
            for server in all_servers
            for tls in tls_kinds
        }


def warm_up(running, scenarios, load_cores):
    for process in running.values():
        for scenario in scenarios:
            cell = cells.Cell(scenario, 8, 100, tls=process.tls)
            measure(process, cell, load_cores, process.server.warmup / len(scenarios))


def compare(all_servers, all_cells, options, server_cores):
    """{cell: {server: [sample or None for each round]}}, interleaved."""
    _, load_cores, _ = split_cores()
    samples = {cell.name: {server.name: [] for server in all_servers} for cell in all_cells}
    with started(all_servers, {cell.tls for cell in all_cells}, server_cores) as running:
        warm_up(running, sorted({cell.scenario for cell in all_cells}), load_cores)
        for turn in range(options.rounds):
            for cell in all_cells:
                for server in random.sample(all_servers, len(all_servers)):
                    samples[cell.name][server.name].append(
                        measure(running[server.name, cell.tls], cell, load_cores, options.seconds))
            print(f"round {turn + 1} of {options.rounds} is done", flush=True)
    return samples


def tables(all_cells, samples, base):
    return [(cell.title, report.cell_table(samples[cell.name], base)) for cell in all_cells]


class Run:
    """What one run of the benchmark does, part by part; `sections` and `results` grow with it."""

    def __init__(self, options):
        self.options = options
        self.server_cores, self.load_cores, self.all_cores = split_cores()
        self.sections = []
        self.results = {"machine": machine.describe()}
        self.plots = []

    def add(self, title, named_tables):
        self.sections.append((title, named_tables))
        print(report.section(title, named_tables), flush=True)

    def peers(self):
        all_cells = chosen(cells.QUICK if self.options.quick else cells.FULL,
                           self.options.scenarios)
        all_servers = wanted_servers(self.options)
        if not all_cells or not all_servers:
            sys.exit("scripts/bench: nothing has such a name")
        samples = compare(all_servers, all_cells, self.options, self.server_cores)
        self.results["peers"] = samples
        self.add("Beside other servers", tables(all_cells, samples, self.options.base))
        self.plots = [(cell.title, report.bars(samples[cell.name]))
                      for cell in all_cells if cell in cells.QUICK]

    def chains(self):
        all_cells = [cells.Cell("headers", 8, 100)]
        all_servers = servers.chain_servers()
        samples = compare(all_servers, all_cells, self.options, self.server_cores)
        self.results["chains"] = samples
        self.add("Chains of plugins/minimal_c", tables(all_cells, samples, all_servers[0].name))

    def scaling(self):
        all_cells = [cells.Cell("headers", 8, 100)]
        all_servers = servers.scaling_servers()
        samples = compare(all_servers, all_cells, self.options, self.all_cores)
        self.results["scaling"] = samples
        self.add("All cores, shared with the generator",
                 tables(all_cells, samples, all_servers[0].name))

    def micro(self):
        rounds = 3 if self.options.quick else 9
        self.add("The host's parts alone", [("Without sockets", micro.table(rounds, self.server_cores))])

    def envoy(self):
        if (missing := envoy.missing()) is not None:
            return print(f"no Envoy: {missing}")
        with started(wanted_servers(self.options), {False}, self.server_cores) as running:
            by_name = {name: process for (name, _), process in running.items()}
            warm_up(running, ["headers"], self.load_cores)
            samples = envoy.compare(by_name, self.options, split_cores())
        self.results["envoy"] = samples
        self.add("Behind a real Envoy",
                 [("GET, answered by Envoy itself, 16 clients", report.envoy_table(samples))])

    def idle(self):
        samples = {}
        with started(wanted_servers(self.options), {False}, self.server_cores) as running:
            for (name, _), process in running.items():
                try:
                    samples[name] = idle.measure(process)
                except OSError as error:
                    print(f"{name} holds no idle streams: {error}")
                    samples[name] = None
        self.results["idle"] = samples
        self.add("Memory", [(f"{idle.CONNECTIONS * idle.STREAMS} streams held open on "
                             f"{idle.CONNECTIONS} connections, one message of each answered",
                             idle.table(samples))])

    def ghz(self):
        program = ghz.find_ghz()
        if program is None:
            return
        streams = int(5000 * self.options.seconds)
        with started(servers.bare_servers() + servers.host_servers(), {False},
                     self.server_cores) as running:
            rows = []
            for (name, _), process in running.items():
                used = ghz.measure(program, process, envoy.cpu_ns, self.load_cores, streams)
                rows.append([name, f"{used:.2f}" if used else "failed"])
        self.add("With ghz as the client", [("1 message, 100 streams at once on 8 connections",
                                             report.markdown(["server", "CPU µs/stream"], rows))])


def main():
    options = parse(sys.argv[1:])
    os.makedirs(servers.RESULTS, exist_ok=True)
    run = Run(options)
    for part in options.parts:
        getattr(run, part)()
    docs.write(run, options.write_docs)


main()
