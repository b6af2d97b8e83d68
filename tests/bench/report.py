# SPDX-License-Identifier: Apache-2.0
"""What the benchmark's measurements come to: medians, ratios, tables."""

import statistics

COLUMNS = [
    ("CPU µs/stream", "cpu_us_per_stream", "{:.2f}"),
    ("streams/s", "streams_per_second", "{:.0f}"),
    ("p50 µs", "p50_us", "{:.0f}"),
    ("p99 µs", "p99_us", "{:.0f}"),
    ("switches/stream", "context_switches_per_stream", "{:.2f}"),
    ("MiB", "resident_mib", "{:.0f}"),
]


# With a rate: what share of it a server must answer to count as keeping up.
KEEPS_UP = 0.97


def median(samples, key):
    return statistics.median(sample[key] for sample in samples)


def ratio(samples, base, key="cpu_us_per_stream"):
    """The median of the ratios within each round, which the machine's moods hardly touch."""
    pairs = [
        mine[key] / theirs[key]
        for mine, theirs in zip(samples, base)
        if mine and theirs and theirs[key] > 0
    ]
    return statistics.median(pairs) if pairs else None


def is_behind(samples):
    """Whether the server answers less than it is asked, so that its latency grows with the time, or it
    refuses what is too much for it."""
    return (median(samples, "streams_per_second") < KEEPS_UP * samples[0]["rate"]
            or median(samples, "errors") > 0)


def markdown(head, rows):
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [head, ["-" * w for w in widths], *rows]
    return "\n".join(
        "| " + " | ".join(text.ljust(w) for text, w in zip(line, widths)) + " |" for line in lines
    )


def cell_table(samples_by_server, base):
    """`samples_by_server`: {server: [sample or None for each round]}."""
    rows = []
    any_behind = False
    for server, samples in samples_by_server.items():
        good = [sample for sample in samples if sample]
        if not good:
            rows.append([server, *["failed"] * (len(COLUMNS) + 1)])
            continue
        times = ratio(samples, samples_by_server.get(base, []))
        cells = [form.format(median(good, key)) for _, key, form in COLUMNS]
        if is_behind(good):
            any_behind = True
            cells = ["behind" if key.endswith("_us") else cell
                     for cell, (_, key, _) in zip(cells, COLUMNS)]
        rows.append([server, cells[0], f"{times:.2f}" if times else "-", *cells[1:]])
    titles = [title for title, _, _ in COLUMNS]
    table = markdown(["server", titles[0], f"× {base}", *titles[1:]], rows)
    if any_behind:
        table += ("\n\nbehind: cannot answer so many streams, so that each waits longer than the one "
                  "before it or is refused; streams/s is the most that it answers.")
    return table


def cells_table(samples_by_cell, all_cells, key, form):
    """One row for each cell, one column for each server."""
    names = list(next(iter(samples_by_cell.values())))
    rows = []
    for cell in all_cells:
        row = list(cell.columns)
        for samples in samples_by_cell[cell.name].values():
            good = [sample for sample in samples if sample]
            row.append(form.format(median(good, key)) if good else "failed")
        rows.append(row)
    return markdown(["messages", "at once", "connections", "", "", *names], rows)


def scaling_table(samples_by_server):
    """`samples_by_server` as in cell_table; the first of each transport is what the others are to."""
    rows = []
    bases = {}
    for name, samples in samples_by_server.items():
        base = bases.setdefault(name.split(",")[0], samples)
        good = [sample for sample in samples if sample]
        if not good:
            rows.append([name, *["failed"] * 5])
            continue
        cores = [statistics.median(sample[key] * sample["streams_per_second"] / 1e6 for sample in good)
                 for key in ("cpu_us_per_stream", "generator_cpu_us_per_stream")]
        times = ratio(base, samples)  # the other way round: streams for time
        rows.append([name, f"{median(good, 'streams_per_second'):.0f}", *[f"{c:.2f}" for c in cores],
                     f"{1e6 / median(good, 'cpu_us_per_stream'):.0f}", f"{times:.2f}" if times else "-"])
    return markdown(["server", "streams/s", "cores it used", "cores the generator used",
                     "streams per CPU second", "× 1 thread"], rows)


def bars(samples_by_server):
    """[(server, median CPU)] of those that did not fail, for a plot."""
    return [
        (server, median(good, "cpu_us_per_stream"))
        for server, samples in samples_by_server.items()
        if (good := [sample for sample in samples if sample])
    ]


def envoy_table(samples_by_name):
    rows = []
    for name, samples in samples_by_name.items():
        good = [sample for sample in samples if sample]
        if not good:
            rows.append([name, "failed", "failed", "failed"])
            continue
        rows.append([name, f"{median(good, 'requests_per_second'):.0f}",
                     f"{median(good, 'envoy_us'):.1f}", f"{median(good, 'server_us'):.1f}"])
    return markdown(["server", "requests/s", "Envoy's CPU µs/request", "the server's"], rows)


def section(title, named_tables):
    parts = [f"### {title}"]
    for name, table in named_tables:
        parts += [name + ":", table]
    return "\n\n".join(parts) + "\n"
