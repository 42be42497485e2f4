#!/usr/bin/env bash
# Runs the suites and ends with one line: N passed, N failed.
#   tools/test.sh            everything
#   tools/test.sh unit       units, kernels, crash doubles, fuzz corpora, style; address and UB sanitizers
#   tools/test.sh tsan       the concurrent units under the thread sanitizer (tests/tsan.list)
#   tools/test.sh wire       pymilvus, both pinned versions, services in process and over sockets
#   tools/test.sh clients    Node and Java SDKs
#   tools/test.sh crash      kill -9 and fault points against a real server
# Several may be named. Logs are in build/results/.
set -uo pipefail
cd "$(dirname "$0")/.."
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE
out=$PWD/build/results
mkdir -p "$out"
suites=("$@")
[ ${#suites[@]} -eq 0 ] && suites=(unit tsan wire clients crash)
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
export ASAN_OPTIONS=detect_stack_use_after_return=0
export TSAN_OPTIONS="halt_on_error=1:suppressions=$PWD/tests/tsan.supp"
results=()
began=$SECONDS

say() { printf '%5ds  %s\n' $((SECONDS - began)) "$*"; }

# build VARIANT [TARGET...]: a build that fails is a failed suite.
build() {
  say "building $1"
  if ! tools/build.sh "$@" >"$out/build-$1.log" 2>&1; then
    tail -n 30 "$out/build-$1.log"
    echo "0 passed, 1 failed" >"$out/build-$1.txt"
    results+=("$out/build-$1.txt")
    return 1
  fi
}

# venv NAME: a Python environment for one pinned client version.
venv() {
  local dir=build/venv-$1
  if [ ! -x "$dir/bin/pytest" ] || ! cmp -s "tests/wire/requirements-$1.txt" "$dir/requirements.txt"; then
    say "installing pymilvus $1"
    rm -rf "$dir"
    python3 -m venv "$dir" && "$dir/bin/pip" install -q --disable-pip-version-check \
      -r "tests/wire/requirements-$1.txt" && cp "tests/wire/requirements-$1.txt" "$dir/requirements.txt"
  fi
}

# wire NAME VERSION BINARY ARGS...: the wire suite once.
wire() {
  local name=$1 version=$2 bin=$3
  shift 3
  say "wire: $name"
  ELANUS_BIN=$PWD/$bin ELANUS_ARGS="$*" "build/venv-$version/bin/pytest" -q -x --maxfail=20 tests/wire \
    --junitxml="$out/wire-$name.xml" >"$out/wire-$name.log" 2>&1 || tail -n 40 "$out/wire-$name.log"
  results+=("$out/wire-$name.xml")
}

suite_unit() {
  build asan || return
  say "units, kernels, indexes, crash doubles, fuzz corpora, style"
  meson test -C build/asan --no-rebuild --print-errorlogs --num-processes 2 >"$out/unit.log" 2>&1 ||
    grep -aE -A 40 'FAIL|TIMEOUT|ERROR' "$out/unit.log" | tail -n 80
  cp -f build/asan/meson-logs/testlog.junit.xml "$out/unit.xml"
  results+=("$out/unit.xml")
}

suite_tsan() {
  local targets=() t
  while read -r t; do targets+=("tests/unit/${t//\//_}"); done <tests/tsan.list
  build tsan "${targets[@]}" || return
  say "concurrent units under the thread sanitizer"
  # shellcheck disable=SC2046
  meson test -C build/tsan --no-rebuild --print-errorlogs --num-processes 2 -t 4 $(cat tests/tsan.list) \
    >"$out/tsan.log" 2>&1 || grep -aE -A 40 'FAIL|TIMEOUT|ERROR' "$out/tsan.log" | tail -n 80
  cp -f build/tsan/meson-logs/testlog.junit.xml "$out/tsan.xml"
  results+=("$out/tsan.xml")
}

suite_wire() {
  build release || return
  venv 2.6.17 && wire 2.6.17 2.6.17 build/release/elanus
  venv 3.0.2 && wire 3.0.2 3.0.2 build/release/elanus
  wire 3.0.2-remote 3.0.2 build/release/elanus --services remote
  if [ -x build/asan/src/main/elanus ]; then
    wire 2.6.17-sanitized 2.6.17 build/asan/src/main/elanus
  fi
}

suite_clients() {
  build release || return
  for c in node java; do
    [ -x "tests/clients/$c/run.sh" ] || continue
    say "client: $c"
    ELANUS_BIN=$PWD/build/release/elanus "tests/clients/$c/run.sh" >"$out/client-$c.log" 2>&1 ||
      tail -n 40 "$out/client-$c.log"
    results+=("$out/client-$c.log")
  done
}

suite_crash() {
  venv 3.0.2 || return
  build debug src/main/elanus || return
  for f in tests/crash/test_*.py; do
    local name
    name=$(basename "$f" .py)
    say "crash: $name"
    ELANUS_BIN=$PWD/build/debug/src/main/elanus build/venv-3.0.2/bin/pytest -q "$f" \
      --junitxml="$out/crash-$name.xml" >"$out/crash-$name.log" 2>&1 || tail -n 40 "$out/crash-$name.log"
    results+=("$out/crash-$name.xml")
  done
  say "crash: twenty kills at random moments"
  build/venv-3.0.2/bin/python tests/crash/torture.py --kills 20 --server build/debug/src/main/elanus \
    >"$out/torture.log" 2>&1 || tail -n 40 "$out/torture.log"
  results+=("$out/torture.log")
}

for s in "${suites[@]}"; do
  case $s in
    unit | tsan | wire | clients | crash) "suite_$s" ;;
    *) echo "test.sh: no suite $s" >&2; exit 2 ;;
  esac
done
say "done"
tools/sum_results.py "${results[@]}"
