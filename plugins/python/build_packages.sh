#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Gathers what scripts import into the folder OUTPUT:  build_packages.sh OUTPUT
#
# The packages here, and Envoy's messages generated from proto/. PROTOC names the program.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)

rm -rf "$1"
mkdir -p "$1"
output=$(realpath "$1")
cd "$here/packages"
find . -name '*.py' -exec cp --parents {} "$output" \;
cd "$root/proto"
"${PROTOC:-protoc}" -I . --python_out="$output" \
  envoy/{type,config/core,extensions/filters/http/ext_proc,service/ext_proc}/v3/*.proto
