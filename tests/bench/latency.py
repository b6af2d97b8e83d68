# SPDX-License-Identifier: Apache-2.0
"""How long a stream takes whose server has nothing else to do, over TCP and over a unix socket: one at a
time as fast as that goes, and begun at fixed rates."""

import dataclasses

import cells
import report
import servers

AT_A_TIME = cells.Cell("headers", 1, 1)
# At 1 a second a server has gone to sleep, and its code has left the caches. Seven streams a round do for a
# median and no more; nor do 200 for a p99.9.
RARE = cells.Cell("headers", rate=1, lasts=7)
SOME = cells.Cell("headers", rate=100, lasts=2)
MANY = cells.Cell("headers", rate=cells.RATE, lasts=2)
CELLS = [AT_A_TIME, RARE, SOME, MANY]

COLUMNS = [
    ("one at a time: p50 µs", AT_A_TIME, "p50_us"),
    ("p99", AT_A_TIME, "p99_us"),
    ("p99.9", AT_A_TIME, "p999_us"),
    ("1/s: p50 µs", RARE, "p50_us"),
    ("100/s: p50 µs", SOME, "p50_us"),
    ("p99", SOME, "p99_us"),
    (f"{cells.RATE}/s: p50 µs", MANY, "p50_us"),
    ("p99", MANY, "p99_us"),
    ("p99.9", MANY, "p999_us"),
]
LEFT_OUT = ["host-grpc", "host-nghttp2", "host-grpc+minimal_c", "host-nghttp2+minimal_c"]
WITHOUT_UNIX = ["java"]  # Netty takes unix sockets only with a native library of its own
UNIX = ", unix"


def wanted_servers(all_servers):
    on_tcp = [s for s in all_servers if s.name not in LEFT_OUT]
    return on_tcp + [dataclasses.replace(s, name=s.name + UNIX, unix=True) for s in on_tcp
                     if s.name not in WITHOUT_UNIX]


def by_server(samples, is_unix):
    """{server: its samples} over one kind of socket, of {server or server, unix: samples}."""
    return {name.removesuffix(UNIX): taken for name, taken in samples.items()
            if name.endswith(UNIX) == is_unix}


def figure(samples, cell, key):
    good = [sample for sample in samples if sample]
    if not good:
        return "failed"
    # A few streams are no rate that one can miss.
    if cell not in (AT_A_TIME, RARE) and report.is_behind(good):
        return "behind"
    return f"{report.median(good, key):.0f}"


def table(samples_by_cell, is_unix):
    """`samples_by_cell`: {cell: {server: [sample or None for each round]}}."""
    taken = {cell: by_server(samples_by_cell[cell.name], is_unix) for cell in CELLS}
    rows = []
    for server, samples in taken[AT_A_TIME].items():
        times = report.ratio(samples, taken[AT_A_TIME].get("h2-bare", []), "p50_us")
        rows.append([server, *(figure(taken[cell][server], cell, key) for _, cell, key in COLUMNS),
                     f"{times:.2f}" if times else "-"])
    return report.markdown(["server", *(title for title, _, _ in COLUMNS), "p50 of one at a time, × h2-bare"],
                           rows)
