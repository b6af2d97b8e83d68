#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs the golden plugins for aarch64 under qemu-user, on the fake host of plugin_api. Exits 77
# where the tools for it are not installed (g++-aarch64-linux-gnu, qemu-user).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
for tool in aarch64-linux-gnu-g++ qemu-aarch64; do
  command -v "$tool" > /dev/null || { echo "skipped: no $tool"; exit 77; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
aarch64-linux-gnu-g++ -std=c++17 -O1 -Wall -Wextra -I "$here/../../plugin_api" \
    "$here/golden_driver.cc" -o "$work/driver" -pthread -ldl
qemu-aarch64 -L /usr/aarch64-linux-gnu "$work/driver" "$here/golden/golden_v1_aarch64.so" \
    "$here/golden/golden_v1_class_aarch64.so"
