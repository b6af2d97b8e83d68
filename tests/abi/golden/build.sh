#!/bin/sh
# Builds the golden plugins as they were built on the day revision 1 was frozen, into DIRECTORY,
# from the headers of that day. The committed files are never built again; this shows how they
# were, and a reader may compare.
#   build.sh DIRECTORY [PREFIX]     PREFIX: of the compilers, such as aarch64-linux-gnu-
set -eu
here=$(cd "$(dirname "$0")" && pwd)
suffix=${2:+_${2%%-*}}
common="-Os -shared -fPIC -fvisibility=hidden -Wl,--build-id=none -Wl,-s -I $here/headers"
"${2:-}gcc" -std=c11 $common -fno-builtin -nostdlib -o "$1/golden_v1$suffix.so" \
    "$here/golden_v1.c"
"${2:-}g++" -std=c++17 $common -fno-gnu-unique -Wl,-z,defs \
    -Wl,--version-script="$here/headers/callout/callout.map" -o "$1/golden_v1_class$suffix.so" \
    "$here/golden_v1_class.cc"
