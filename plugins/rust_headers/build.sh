#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the plugin:  build.sh WORK_DIR OUTPUT.so [EXAMPLE]
#
# EXAMPLE names another plugin of Cargo.toml. CARGO and PROTOC name the programs; nothing is
# downloaded if `cargo fetch --locked` has been run here.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
what=(--lib)
built=$1/release/librust_headers.so
if [[ -n ${3-} ]]; then
  what=(--example "$3")
  built=$1/release/examples/lib$3.so
fi

"${CARGO:-cargo}" build --quiet --release --locked --manifest-path "$here/Cargo.toml" \
  --target-dir "$1" "${what[@]}"
cp --remove-destination "$built" "$2"
