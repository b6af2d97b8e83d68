#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every plugin of this build exports callout_* and nothing else.
#   symbols_test.sh PLUGIN.so...
for plugin in "$@"; do
  names=$(nm -D --defined-only "$plugin" | awk '{print $3}')
  [ -n "$names" ] || { echo "$plugin exports nothing"; exit 1; }
  other=$(echo "$names" | grep -v '^callout_')
  [ -z "$other" ] || { echo "$plugin exports $other"; exit 1; }
done
