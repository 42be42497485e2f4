#!/usr/bin/env bash
# Builds one variant into build/<variant>: release, debug, asan, tsan, fuzz. Further words are targets.
set -euo pipefail
cd "$(dirname "$0")/.."
variant=${1:-release}
shift || true
mkdir -p build
dir=build/$variant

case $variant in
  release) options=(--buildtype=release -Dtests=false -Db_ndebug=true -Dstrip=false) ;;
  debug)   options=(--buildtype=debugoptimized -Dfaults=true) ;;
  asan)    options=(--buildtype=debugoptimized -Dfaults=true -Db_sanitize=address,undefined -Db_lundef=false) ;;
  tsan)    options=(--buildtype=debugoptimized -Dfaults=true -Db_sanitize=thread -Db_lundef=false) ;;
  fuzz)    options=(--buildtype=debugoptimized -Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false); export CC=clang ;;
  *) echo "build.sh: no variant $variant" >&2; exit 2 ;;
esac

if [ ! -f "$dir/build.ninja" ]; then
  meson setup "$dir" "${options[@]}" >"$dir.setup.log" 2>&1 || { cat "$dir.setup.log" >&2; exit 1; }
fi
ninja -C "$dir" "$@"
if [ "$variant" = release ] && [ -f "$dir/src/main/elanus" ]; then
  ln -sfn src/main/elanus "$dir/elanus"
fi
