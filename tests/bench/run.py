# SPDX-License-Identifier: Apache-2.0
"""Measures the host beside other servers; see CONTRIBUTING.md, and `scripts/bench --help`.

The server has one core to itself and the load generator another. CPU time per stream is the
steadiest figure; ratios are taken within each round.
"""

import argparse
import os
import signal
import sys
import traceback

import bodies
import cells
import docs
import early_end
import envoy
import ghz
import idle
import instructions
import latency
import machine
import micro
import plan
import pruning
import report
import servers
from compare import compare, split_cores, started, warm_up

PARTS = ["peers", "check", "latency", "bodies", "envoy", "early_end", "idle", "chains", "scaling", "instructions", "micro", "ghz", "loads"]
LONG = ["latency", "bodies", "instructions", "loads"]  # not for --quick


def parse(arguments):
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help=f"three kinds of load only, and less of the rest; without {', '.join(LONG)}")
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is measured: %(default)s")
    parser.add_argument("--seconds", type=float, default=1, help="of each measurement: %(default)s")
    parser.add_argument("--scenarios", help="only cells whose names begin so: headers-8x100,bodies")
    parser.add_argument("--recording", action="append", default=[], metavar="FILE", type=os.path.abspath,
                        help="streams say what the exchanges of this recording did; repeatable; "
                             "measures the part peers only")
    parser.add_argument("--servers", help="only servers whose names begin so: host,grpc-generic,go")
    parser.add_argument("--parts", help=f"of: {','.join(PARTS)}")
    parser.add_argument("--write-docs", action="store_true", help="renew docs/performance.md")
    parser.add_argument("--base", default="grpc-generic-scan", help="what ratios are to")
    options = parser.parse_args(arguments)
    options.parts = options.parts.split(",") if options.parts else PARTS[:]
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(unknown)}")
    if options.recording:
        if options.write_docs:
            parser.error("--write-docs is for the built-in messages")
        options.parts = ["peers"]
    if options.quick:
        options.parts = [part for part in options.parts if part not in LONG]
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


class Missing(Exception):
    """A part cannot be measured here; the text says why."""


