# SPDX-License-Identifier: Apache-2.0
"""The tables that scripts/bench makes of its measurements."""

import unittest

import aims
import os
import tempfile

import bodies
import cells
import instructions
import latency
import pruning
import report


def sample(cpu=1.0, rate=0, streams_per_second=1000.0, latency=100.0, errors=0):
    return {"cpu_us_per_stream": cpu, "rate": rate, "errors": errors,
            "streams_per_second": streams_per_second, "p50_us": latency,
            "p99_us": latency, "p999_us": latency, "context_switches_per_stream": 0.0,
            "resident_mib": 1.0}


def lines(table, begin):
    """The cells of each line that begins so."""
    return [[cell.strip() for cell in l.strip("|").split("|")]
            for l in table.split("\n") if l.startswith(f"| {begin}")]


def line(table, begin):
    """The cells of the first line that begins so."""
    return lines(table, begin)[0]


class Report(unittest.TestCase):
    def test_a_ratio_pairs_what_was_measured_in_the_same_round(self):
        mine = [sample(1), None, sample(30), sample(2)]
        theirs = [sample(2), sample(1), sample(60), sample(1)]
        self.assertEqual(report.ratio(mine, theirs), 0.5)

    def test_without_a_common_round_there_is_no_ratio(self):
        self.assertIsNone(report.ratio([sample(), None], [None, sample()]))

    def test_a_server_that_failed_keeps_its_row(self):
        table = report.cell_table({"a": [sample()], "b": [None]}, "a")
        self.assertEqual(set(line(table, "b")[1:]), {"failed"})

    def test_a_server_that_cannot_keep_up_has_no_latency(self):
        table = report.cell_table({"a": [sample(rate=5000, streams_per_second=4999)],
                                   "b": [sample(rate=5000, streams_per_second=4000)],
                                   "c": [sample(rate=5000, streams_per_second=4999, errors=9)]}, "a")
        self.assertEqual(line(table, "a")[4:6], ["100", "100"])
        self.assertEqual(line(table, "b")[3:6], ["4000", "behind", "behind"])
        self.assertEqual(line(table, "c")[4:6], ["behind", "behind"])
        self.assertIn("\nbehind: ", table)


class Recorded(unittest.TestCase):
    def test_its_cells_load_with_the_recordings_in_the_place_of_a_scenario(self):
        for cell in cells.recorded(["a.rec", "b.rec"]):
            with self.subTest(cell.name):
                self.assertEqual(cell.arguments[:2], ["--recording=a.rec", "--recording=b.rec"])
                self.assertFalse([a for a in cell.arguments if a.startswith("--scenario")])
                self.assertTrue(cell.name.startswith("recorded-"))
                self.assertIn("recorded exchanges", cell.title)


class Latency(unittest.TestCase):
    def taken(self, of_tcp, of_unix):
        return {cell.name: {aims.OURS: [sample(latency=of_tcp)], "h2-bare": [sample(latency=100)],
                            "rust": [sample(latency=110)],
                            f"{aims.OURS}, unix": [sample(latency=of_unix)],
                            "h2-bare, unix": [sample(latency=50)], "rust, unix": [sample(latency=60)]}
                for cell in latency.CELLS}

    def test_each_socket_has_its_own_table_and_base(self):
        for is_unix, shown in ((False, ["104", "1.04"]), (True, ["60", "1.20"])):
            with self.subTest(is_unix):
                table = latency.table(self.taken(104, 60), is_unix)
                self.assertEqual([line(table, aims.OURS)[1], line(table, aims.OURS)[-1]], shown)
                self.assertEqual(len(lines(table, aims.OURS)), 1)

    def test_a_server_is_behind_only_where_a_rate_can_be_missed(self):
        taken = self.taken(104, 60)
        for cell in latency.CELLS:
            taken[cell.name]["rust"] = [sample(rate=cell.rate, streams_per_second=0.9 * cell.rate)]
        row = line(latency.table(taken, False), "rust")
        self.assertEqual(row[1:], ["100"] * 4 + ["behind"] * 5 + ["1.00"])

    def test_a_server_without_a_unix_socket_is_measured_on_a_port_alone(self):
        java, rust = latency.servers.Server("java", ("j",)), latency.servers.Server("rust", ("r",))
        wanted = latency.wanted_servers([java, rust])
        self.assertEqual([(s.name, s.unix) for s in wanted],
                         [("java", False), ("rust", False), ("rust, unix", True)])
        self.assertEqual(rust.arguments(False, ("c", "k"), "/s"), ["r", "unix:/s"])
        self.assertEqual(rust.arguments(False, ("c", "k"), None), ["r", "0"])

    def test_the_aims_are_held_against_each_socket(self):
        table = aims.table({"latency": self.taken(104, 60)})
        self.assertEqual([row[1:] for row in lines(table, f"{aims.OURS}: p50, × h2-bare")],
                         [["1 stream at a time, TCP", "at most 1.05", "1.04", "yes"],
                          ["1 stream at a time, unix socket", "at most 1.05", "1.20", "**no**"]])
        self.assertEqual([row[3:] for row in lines(table, f"{aims.OURS}: p99.9")],
                         [["0.95 × rust", "yes"]] * 2 + [["1.00 × rust", "**no**"]] * 2)


