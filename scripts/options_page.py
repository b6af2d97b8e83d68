#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Brings docs/options.md up to date with callout-host --help.

    scripts/options_page.py [build/host/callout-host]

Each option has a row with its value, default, range and text from --help, in the order of --help.
A row with a link keeps its text, since it says more than --help.
"""

import pathlib
import re
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parent.parent
PAGE = TOP / "docs" / "options.md"
ROW = re.compile(r"\| `--(\w+)(=[^`]*)?` \| (?:`[^`]*`)? ?\| (?:[^|]*\|)? ?(.*) \|")
RANGE = re.compile(r"(.*) \[(\d+) to (\d+)\]")
TABLE_HEAD = ["| option | default | range | |", "|---|---|---|---|"]
# A default is one word, or a percentage and what it is of, which two blanks or the line's end follow.
OPTION = re.compile(r"  --(\w+)(?: (\[NAME=\]PATH|NAME=\S+|[^\s=]+)(?:=(\d+ % .+?(?=  |$)|\S+))?)?"
                    r"(?: +(\S.*))?")


def options_of(text):
    """Yields (group, name, value, default, help) in the order of --help."""
    group, lines = "", iter(text.splitlines())
    for line in lines:
        if re.fullmatch(r"\w[\w ]*:", line):
            group = line[:-1]
        if found := OPTION.fullmatch(line):
            name, value, default, text = found.groups(default="")
            yield group, name, value, default, text or next(lines).strip()


def marked(text):
    """The text of --help as a sentence in Markdown."""
    text = re.sub(r"(--\w+(?:=\w+)?|\*\.so|NAME\.\w+|(?:NAME=)?@FILE\b)", r"`\1`", text)
    return text.replace("|", "\\|").rstrip(".") + "."


def row_of(name, value, default, text, kept):
    found = RANGE.fullmatch(text)
    text, limits = (found[1], f"{found[2]} to {found[3]} ") if found else (text, "")
    value = f"={value}".replace("|", "\\|") if value else ""
    default = f"`{default}` " if default else ""
    return f"| `--{name}{value}` | {default}| {limits}| {kept or marked(text)} |"


def main():
    host = sys.argv[1] if len(sys.argv) > 1 else TOP / "build" / "host" / "callout-host"
    shown = subprocess.run([host, "--help"], capture_output=True, text=True, check=True).stdout
    lines = PAGE.read_text().splitlines()
    kept = {found[1]: found[3] for line in lines
            if (found := ROW.fullmatch(line)) and "](" in found[3]}
    head = [line for line in lines if not ROW.fullmatch(line)]
    for group in dict.fromkeys(option[0] for option in options_of(shown)):
        if f"## {group}" not in head:
            head += ["", f"## {group}", "", *TABLE_HEAD]
        rows = [row_of(name, value, default, text, kept.get(name))
                for at, name, value, default, text in options_of(shown) if at == group]
        end = head.index(TABLE_HEAD[1], head.index(f"## {group}")) + 1
        head[end:end] = rows
    PAGE.write_text("\n".join(head) + "\n")


if __name__ == "__main__":
    main()
