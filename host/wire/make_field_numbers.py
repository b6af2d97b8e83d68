#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes host/wire/field_numbers.h: a step of the build.

    make_field_numbers.py PROTOC DESCRIPTOR_SET HEADER

Each message of the descriptors becomes a struct of its fields' numbers, so that the host's own
reader of the wire format needs no number written by hand:

    struct HeaderValue { static constexpr uint32_t kKey = 1; ... };

Names that two packages have are told apart by PREFIXES.
"""
import re
import subprocess
import sys

HEAD = """// Field numbers of the messages that the host reads and writes, from the .proto files.
// Written by host/wire/make_field_numbers.py when the host is built.
#ifndef CALLOUT_HOST_WIRE_FIELD_NUMBERS_H_
#define CALLOUT_HOST_WIRE_FIELD_NUMBERS_H_

#include <cstdint>

namespace callout::host::field {

"""
PREFIXES = {'envoy.service.network_ext_proc.v3': 'Network'}
FOOT = """}  // namespace callout::host::field

#endif  // CALLOUT_HOST_WIRE_FIELD_NUMBERS_H_
"""


def messages_of(text):
    """{message name: {field name: number}} of protobuf's text form of a FileDescriptorSet."""
    messages, stack = {}, []
    for line in text.splitlines():
        line = line.strip()
        if line.endswith('{'):
            stack.append({'kind': line[:-1].strip()})
        elif line == '}':
            done = stack.pop()
            if done['kind'] == 'field':
                stack[-1].setdefault('fields', {})[done['name']] = int(done['number'])
            elif done['kind'] in ('message_type', 'nested_type'):
                fields = done.get('fields', {})
                name = done['name']
                # One's own messages only: nested names and those of imports are nobody else's.
                if name.startswith('Processing'):
                    name = PREFIXES.get(stack[0].get('package'), '') + name
                if messages.setdefault(name, fields) != fields:
                    messages[name] = None  # two of one name: neither can be meant
        elif stack and re.match(r'(name|number|package): ', line):
            key, value = line.split(': ', 1)
            stack[-1].setdefault(key, value.strip('"'))
    return {name: fields for name, fields in messages.items() if fields}


def main():
    protoc, descriptors, header = sys.argv[1:]
    with open(descriptors, 'rb') as file:
        text = subprocess.run(
            [protoc, '--decode=google.protobuf.FileDescriptorSet', 'google/protobuf/descriptor.proto'],
            stdin=file, capture_output=True, check=True, text=True).stdout
    with open(header, 'w') as out:
        out.write(HEAD)
        for name, fields in sorted(messages_of(text).items()):
            out.write(f'struct {name} {{\n')
            for field, number in sorted(fields.items(), key=lambda item: item[1]):
                words = ''.join(word.capitalize() for word in field.split('_'))
                out.write(f'  static constexpr uint32_t k{words} = {number};\n')
            out.write('};\n\n')
        out.write(FOOT)


if __name__ == '__main__':
    main()
