#!/usr/bin/env bash
# Builds what the tests need, runs every suite, and ends with one line "N passed, N failed".
#
#   tools/test.sh            everything
#   tools/test.sh quick      unit tests with address and undefined sanitizers, one wire run
#   tools/test.sh PART...    of these: unit tsan wire clients crash gate
#
# What each suite said is in build/results/SUITE.log. The status is 1 if anything failed.
set -euo pipefail
cd "$(dirname "$0")/.."

versions=(2.6.17 3.0.2)   # of pymilvus; pinned with all they need in tests/wire/requirements-*.txt
jobs=$(nproc)
out=$PWD/build/results
started=$SECONDS
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
export ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1
export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1:suppressions=$PWD/tests/tsan.supp
export PYTHONDONTWRITEBYTECODE=1
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE

say() { printf '[%3d:%02d] %s\n' $(((SECONDS - started) / 60)) $(((SECONDS - started) % 60)) "$*"; }

# suite NAME COMMAND...: runs it, keeps what it says, reports how it ended.
suite() {
  local name=$1 rc=0 began=$SECONDS result
  shift
  "$@" >"$out/$name.log" 2>&1 || rc=$?
  echo "$rc" >"$out/$name.rc"
  result=$(python3 tools/sum_results.py "$out" "$name")
  say "$name: $result ($((SECONDS - began)) s)"
  if [ "$rc" -ne 0 ]; then
    grep -avE '^ok |^\.+ +\[|=+ \[| (OK|SKIP) +[0-9.]+s' "$out/$name.log" | tail -n 60 | cut -c1-300 | sed 's/^/    /'
  fi
  return 0
}

# The same beside what runs already, two at a time.
beside() {
  while [ "$(jobs -rp | wc -l)" -ge 2 ]; do wait -n || true; done
  suite "$@" &
}

# A build is a suite without tests: it counts only when it fails.
build() {
  say "building $1"
  suite "build-$1" tools/build.sh "$@"
  [ "$(cat "$out/build-$1.rc")" = 0 ]
}

# meson_tests NAME VARIANT ARGUMENTS...
meson_tests() {
  local name=$1 dir=build/$2 rc=0
  shift 2
  rm -f "$dir/meson-logs/testlog.junit.xml"
  meson test -C "$dir" --no-rebuild --num-processes "$jobs" --timeout-multiplier 4 \
    --print-errorlogs "$@" || rc=$?
  cp "$dir/meson-logs/testlog.junit.xml" "$out/$name.xml" || rc=1
  return $rc
}

unit() {
  build asan || return 0
  suite unit meson_tests unit asan
}

# Only what several threads share is built again with the thread sanitizer: tests/tsan.list.
tsan() {
  local names targets
  names=$(cat tests/tsan.list)
  targets=$(sed 's|/|_|g; s|^|tests/unit/|' <<<"$names")
  # shellcheck disable=SC2086
  build tsan $targets || return 0
  # The sanitizer of gcc 12 cannot live with as many random bits of address as new kernels use.
  # shellcheck disable=SC2086
  setarch -R true 2>/dev/null && fixed=(setarch -R) || fixed=()
  suite tsan "${fixed[@]}" bash -c "$(declare -f meson_tests); out='$out' jobs='$jobs'; meson_tests tsan tsan $(tr '\n' ' ' <<<"$names")"
}

# A virtual environment of the pinned client; made again when the pins change.
venv() {
  local dir=build/venv-$1 pins=tests/wire/requirements-$1.txt python=/usr/bin/python3
  [ -x "$python" ] || python=python3
  if ! cmp -s "$pins" "$dir/pins.txt"; then
    # The status is looked at by the caller, so -e does not end this on a failure.
    rm -rf "$dir" && "$python" -m venv "$dir" &&
      "$dir/bin/pip" install -q --disable-pip-version-check -r "$pins" &&
      cp "$pins" "$dir/pins.txt"
  fi
}

venvs() {
  local v
  for v in "${versions[@]}"; do venv "$v" || return 1; done
}

# The network is slow and the compiler is not: these install while the rest builds.
python_ready() {
  wait "$installing" || true
  [ "$(cat "$out/install-pymilvus.rc")" = 0 ]
}

# wire NAME VERSION BINARY SERVER-ARGUMENTS
wire_run() {
  ELANUS_PYMILVUS=$2 ELANUS_BIN=$PWD/$3 ELANUS_ARGS=$4 "build/venv-$2/bin/python" -m pytest \
    tests/wire -q -p no:cacheprovider --timeout 120 -o junit_family=xunit1 \
    --junitxml "$out/$1.xml"
}

wire() {
  local v
  build release || return 0
  python_ready || return 0
  for v in "${versions[@]}"; do
    beside "wire-$v" wire_run "wire-$v" "$v" build/release/src/main/elanus ""
    beside "wire-$v-remote" wire_run "wire-$v-remote" "$v" build/release/src/main/elanus \
      "--services remote"
  done
  if [ -x build/asan/src/main/elanus ]; then
    v=${versions[-1]}
    beside "wire-$v-asan" wire_run "wire-$v-asan" "$v" build/asan/src/main/elanus ""
  fi
}

client_run() {
  ELANUS_BIN=$PWD/build/release/src/main/elanus "$1"
}

# Clients in other languages: each tests/clients/*/run.sh installs its own and starts a server.
clients() {
  local c
  build release || return 0
  for c in tests/clients/*/run.sh; do
    # The Go client needs a newer Go than Debian 12 has, and minutes to build: only by hand.
    [ "$c" = tests/clients/go/run.sh ] && continue
    beside "client-$(basename "$(dirname "$c")")" client_run "$c"
  done
}

crash_run() {
  ELANUS_BIN=$PWD/$1 "build/venv-${versions[-1]}/bin/python" "${@:2}"
}

crash() {
  local t
  build asan src/main/elanus || return 0
  python_ready || return 0
  for t in tests/crash/test_*.py; do
    t=${t%.py}
    beside "crash-${t##*/test_}" crash_run build/asan/src/main/elanus "$t.py"
  done
  beside torture crash_run build/asan/src/main/elanus tests/crash/torture.py --kills 40 --seed 1 \
    --server build/asan/src/main/elanus
}

# What a search costs, in instructions, against the committed figures.
gate() {
  build release bench/gate/index_gate || return 0
  suite gate python3 bench/gate/gate.py build/release
}

quick() {
  unit
  build release || return 0
  python_ready || return 0
  suite "wire-${versions[-1]}" wire_run "wire-${versions[-1]}" "${versions[-1]}" \
    build/release/src/main/elanus ""
}

main() {
  local parts=("$@") part
  [ ${#parts[@]} -gt 0 ] || parts=(unit tsan wire clients crash gate)
  rm -rf "$out"
  mkdir -p "$out"
  suite install-pymilvus venvs &
  installing=$!
  for part in "${parts[@]}"; do
    case $part in
      unit | tsan | wire | clients | crash | gate | quick) "$part" ;;
      *) echo "test.sh: no part $part" >&2; exit 2 ;;
    esac
  done
  wait
  say "all suites are done"
  python3 tools/sum_results.py "$out"
}

main "$@"
exit