class Bodies(unittest.TestCase):
    def test_speed_is_bytes_of_body_for_the_servers_own_time(self):
        small, large = bodies.cells_of("streamed")
        taken = {small.name: {"go": [sample(cpu=1000), sample(cpu=500), None]}, large.name: {"go": [None]}}
        memory = {small.name: {"go": 2048.4}, large.name: {"go": None}}
        self.assertEqual(line(bodies.table("streamed", taken, memory), "go")[1:],
                         ["1.40", "2048", "failed", "failed"])

    def test_servers_of_constant_answers_are_left_out_where_the_body_is_to_be_repeated(self):
        bare, go = latency.servers.Server("h2-bare", ()), latency.servers.Server("go", ())
        self.assertEqual([bodies.can(bare, mode) for mode in ("buffered", "streamed", "duplex")],
                         [True, True, False])
        self.assertTrue(bodies.can(go, "duplex"))

    def test_its_cells_say_how_large_a_body_is(self):
        for cell in bodies.CELLS:
            with self.subTest(cell.name):
                self.assertIn(f"--body_bytes={cell.body_mib * 1048576}", cell.arguments)
                self.assertIn(f"{cell.body_mib} MiB", cell.title)


class Pruning(unittest.TestCase):
    def taken(self, messages, rate):
        return {"messages": messages, "requests_per_second": rate, "envoy_us": 10.0, "server_us": 5.0,
                "both_us": 15.0, "p50_us": 100, "p99_us": 200}

    def test_each_way_stands_beside_neither_of_the_same_transport_and_clients(self):
        samples = {}
        for transport, base in (("host-grpc", 1000), ("host-nghttp2", 2000)):
            for i, (end, way) in enumerate(pruning.WAYS):
                name = pruning.name_of(transport, end, way)
                samples[name, 1] = [self.taken(4 - i / 2, base * (1 + i / 10)), None]
        self.assertEqual(line(pruning.table(samples), "host-grpc    | off")[:6],
                         ["host-grpc", "off", "off", "1", "4.00", "1000"])
        ratios = lines(pruning.ratio_table(samples), "host-nghttp2")
        self.assertEqual([row[1:5] + row[8:9] for row in ratios],
                         [["off", "on", "1", "0.88", "1.10"], ["on", "off", "1", "0.75", "1.20"],
                          ["on", "on", "1", "0.62", "1.30"]])


class Instructions(unittest.TestCase):
    def test_a_total_is_read_from_what_callgrind_writes(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "callgrind.out")
            with open(path, "w") as file:
                file.write("# callgrind format\nevents: Ir\nfn=(1) totals: 7\n1 5\n\ntotals: 123456\n")
            self.assertEqual(instructions.total(path), 123456)

    def test_the_server_runs_under_the_tool_with_its_own_arguments(self):
        bare = latency.servers.Server("h2-bare", ("h2", "--x"), under=("valgrind", "--y"))
        self.assertEqual(bare.arguments(False, ("c", "k"), None), ["valgrind", "--y", "h2", "0", "--x"])

    def test_each_number_of_connections_has_a_column(self):
        counted = {"host": {cell.name: 100.6 * cell.connections for cell in cells.SCALING},
                   "bare": {cell.name: None for cell in cells.SCALING}}
        table = instructions.table(counted, cells.SCALING)
        self.assertEqual(line(table, "server")[1:], ["1 connection", "2 connections", "8 connections"])
        self.assertEqual(line(table, "host")[1:], ["101", "201", "805"])
        self.assertEqual(line(table, "bare")[1:], ["failed"] * 3)


class Aims(unittest.TestCase):
    def test_an_aim_holds_by_what_is_printed(self):
        for cpu, shown in ((4.996, ["5.00", "yes"]), (4.99, ["4.99", "**no**"])):
            with self.subTest(cpu):
                peers = {cells.GRACEFUL.name: {aims.OURS: [sample(1.0)],
                                               "grpc-generic-scan": [sample(cpu)]}}
                table = aims.table({"peers": peers})
                self.assertEqual(line(table, f"{aims.OURS}: streams")[3:], shown)

    def test_the_floor_has_a_limit_for_each_load(self):
        peers = {cell.name: {aims.OURS: [sample(1.2)], "h2-floor": [sample(1.0)], "h2-bare": [sample(1.1)]}
                 for cell in (cells.GRACEFUL, cells.RESET, cells.BODIES)}
        rows = lines(aims.table({"peers": peers}), f"{aims.OURS}: CPU time, × h2-floor")
        self.assertEqual([row[1:] for row in rows], [
            ["1 message", "at most 1.35", "1.20", "yes"],
            ["1 message, reset", "at most 1.35", "1.20", "yes"],
            ["6 messages", "at most 1.15", "1.20", "**no**"]])

    def test_the_peer_that_makes_it_hardest_is_named(self):
        by_name = {aims.OURS: [sample(latency=50)], "go": [sample(latency=100)],
                   "rust": [sample(latency=40)]}
        table = aims.table({"peers": {cells.RATES[0].name: by_name}})
        self.assertEqual(line(table, f"{aims.OURS}: p99")[3:], ["1.25 × rust", "**no**"])

    def test_a_chain_takes_what_it_takes_beyond_no_plugin_in_the_same_round(self):
        chains = {cells.GRACEFUL.name: {
            "host-nghttp2, no plugin": [sample(3), None, sample(4), sample(9)],
            "host-nghttp2, chain of 8": [sample(6), sample(1), sample(6.5), sample(11)]}}
        table = aims.table({"chains": chains})
        self.assertEqual(line(table, "host-nghttp2, chain of 8")[3:], ["2.50", "yes"])

    def test_what_was_not_measured_is_no_aim_that_failed(self):
        table = aims.table({})
        self.assertNotIn("no**", table)
        self.assertEqual(line(table, "host-nghttp2: MiB")[3:], ["not measured", "-"])


if __name__ == "__main__":
    unittest.main()
