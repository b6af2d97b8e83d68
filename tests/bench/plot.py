# SPDX-License-Identifier: Apache-2.0
"""Bars as SVG, without a library: one panel for each cell, one bar for each server."""

import statistics
from xml.sax.saxutils import escape

WIDTH, LABELS, BAR, GAP, HEAD = 760, 170, 18, 6, 34
HOST, PEER = "#2a6fbb", "#9aa5b1"


def panel(title, bars, top):
    # What is many times the others is cut, so that the others can be told apart.
    values = [value for _, value in bars]
    longest = min(max(values), 2.5 * statistics.median(values))
    parts = [f'<text x="8" y="{top + 20}"><tspan font-weight="bold">{escape(title)}</tspan> '
             f'(CPU µs per stream)</text>']
    for i, (name, value) in enumerate(bars):
        y = top + HEAD + i * (BAR + GAP)
        width = min(value / longest, 1) * (WIDTH - LABELS - 80)
        color = HOST if name.startswith("host") else PEER
        parts += [
            f'<text x="{LABELS - 8}" y="{y + 13}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{LABELS}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{color}"/>',
            f'<text x="{LABELS + width + 6:.1f}" y="{y + 13}">{value:.1f}'
            f'{" »" if value > longest else ""}</text>',
        ]
    return "\n".join(parts), top + HEAD + len(bars) * (BAR + GAP) + 10


def svg(panels):
    """`panels` is a list of (title, [(server, value), ...])."""
    top, drawn = 0, []
    for title, bars in panels:
        text, top = panel(title, bars, top)
        drawn.append(text)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top}" '
        f'viewBox="0 0 {WIDTH} {top}" font-family="sans-serif" font-size="12">\n'
        f'<rect width="{WIDTH}" height="{top}" fill="white"/>\n' + "\n".join(drawn) + "\n</svg>\n"
    )
