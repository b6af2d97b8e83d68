# SPDX-License-Identifier: Apache-2.0
"""What the project aims at beside what a run has measured, as a table."""

import statistics

import cells
import idle
import latency
import report

OURS = "host-nghttp2+basic"
PEERS = ["grpc-generic", "grpc-generic-scan", "grpc-callback", "go", "rust", "java", "python"]
LOADS = {
    cells.GRACEFUL: "1 message",
    cells.RESET: "1 message, reset",
    cells.BODIES: "6 messages",
    cells.RATES[0]: f"1 message, {cells.RATE}/s",
    cells.RATES[1]: f"1 message, {cells.RATE}/s, reset",
}


def row(what, load, aim, measured=None, holds=None):
    if measured is None:
        return [what, load, aim, "not measured", "-"]
    return [what, load, aim, measured, "yes" if holds else "**no**"]


def times(mine, theirs, key="cpu_us_per_stream"):
    """As report.ratio, but as exact as it is printed; None without measurements of both."""
    ratio = report.ratio(mine, theirs, key)
    return None if ratio is None else round(ratio, 2)


def speed(peers, cell, other, least):
    """How many streams OURS serves in a CPU second, in those that `other` does."""
    in_cell = peers.get(cell.name, {})
    ratio = times(in_cell.get(other, []), in_cell.get(OURS, []))
    head = [f"{OURS}: streams per CPU second, × {other}", LOADS[cell], f"at least {least}"]
    return row(*head) if ratio is None else row(*head, f"{ratio:.2f}", ratio >= least)


def cpu(peers, cell, ours, other, most):
    in_cell = peers.get(cell.name, {})
    ratio = times(in_cell.get(ours, []), in_cell.get(other, []))
    head = [f"{ours}: CPU time, × {other}", LOADS[cell], f"at most {most}"]
    return row(*head) if ratio is None else row(*head, f"{ratio:.2f}", ratio <= most)


def beside_peers(head, by_name, key, hardest, holds):
    """OURS beside that peer which makes it hardest; `hardest` is min or max of the ratios."""
    mine = by_name.get(OURS, [])
    ratios = [(ratio, peer) for peer in PEERS
              if (ratio := times(mine, by_name.get(peer, []), key)) is not None]
    if not ratios:
        return row(*head)
    ratio, peer = hardest(ratios)
    return row(*head, f"{ratio:.2f} × {peer}", holds(ratio))


def speed_rows(peers):
    rows = []
    for cell, least in ((cells.GRACEFUL, 5), (cells.RESET, 10)):
        rows += [speed(peers, cell, "grpc-generic-scan", least), speed(peers, cell, "rust", 2.5),
                 cpu(peers, cell, OURS, "h2-bare", 1.5)]
    return rows + [speed(peers, cells.BODIES, "grpc-generic-scan", 2), speed(peers, cells.BODIES, "rust", 1)]


def latency_rows(peers):
    return [beside_peers([f"{OURS}: {name}, × that of each peer", LOADS[cell], "below 1"],
                         peers.get(cell.name, {}), key, max, lambda ratio: ratio < 1)
            for cell in cells.RATES for name, key in (("p50", "p50_us"), ("p99", "p99_us"))]


def one_stream_rows(samples):
    """OURS beside h2-bare and the peers with a stream at a time."""
    rows = []
    for socket, is_unix in (("TCP", False), ("unix socket", True)):
        taken = {cell: latency.by_server(samples.get(cell.name, {}), is_unix)
                 for cell in (latency.AT_A_TIME, latency.MANY)}
        alone = f"1 stream at a time, {socket}"
        ratio = times(taken[latency.AT_A_TIME].get(OURS, []), taken[latency.AT_A_TIME].get("h2-bare", []),
                      "p50_us")
        head = [f"{OURS}: p50, × h2-bare", alone, "at most 1.05"]
        rows.append(row(*head) if ratio is None else row(*head, f"{ratio:.2f}", ratio <= 1.05))
        rows += [beside_peers([f"{OURS}: p99.9, × that of each peer", load, "below 1"], taken[cell], "p999_us",
                              max, lambda ratio: ratio < 1)
                 for cell, load in ((latency.AT_A_TIME, alone),
                                    (latency.MANY, f"1 connection, {cells.RATE}/s, {socket}"))]
    return rows


def envoy_row(behind_envoy):
    return beside_peers([f"{OURS}: requests/s, × those of each peer", "behind Envoy", "above 1"],
                        behind_envoy, "requests_per_second", min, lambda ratio: ratio > 1)


def memory_row(samples, ours, load, index):
    head = [f"{ours}: MiB", load, "below each peer"]
    others = [(sample[index], peer) for peer in PEERS if (sample := samples.get(peer))]
    if not samples.get(ours) or not others:
        return row(*head)
    mine, (least, peer) = samples[ours][index], min(others)
    return row(*head, f"{mine / 1024:.1f}; {peer} {least / 1024:.1f}", mine < least)


def memory_rows(samples):
    streams = idle.CONNECTIONS * idle.STREAMS
    most = round(20 + streams * 2 / 1024, 1)
    load = f"{streams} idle streams"
    head = [f"{OURS}: MiB", load, f"at most {most} (20, and 2 KiB a stream)"]
    total = round(samples[OURS][1] / 1024, 1) if samples.get(OURS) else None
    return [
        memory_row(samples, "host-nghttp2", "when started", 0),
        memory_row(samples, OURS, load, 1),
        row(*head) if total is None else row(*head, str(total), total <= most),
    ]


def floor_rows(peers):
    """OURS beside the least that libnghttp2 takes."""
    return [cpu(peers, cells.GRACEFUL, OURS, "h2-floor", 1.35), cpu(peers, cells.RESET, OURS, "h2-floor", 1.35),
            cpu(peers, cells.BODIES, OURS, "h2-floor", 1.15), cpu(peers, cells.BODIES, OURS, "h2-bare", 1.1)]


def own_share_rows(peers):
    return [cpu(peers, cell, ours, "grpc-generic-scan", 1.05)
            for ours in ("host-grpc+minimal_c", "host-grpc+basic") for cell in cells.QUICK]


def chain_row(chains):
    """What eight instances that each set a header take."""
    in_cell = chains.get(cells.GRACEFUL.name, {})
    key = "cpu_us_per_stream"
    gaps = [mine[key] - none[key]
            for mine, none in zip(in_cell.get("host-nghttp2, chain of 8", []),
                                  in_cell.get("host-nghttp2, no plugin", []))
            if mine and none]
    head = ["host-nghttp2, chain of 8: CPU µs more than with no plugin", LOADS[cells.GRACEFUL], "below 3"]
    if not gaps:
        return row(*head)
    gap = round(statistics.median(gaps), 2)
    return row(*head, f"{gap:.2f}", gap < 3)


def table(results):
    """`results` as a run collects them; a part that was not run leaves rows that say so."""
    peers = results.get("peers", {})
    rows = [*speed_rows(peers), *floor_rows(peers), *latency_rows(peers),
            *one_stream_rows(results.get("latency", {})), envoy_row(results.get("envoy", {})),
            *memory_rows(results.get("idle", {})), chain_row(results.get("chains", {})),
            *own_share_rows(peers)]
    return report.markdown(["what", "load", "aim", "measured", "holds"], rows)
