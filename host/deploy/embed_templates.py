#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes each FILE.yaml, without the license in its first line, as a C++ text: kFileTemplate.

    embed_templates.py OUTPUT FILE.yaml…
"""
import pathlib
import sys


def constant(path):
    name = ''.join(word.capitalize() for word in path.stem.split('_'))
    text = path.read_text().split('\n', 1)[1]
    return f'inline constexpr char k{name}Template[] = R"template({text})template";\n'


output, *files = map(pathlib.Path, sys.argv[1:])
output.write_text('// Made by embed_templates.py.\n#pragma once\n\nnamespace callout::host {\n'
                  + ''.join(map(constant, files)) + '}  // namespace callout::host\n')