class Run:
    """What one run of the benchmark does, part by part; `sections` and `results` grow with it."""

    def __init__(self, options):
        self.options = options
        self.server_cores, self.load_cores, self.all_cores = split_cores()
        self.servers = wanted_servers(options)
        main_cells = cells.QUICK if options.quick else cells.MAIN
        self.cells = chosen(cells.recorded(options.recording) if options.recording else main_cells,
                            options.scenarios)
        self.other_cells = chosen(cells.OTHER, options.scenarios)
        self.some_servers = [s for s in self.servers if s.name in servers.SOME]
        self.own_servers = servers.bare_servers() + servers.host_servers()
        self.check_servers = [*chosen(servers.check_servers(), options.servers),
                              *(s for s in self.servers if s.name in servers.CHECKING)]
        self.latency_servers = latency.wanted_servers(self.servers)
        self.body_servers = [*(s for s in self.servers if s.name in bodies.MEASURED),
                             *chosen(bodies.host_servers(), options.servers)]
        self.micro_rounds = 3 if options.quick else 9
        self.sections = []
        self.missing = []
        self.results = {"machine": machine.describe()}
        self.plots = []

    def plan(self):
        """{part: seconds}"""
        one_cell = [cells.GRACEFUL]
        seconds = {
            "peers": plan.comparing(self.servers, self.cells, self.options),
            "check": plan.comparing(self.check_servers, [cells.CHECK], self.options),
            "latency": plan.comparing(self.latency_servers, latency.CELLS, self.options),
            "bodies": sum(plan.comparing(some, bodies.cells_of(mode), self.options)
                          + plan.memory(some, bodies.cells_of(mode), self.options)
                          for mode, some in self.body_servers_by_mode().items()),
            "envoy": plan.behind_envoy(self.servers, self.options),
            "early_end": (plan.behind_envoy(early_end.wanted_servers() * 3, self.options) + plan.WAITING_S
                          + plan.behind_envoy(pruning.wanted_servers() * len(pruning.CLIENTS), self.options)),
            "idle": (plan.START_S + plan.IDLE_S) * len(self.servers),
            "chains": plan.comparing(servers.chain_servers(), one_cell, self.options),
            "scaling": plan.comparing(servers.scaling_servers(), cells.SCALING, self.options),
            "instructions": plan.COUNT_S * len(instructions.wanted_servers()) * len(cells.SCALING),
            "micro": plan.MICRO_S * self.micro_rounds,
            "ghz": plan.GHZ_S * self.options.seconds * len(self.own_servers),
            "loads": plan.comparing(self.some_servers, self.other_cells, self.options),
        }
        return {part: seconds[part] for part in self.options.parts}

    def do(self, part):
        """A part that cannot be measured leaves a word why, and the others as they are."""
        try:
            getattr(self, part)()
        except Exception as error:
            if not isinstance(error, Missing):
                traceback.print_exc()
            self.missing.append(f"{part} ({error})")
            print(f"{part} is not measured: {error}", flush=True)
        docs.write(self)

    def add(self, title, named_tables):
        self.sections.append((title, named_tables))
        print(report.section(title, named_tables), flush=True)

    def compare(self, part, all_servers, all_cells, cores):
        if not all_cells or not all_servers:
            raise Missing("nothing has such a name")
        self.results[part] = compare(all_servers, all_cells, self.options, cores)
        return self.results[part]

    def peers(self):
        samples = self.compare("peers", self.servers, self.cells, self.server_cores)
        self.add("Beside other servers",
                 [(cell.title, report.cell_table(samples[cell.name], self.options.base))
                  for cell in self.cells])
        self.plots = [(cell.title, report.bars(samples[cell.name]))
                      for cell in self.cells if cell in cells.QUICK]

    def check(self):
        cell = cells.CHECK
        samples = self.compare("check", self.check_servers, [cell], self.server_cores)[cell.name]
        names = [s.name for s in self.check_servers]
        base = "grpc-generic" if "grpc-generic" in names else names[0]
        self.add("Authorization (ext_authz)", [(cell.title, report.cell_table(samples, base))])

    def latency(self):
        samples = self.compare("latency", self.latency_servers, latency.CELLS, self.server_cores)
        self.add("Latency of one stream",
                 [(f"1 message on 1 connection over {socket}, ended gracefully",
                   latency.table(samples, is_unix))
                  for socket, is_unix in (("TCP", False), ("a unix socket", True))])

    def body_servers_by_mode(self):
        return {mode: able for mode in cells.BODY_MODES
                if (able := [s for s in self.body_servers if bodies.can(s, mode)])}

    def bodies(self):
        if not self.body_servers:
            raise Missing("no server has such a name")
        samples, memory, tables = {}, {}, []
        for mode, some in self.body_servers_by_mode().items():
            of_mode = bodies.cells_of(mode)
            samples.update(self.compare("bodies", some, of_mode, self.server_cores))
            for cell in of_mode:
                memory[cell.name] = {s.name: bodies.memory_kib(s, cell, split_cores(), self.options.seconds)
                                     for s in some}
            tables.append((f"{cells.BODY_MODES[mode]}, 4 streams at once on 4 connections, ended gracefully",
                           bodies.table(mode, samples, memory)))
        self.results["bodies"] = {"samples": samples, "memory_kib": memory}
        self.add("Large bodies", tables)

    def loads(self):
        samples = self.compare("loads", self.some_servers, self.other_cells, self.server_cores)
        figures = [("CPU µs per stream", "cpu_us_per_stream", "{:.2f}"), ("p50 µs", "p50_us", "{:.0f}"),
                   ("p99 µs", "p99_us", "{:.0f}"), ("Streams/s", "streams_per_second", "{:.0f}")]
        self.add("Other loads", [(title, report.cells_table(samples, self.other_cells, key, form))
                                 for title, key, form in figures])

    def chains(self):
        all_servers = servers.chain_servers()
        cell = cells.GRACEFUL
        samples = self.compare("chains", all_servers, [cell], self.server_cores)[cell.name]
        self.add("Chains of plugins/minimal_c",
                 [(cell.title, report.cell_table(samples, all_servers[0].name))])

    def scaling(self):
        samples = self.compare("scaling", servers.scaling_servers(), cells.SCALING, self.all_cores)
        self.add(f"On {len(self.all_cores)} cores, shared with the generator",
                 [(cell.title, report.scaling_table(samples[cell.name])) for cell in cells.SCALING])

    def instructions(self):
        if (missing := instructions.missing()) is not None:
            raise Missing(missing)
        counted = {s.name: instructions.for_each_stream(s, cells.SCALING, self.all_cores)
                   for s in instructions.wanted_servers()}
        self.results["instructions"] = counted
        self.add("Instructions for a stream",
                 [("1 message, 100 streams at once, ended gracefully; in user space, counted by callgrind",
                   instructions.table(counted, cells.SCALING))])

    def micro(self):
        self.add("The host's parts alone",
                 [("Without sockets", micro.table(self.micro_rounds, self.server_cores))])

    def envoy(self):
        if (missing := envoy.missing()) is not None:
            raise Missing(missing)
        with started(self.servers, {False}, self.server_cores) as running:
            by_name = {name: process for (name, _), process in running.items()}
            warm_up(running, [cells.GRACEFUL], self.load_cores)
            samples = envoy.compare(by_name, self.options, split_cores())
        self.results["envoy"] = samples
        self.add("Behind a real Envoy",
                 [("GET, answered by Envoy itself, 16 clients", report.envoy_table(samples))])

    def early_end(self):
        if (missing := envoy.missing()) is not None:
            raise Missing(missing)
        if not servers.host_has("early_end"):
            raise Missing("the host has no --early_end")
        with started(early_end.wanted_servers(), {False}, self.server_cores) as running:
            by_name = {name: process for (name, _), process in running.items()}
            samples, waiting = early_end.compare(by_name, self.options, split_cores())
        self.results["early_end"] = {f"{name}, {clients} clients": taken
                                     for (name, clients), taken in samples.items()}
        self.add("Early end behind a real Envoy",
                 [(f"GET, both header phases, a plugin for request headers; "
                   f"memory with {early_end.WAITING} responses pending",
                   early_end.table(samples, waiting)),
                  ("Within the same round", early_end.ratio_table(samples))])
        if servers.host_has("phase_pruning"):
            self.pruning()

    def pruning(self):
        with started(pruning.wanted_servers(), {False}, self.server_cores) as running:
            samples = pruning.compare({name: process for (name, _), process in running.items()},
                                      self.options, split_cores())
        self.results["pruning"] = {f"{name}, {clients} clients": taken
                                   for (name, clients), taken in samples.items()}
        self.add("Phase pruning behind a real Envoy",
                 [("POST of 1 KiB, Envoy sends headers and bodies (STREAMED), a plugin for both headers",
                   pruning.table(samples)),
                  ("Against neither, within the same round", pruning.ratio_table(samples))])

    def idle(self):
        samples = {}
        with started(self.servers, {False}, self.server_cores) as running:
            for server in self.servers:
                try:
                    samples[server.name] = idle.measure(running[server.name, False])
                except (OSError, KeyError) as error:
                    print(f"{server.name} holds no idle streams: {error}")
                    samples[server.name] = None
        self.results["idle"] = samples
        self.add("Memory", [(f"{idle.CONNECTIONS * idle.STREAMS} streams held open on "
                             f"{idle.CONNECTIONS} connections, one message of each answered",
                             idle.table(samples))])

    def ghz(self):
        try:
            program = ghz.find_ghz()
        except (OSError, RuntimeError) as error:
            raise Missing(error) from error
        samples = {}
        with started(self.own_servers, {False}, self.server_cores) as running:
            for (name, _), process in running.items():
                samples[name] = ghz.measure(program, process, self.load_cores, self.options)
        self.results["ghz"] = samples
        self.add("With ghz as the client",
                 [("1 message, 100 streams at once on 8 connections", ghz.table(samples))])


def main():
    options = parse(sys.argv[1:])
    # So that what runs is stopped too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("scripts/bench: terminated"))
    os.makedirs(servers.RESULTS, exist_ok=True)
    print("building the servers in other languages", flush=True)
    run = Run(options)
    print(plan.sentence(run.plan()), flush=True)
    for part in options.parts:
        run.do(part)
    print(f"results are in {os.path.relpath(servers.RESULTS, servers.TOP)}")
    if options.write_docs:
        docs.renew(*docs.write(run))
    sys.exit(1 if run.missing else 0)


main()
