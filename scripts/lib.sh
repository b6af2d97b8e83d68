# What the scripts in this folder share. Sourced, never run: it leaves the caller in the
# repository's top folder.
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Without these ccache leaves alone what is compiled with a precompiled header.
export CCACHE_SLOPPINESS=${CCACHE_SLOPPINESS-pch_defines,time_macros}

say() { printf '== %s\n' "$*"; }

die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# configure DIR [MESON OPTIONS...]: makes a build directory, unless it is one already.
configure() {
  [[ -f $1/build.ninja ]] || meson setup "$@"
}

# The targets that run without the tests: the programs and the plugins.
runtime_targets() {
  ninja -C "$1" build.ninja >/dev/null # the list is read from it, and it may be older than meson.build
  ninja -C "$1" -t targets all | sed -nE 's,^(host/callout-[a-z]+|plugins/[^/]+\.so): .*,\1,p'
}
