# SPDX-License-Identifier: Apache-2.0
# Functions that the scripts in this directory share. To be sourced; it changes to the repository's top
# directory.
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Without these ccache leaves alone what is compiled with a precompiled header.
export CCACHE_SLOPPINESS=${CCACHE_SLOPPINESS-pch_defines,time_macros}

say() { printf '== %s\n' "$*"; }

die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# configure DIR [MESON OPTIONS...]: creates a build directory, unless it exists.
configure() {
  [[ -f $1/build.ninja ]] || meson setup "$@"
}

# The targets to run: the programs and the plugins, without tests.
runtime_targets() {
  ninja -C "$1" build.ninja >/dev/null # updates build.ninja, the source of the list, if meson.build is newer
  ninja -C "$1" -t targets all | sed -nE 's,^(host/callout-[a-z]+|plugins/[^/]+\.so): .*,\1,p'
}
