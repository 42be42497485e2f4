#!/usr/bin/env bash
# Makes a static library that offers only its public names:
#
#   tools/static_library.sh OUT.a PATTERN INPUT...
#
# INPUTs are a library of which every object is wanted, then those it needs, of which the needed
# ones are taken. All become one object in which names that do not match PATTERN are local, so that
# they cannot meet those of the program it is linked into.
set -euo pipefail
out=$1 pattern=$2
shift 2
one=$out.o
trap 'rm -f "$one"' EXIT
ld -r -o "$one" --whole-archive "$1" --no-whole-archive --start-group "${@:2}" --end-group
objcopy --wildcard --keep-global-symbol="$pattern" "$one"
rm -f "$out"
ar rcs "$out" "$one"
