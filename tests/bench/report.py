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


def median(samples, key):
    return statistics.median(sample[key] for sample in samples)


def ratio(samples, base):
    """The median of the ratios within each round, which the machine's moods hardly touch."""
    pairs = [
        mine["cpu_us_per_stream"] / theirs["cpu_us_per_stream"]
        for mine, theirs in zip(samples, base)
        if mine and theirs and theirs["cpu_us_per_stream"] > 0
    ]
    return statistics.median(pairs) if pairs else None


def markdown(head, rows):
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [head, ["-" * w for w in widths], *rows]
    return "\n".join(
        "| " + " | ".join(text.ljust(w) for text, w in zip(line, widths)) + " |" for line in lines
    )


def cell_table(samples_by_server, base):
    """`samples_by_server`: {server: [sample or None for each round]}."""
    rows = []
    for server, samples in samples_by_server.items():
        good = [sample for sample in samples if sample]
        if not good:
            rows.append([server, *["failed"] * (len(COLUMNS) + 1)])
            continue
        times = ratio(samples, samples_by_server.get(base, []))
        cells = [form.format(median(good, key)) for _, key, form in COLUMNS]
        rows.append([server, cells[0], f"{times:.2f}" if times else "-", *cells[1:]])
    titles = [title for title, _, _ in COLUMNS]
    return markdown(["server", titles[0], f"× {base}", *titles[1:]], rows)


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
