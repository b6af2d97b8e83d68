#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the plugin:  build.sh WORK_DIR OUTPUT.so [HOOKS.go]
#
# Go wants generated code beside the code that uses it, so both come together in WORK_DIR. HOOKS.go
# is the file that goes with the border, go_headers.go if none is named. GO and PROTOC name the
# programs; nothing is downloaded if `go mod download` has been run here.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
hooks=$(realpath "${3:-$here/go_headers.go}")
output=$(realpath "$2")
go=${GO:-go}
export GOWORK=off

mkdir -p "$1"
cd "$1"
rm -f ./*.go
cp "$here"/{go.mod,go.sum,border.go,border.c} "$hooks" .

# The messages of all files make one package.
cd "$root/proto"
protos=(envoy/{type,config/core,extensions/filters/http/ext_proc,service/ext_proc}/v3/*.proto)
cd "$OLDPWD"
mapped=("${protos[@]/#/--go_opt=M}")
"$go" build -o protoc-gen-go google.golang.org/protobuf/cmd/protoc-gen-go
"${PROTOC:-protoc}" --plugin=protoc-gen-go -I "$root/proto" --go_out=. --go_opt=module=go_headers \
  "${mapped[@]/%/=go_headers/messages}" "${protos[@]}"

# Nothing but the contract is visible, as in every plugin.
CGO_CFLAGS="-O2 -I$root/plugin_api" "$go" build -buildmode=c-shared \
  -trimpath -buildvcs=false -o plugin.so \
  -ldflags="-extldflags=-Wl,--version-script=$root/plugin_api/callout/callout.map" .
mv plugin.so "$output"
