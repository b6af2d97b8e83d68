# SPDX-License-Identifier: Apache-2.0
"""Puts a run's results into build-bench/results, and into docs/ if that is asked for."""

import json
import os

import aims
import machine
import plot
import report
import servers

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


def write(run):
    """Writes what there is so far; returns the text and the plot, None if there is none."""
    text = (f"{machine.sentence(run.results['machine'])} {run.options.rounds} rounds of "
            f"{run.options.seconds} s for each way to load each server.\n\n")
    if run.plots:
        text += "![CPU time of each server](performance.svg)\n\n"
    table = ("Loads are those of the tables below, on 8 connections: 100 streams at once with 1 message, 10 "
             "with 6 messages, unless they say otherwise", aims.table(run.results))
    text += "\n".join(report.section(*section) for section in [("Aims", [table]), *run.sections])
    if run.missing:
        text += "\nNot measured: " + "; ".join(run.missing) + ".\n"
    files = {
        "results.json": json.dumps(run.results, indent=1),
        "tables.md": text,
        **({"performance.svg": plot.svg(run.plots)} if run.plots else {}),
    }
    for name, content in files.items():
        with open(os.path.join(servers.RESULTS, name), "w") as file:
            file.write(content)
    return text, files.get("performance.svg")


def renew(text, drawing):
    path = os.path.join(servers.TOP, "docs", "performance.md")
    with open(path) as file:
        page = file.read()
    head, rest = page.split(BEGIN)
    with open(path, "w") as file:
        file.write(f"{head}{BEGIN}\n\n{text}\n{END}{rest.split(END)[1]}")
    if drawing:
        with open(os.path.join(servers.TOP, "docs", "performance.svg"), "w") as file:
            file.write(drawing)
    print("docs/performance.md is renewed")
