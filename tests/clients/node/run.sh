#!/usr/bin/env bash
# The public Node SDKs against a server of their own. The 3.0 SDK needs a Node that can require()
# ES modules; without one, only the 2.6 SDK is tested.
#   ELANUS_BIN, ELANUS_ARGS   the binary and its further options, as in tests/lib/server.py
set -euo pipefail
cd "$(dirname "$0")"

for tool in node npm; do
  command -v "$tool" >/dev/null || { echo "skipped: $tool is not installed"; exit 0; }
done
if ! node -e 'process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)'; then
  echo "skipped: node 18 or newer is needed, this is $(node --version)"
  exit 0
fi

stamp=node_modules/.installed-from
if ! cmp -s package-lock.json "$stamp"; then
  npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null
  cp package-lock.json "$stamp"
fi

if [ -z "${ELANUS_ADDRESS:-}" ]; then
  exec ../with_server.py "./$(basename "$0")"
fi

out=$(mktemp)
trap 'rm -f "$out"' EXIT
passed=0 failed=0 skipped=0 broken=0
for sdk in milvus-2.6 milvus-3.0; do
  if ! node -e "require('$sdk')" 2>/dev/null; then
    if [ "$sdk" = milvus-2.6 ]; then
      node -e "require('$sdk')"
    fi
    echo "$sdk: skipped: it does not load in node $(node --version)"
    skipped=$((skipped + 1))
    continue
  fi
  NODE_SDK=$sdk node --test --test-reporter=tap *.test.js >"$out" 2>&1 || broken=1
  count() { sed -n "s/^# $1 \([0-9]*\)$/\1/p" "$out" | tail -1; }
  p=$(count pass) f=$(count fail) s=$(count skipped)
  if [ "${f:-1}" != 0 ]; then
    cat "$out"
  fi
  echo "$sdk: ${p:-0} passed, ${f:-1} failed, ${s:-0} skipped"
  passed=$((passed + ${p:-0})) failed=$((failed + ${f:-1})) skipped=$((skipped + ${s:-0}))
done
[ "$broken" = 0 ] || [ "$failed" != 0 ] || failed=1
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
