#!/usr/bin/env bash
# A short flow of the Java SDK v2 against a server of its own; built under build/, counted by
# surefire's report. Ends with "N passed, N failed", or "skipped: why".
#   ELANUS_BIN, ELANUS_ARGS   the binary and its further options, as in tests/lib/server.py
set -euo pipefail
cd "$(dirname "$0")"
here=$PWD
root=$(cd ../../.. && pwd)

for tool in java mvn; do
  command -v "$tool" >/dev/null || { echo "skipped: $tool is not installed"; exit 0; }
done
work=$root/build/java_flow
mkdir -p "$work"
rm -rf "$work/src"
cp -r pom.xml src "$work/"
cd "$work"
if ! mvn -q -B -ntp test-compile >install.log 2>&1; then
  cat install.log
  if grep -qi 'could not resolve\|could not transfer' install.log; then
    echo "skipped: maven cannot fetch the client"
    exit 0
  fi
  exit 1
fi
rm -rf target/surefire-reports
rc=0
"$here/../with_server.py" mvn -q -B -ntp surefire:test || rc=$?
python3 - target/surefire-reports/TEST-*.xml <<'P'
import sys
import xml.etree.ElementTree as ET
suites = [ET.parse(p).getroot() for p in sys.argv[1:]]
n = {k: sum(int(s.get(k)) for s in suites) for k in ("tests", "failures", "errors", "skipped")}
bad = n["failures"] + n["errors"]
print(f"{n['tests'] - bad - n['skipped']} passed, {bad} failed, {n['skipped']} skipped")
P
exit $rc
