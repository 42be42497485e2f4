#!/usr/bin/env bash
# The public Go SDK against a server of its own. Debian 12 has an older Go, so that this suite is
# for those who bring a newer one.
#   ELANUS_BIN, ELANUS_ARGS   the binary and its further options, as in tests/lib/server.py
set -euo pipefail
cd "$(dirname "$0")"

have=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null | sed 's/^go//') || true
if [ -z "$have" ] || [ "$(printf '%s\n1.24\n' "$have" | sort -V | head -1)" != 1.24 ]; then
  echo "skipped: go 1.24+ needed"
  exit 0
fi

if [ -z "${ELANUS_ADDRESS:-}" ]; then
  exec ../with_server.py "./$(basename "$0")"
fi

out=$(mktemp)
trap 'rm -f "$out"' EXIT
status=0
go test -count=1 -v ./... >"$out" 2>&1 || status=$?
if [ "$status" != 0 ]; then
  cat "$out"
fi
passed=$(grep -c '^--- PASS' "$out" || true)
failed=$(grep -c '^--- FAIL' "$out" || true)
skipped=$(grep -c '^--- SKIP' "$out" || true)
if [ "$failed" = 0 ] && { [ "$status" != 0 ] || [ "$passed" = 0 ]; }; then
  failed=1
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
