#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds today's <callout/plugin.h> to the one that was frozen: structs that begin with
struct_size may have grown at their ends, in multiples of 8 bytes; nothing else may differ.

    growth_test.py CC PLUGIN_API

Both headers are compiled into a library with debug information, which abidw (of Debian's
abigail-tools) turns into XML. abidiff itself tells that something has changed, but not whether
it is growth. Without abidw the test is skipped; with CI=true that is a failure.
"""
import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = os.path.join(HERE, "golden", "headers", "callout", "plugin.h")
ROOTS = {"all_types", "all_hooks"}  # of growth.c: they may have more


class Types:
    """The structs of one header: name -> (bits, [(offset, name, type)])."""

    def __init__(self, library):
        text = subprocess.run(["abidw", library], check=True, capture_output=True, text=True).stdout
        root = xml.fromstring(text)
        self.pointer_bits = int(next(root.iter("abi-instr")).get("address-size"))
        self.by_id = {node.get("id"): node for node in root.iter() if node.get("id")}
        self.ends = {}  # of the last member
        self.structs = {
            node.get("name"): (int(node.get("size-in-bits")), self.members(node))
            for node in root.iter("class-decl")
            if node.get("is-declaration-only") != "yes"
        }

    def members(self, node):
        found = []
        for member in node.findall("data-member"):
            variable = member.find("var-decl")
            found.append((int(member.get("layout-offset-in-bits")), variable.get("name"),
                          self.spell(variable.get("type-id"))))
            self.ends[node.get("name")] = found[-1][0] + self.bits(variable.get("type-id"))
        return found

    def bits(self, type_id):
        node = self.by_id[type_id]
        if node.tag == "pointer-type-def":  # newer ones are written without their size
            return self.pointer_bits
        return int(node.get("size-in-bits") or self.bits(node.get("type-id")))

    def spell(self, type_id):
        """A type in words. Structs go by their names, for each is compared by itself."""
        node = self.by_id[type_id]
        if node.tag in ("class-decl", "type-decl"):
            return node.get("name")
        if node.tag == "typedef-decl":
            return f"{node.get('name')}={self.spell(node.get('type-id'))}"
        if node.tag == "qualified-type-def":
            return f"const {self.spell(node.get('type-id'))}"
        if node.tag == "pointer-type-def":
            return f"*{self.spell(node.get('type-id'))}"
        if node.tag == "function-type":
            parameters = [self.spell(p.get("type-id")) for p in node.findall("parameter")]
            return f"{self.spell(node.find('return').get('type-id'))}({', '.join(parameters)})"
        return f"{node.tag} {node.get('name')}"


def differences(then, now):
    """What in `now` an old plugin would trip over."""
    for name, (bits, members) in then.structs.items():
        if name not in now.structs:
            yield f"{name} is gone"
            continue
        bits_now, members_now = now.structs[name]
        for was, found in zip(members, members_now):
            if was != found:
                yield f"{name}: {was} has become {found}"
        if len(members_now) < len(members):
            yield f"{name} has lost {members[len(members_now):]}"
        added = members_now[len(members):]
        if name in ROOTS or (not added and bits_now == bits):
            continue
        if members[0][:2] != (0, "struct_size"):
            yield f"{name} is FROZEN and has grown from {bits} to {bits_now} bits"
        if now.ends[name] % 64 != 0 or any(offset < bits for offset, _, _ in added):
            yield f"{name} has grown other than at its end, in multiples of 8 bytes: {added}"


def compile_header(compiler, include, directory, name):
    library = os.path.join(directory, name + ".so")
    subprocess.run([compiler, "-g", "-w", "-shared", "-fPIC", "-I", include,
                    os.path.join(HERE, "growth.c"), "-o", library], check=True)
    return Types(library)


# What has to be found, as edits of the frozen header: what it says, and what instead.
MISTAKES = {
    "a field in the middle": ("  uint64_t body_offset;", "  uint64_t new; uint64_t body_offset;"),
    "a field of another type": ("  uint64_t body_offset;", "  int64_t body_offset;"),
    "a field of another name": ("  uint64_t body_offset;", "  uint64_t offset;"),
    "a field more in a FROZEN type": ("} callout_bytes_t;", "  size_t more; } callout_bytes_t;"),
    "a field less": ("  const void *self;", ""),
    "half a word more": ("} callout_call_t;", "  uint32_t more; } callout_call_t;"),
    "a service in the middle": ("  callout_status_t (*finish)(",
                                "  void (*new)(void); callout_status_t (*finish)("),
    "a parameter more": ("(*is_cancelled)(const callout_call_t *call)",
                         "(*is_cancelled)(const callout_call_t *call, int more)"),
    "a parameter of another type": ("callout_field_t field,", "uint64_t field,"),
    "a hook with another signature": ("void callout_on_stream_close(",
                                      "callout_status_t callout_on_stream_close("),
}
GROWTH = {
    "a field at the end": ("} callout_call_t;", "  uint64_t more; } callout_call_t;"),
    "two halves at the end": ("} callout_call_t;", "  uint32_t a; uint32_t b; } callout_call_t;"),
}


def edited(compiler, directory, edit):
    old, new = edit
    with open(GOLDEN, encoding="utf-8") as file:
        text = file.read()
    assert old in text, f"the frozen header has no '{old}'"
    os.makedirs(os.path.join(directory, "callout"), exist_ok=True)
    with open(os.path.join(directory, "callout", "plugin.h"), "w", encoding="utf-8") as file:
        file.write(text.replace(old, new, 1))
    return compile_header(compiler, directory, directory, "edited")


def main():
    compiler, plugin_api = sys.argv[1:]
    if shutil.which("abidw") is None:
        print("abidw of abigail-tools is not installed")
        sys.exit(1 if os.environ.get("CI") == "true" else 77)
    failures = 0
    with tempfile.TemporaryDirectory() as directory:
        golden = compile_header(compiler, os.path.dirname(os.path.dirname(GOLDEN)), directory, "then")
        for name, edit in MISTAKES.items():
            if not list(differences(golden, edited(compiler, directory, edit))):
                print(f"this check does not find {name}")
                failures += 1
        for name, edit in GROWTH.items():
            for found in differences(golden, edited(compiler, directory, edit)):
                print(f"this check refuses {name}: {found}")
                failures += 1
        for found in differences(golden, compile_header(compiler, plugin_api, directory, "now")):
            print(f"plugin.h breaks plugins of the frozen header: {found}")
            failures += 1
    sys.exit(1 if failures else 0)


main()
