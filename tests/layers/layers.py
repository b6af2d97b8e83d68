#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds host/ and plugin_api/ to the code map in ARCHITECTURE.md, which this script reads as tables.

    layers.py [ROOT]    exit 1 and one line, FILE:LINE: RULE, for each break

- A file includes only its own folder and the folders above it in the table of folders, without
  those that the table's second column takes out.
- A source file of host/ belongs to a module in its folder's table, and each module has a file.
- A module has a test at tests/<its path>_test.cc, or says `// Tested by tests/….` in its header
  (in its .cc if it has no header), and that file exists.
- What the table "Only there" names stands in no other module.
"""
import pathlib
import re
import sys

COMPILER_ONLY = 'host/pch/'  # a precompiled header, which nothing includes
INCLUDE = re.compile(r'#include [<"](?:(host|plugin_api)/|(callout)/)([^">]*)[">]')


def read_map(root):
    """folders: [(folder, its exceptions)], modules: {path without suffix: line}, only: [(text, places)]"""
    folders, modules, only, heading = [], {}, [], ''
    for number, line in enumerate((root / 'ARCHITECTURE.md').read_text().splitlines(), 1):
        if line.startswith('#'):
            heading = line.lstrip('#').strip().strip('`')
        cells = [re.findall(r'`([^`]+)`', cell) for cell in line.split('|')[1:-1]]
        if not cells or not cells[0]:
            continue
        if heading == 'Folders':
            folders.append((cells[0][0], cells[1]))
        elif heading == 'Only there':
            only += [(text, tuple(cells[1])) for text in cells[0]]
        elif heading in [folder for folder, _ in folders]:
            modules.update((heading + name, number) for name in cells[0])
    return folders, modules, only


def folder_of(path, folders):
    return max((f for f, _ in folders if path.startswith(f)), key=len, default=None)


def check_includes(path, lines, folders):
    names = [folder for folder, _ in folders]
    own = folder_of(path, folders)
    if own is None:
        yield f'{path}:1: no folder of ARCHITECTURE.md\'s map holds this file'
        return
    excepted = dict(folders)[own]
    for number, line in enumerate(lines, 1):
        found = INCLUDE.match(line)
        if not found:
            continue
        included = f'plugin_api/callout/{found[3]}' if found[2] else f'{found[1]}/{found[3]}'
        other = folder_of(included, folders)
        if other is None or other == own:
            continue
        if names.index(other) > names.index(own):
            yield f'{path}:{number}: {own} may not include {other}, which stands below it in ARCHITECTURE.md'
        elif other in excepted:
            yield f'{path}:{number}: {own} may not include {other}, which ARCHITECTURE.md takes out'


def check_tested(root, module, files):
    mirror = f'tests/{module}_test.cc'
    head = next((f for f in files if f.endswith('.h')), files[0])
    said = re.search(r'^// Tested by (tests/\S+?)\.?$', (root / head).read_text(), re.M)
    if said and not (root / said[1]).exists():
        yield f'{head}:1: it says "Tested by {said[1]}", and there is no such file'
    if not said and not (root / mirror).exists():
        yield f'{head}:1: there is no {mirror}, and no line "// Tested by tests/….cc."'


def check_only(path, lines, only):
    module = path.rsplit('.', 1)[0]
    for number, line in enumerate(lines, 1):
        code = line if line.startswith('#include') else re.sub(r'"(\\.|[^"\\])*"|//.*', '""', line)
        for text, places in only:
            if re.search(r'(?<!\w)' + re.escape(text), code) and not any(
                    module == place or (place.endswith('/') and path.startswith(place)) for place in places):
                yield f'{path}:{number}: `{text}` stands only in {", ".join(places)} (ARCHITECTURE.md, Only there)'


def check(root):
    folders, modules, only = read_map(root)
    if not folders or not modules or not only:
        yield 'ARCHITECTURE.md:1: its tables "Folders", of modules, or "Only there" were not found'
        return
    found = {}
    for file in sorted([*root.glob('host/**/*'), *root.glob('plugin_api/**/*')]):
        path = file.relative_to(root).as_posix()
        if file.suffix not in ('.h', '.hpp', '.cc', '.c') or path.startswith(COMPILER_ONLY):
            continue
        lines = file.read_text().splitlines()
        yield from check_includes(path, lines, folders)
        if path.startswith('host/'):
            yield from check_only(path, lines, only)
            found.setdefault(path.rsplit('.', 1)[0], []).append(path)
    for module, files in found.items():
        if module not in modules:
            yield f'{files[0]}:1: the module {module} is not in ARCHITECTURE.md\'s map'
        yield from check_tested(root, module, files)
    for module, number in modules.items():
        if module.startswith('host/') and module not in found:
            yield f'ARCHITECTURE.md:{number}: the map has a module {module}, and there is no such file'


if __name__ == '__main__':
    here = pathlib.Path(__file__).resolve().parents[2]
    faults = list(check(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else here))
    print('\n'.join(faults))
    sys.exit(1 if faults else 0)
