#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the <callout/plugin.h> of a revision that does not exist yet: this one's, with one field
more in a call and in create's arguments, one service and one hook.

    later_header.py TODAY/callout/plugin.h OUT/callout/plugin.h
"""
import os
import re
import sys


def insert(text, before, addition):
    assert text.count(before) == 1, before
    return text.replace(before, addition + before)


def main():
    source, target = sys.argv[1:]
    with open(source, encoding="utf-8") as file:
        text = file.read()
    text, count = re.subn(
        r"(#define CALLOUT_ABI_REVISION )(\d+)u",
        lambda found: f"{found[1]}{int(found[2]) + 1}u",
        text,
    )
    assert count == 1
    text = insert(text, "} callout_call_t;", "  uint64_t later_field;\n")
    text = insert(text, "} callout_create_args_t;", "  uint64_t later_out;\n")
    text = insert(
        text,
        "};\n\n/* What an instance may wish for",
        "  callout_status_t (*later_service)(const callout_host_t *host);\n",
    )
    text = insert(
        text,
        "/* Optional. One for each phase. [stream] */",
        "CALLOUT_EXPORT callout_status_t callout_on_later(callout_call_t *call);\n",
    )
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(target, "w", encoding="utf-8") as file:
        file.write(text)


main()
