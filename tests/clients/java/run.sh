#!/usr/bin/env bash
# The public Java SDK, v2, against a server of its own.
#   ELANUS_BIN, ELANUS_ARGS   the binary and its further options, as in tests/lib/server.py
set -euo pipefail
cd "$(dirname "$0")"

for tool in java javac mvn; do
  command -v "$tool" >/dev/null || { echo "skipped: $tool is not installed"; exit 0; }
done

if [ -z "${ELANUS_ADDRESS:-}" ]; then
  exec ../with_server.py "./$(basename "$0")"
fi

out=$(mktemp)
trap 'rm -f "$out"' EXIT
rm -rf target/surefire-reports
status=0
mvn -B -q -Dstyle.color=never test >"$out" 2>&1 || status=$?
if [ "$status" != 0 ]; then
  cat "$out"
fi
# Every report opens with: <testsuite ... tests="5" errors="0" skipped="0" failures="0">
sum() { cat target/surefire-reports/TEST-*.xml 2>/dev/null | grep -o "<testsuite [^>]*" |
  sed -n "s/.* $1=\"\([0-9]*\)\".*/\1/p" | awk '{ n += $1 } END { print n + 0 }'; }
tests=$(sum tests) failed=$(($(sum errors) + $(sum failures))) skipped=$(sum skipped)
passed=$((tests - failed - skipped))
if [ "$failed" = 0 ] && { [ "$status" != 0 ] || [ "$tests" = 0 ]; }; then
  failed=1
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
