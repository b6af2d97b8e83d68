#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Brings docs/options.md up to date with callout-host --help.

    scripts/options_page.py [build/host/callout-host]

Adds a row for each new option, with the text of --help, after the option that precedes it there;
corrects defaults; removes rows of options that are gone. Texts of existing rows stay, since they may
say more than --help.
"""

import pathlib
import re
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parent.parent
PAGE = TOP / "docs" / "options.md"
ROW = re.compile(r"\| `--(\w+)(=[^`]*)?` \| (?:`[^`]*`)? ?\| (.*) \|")
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


def row_of(name, value, default, text):
    value = f"={value}".replace("|", "\\|") if value else ""
    default = f"`{default}` " if default else ""
    return f"| `--{name}{value}` | {default}| {text} |"


def main():
    host = sys.argv[1] if len(sys.argv) > 1 else TOP / "build" / "host" / "callout-host"
    shown = subprocess.run([host, "--help"], capture_output=True, text=True, check=True).stdout
    lines = PAGE.read_text().splitlines()
    texts = {found[1]: found[3] for line in lines if (found := ROW.fullmatch(line))}
    head = [line for line in lines if not ROW.fullmatch(line)]
    table_head = ["| option | default | |", "|---|---|---|"]
    for group in dict.fromkeys(option[0] for option in options_of(shown)):
        if f"## {group}" not in head:
            head += ["", f"## {group}", "", *table_head]
        rows = [row_of(name, value, default, texts.get(name, text.rstrip(".") + "."))
                for at, name, value, default, text in options_of(shown) if at == group]
        end = head.index(table_head[1], head.index(f"## {group}")) + 1
        head[end:end] = rows
    PAGE.write_text("\n".join(head) + "\n")


if __name__ == "__main__":
    main()
