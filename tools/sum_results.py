#!/usr/bin/env python3
"""Adds up the results of test suites. Usage: sum_results.py FOLDER [SUITE...]

FOLDER has, for each suite, SUITE.rc (the status it ended with), SUITE.log (what it said), and what
the runner wrote, if it writes any: SUITE.xml (JUnit). A suite without is counted by the last line
"N passed, N failed[, N skipped]" of its log, or by a line "skipped: why" as one skipped; a build
has none of these and counts only if it fails. A suite that ended with another status than 0, or
in which no test ran, counts as failed even if no test failed.

With suites named, one line for each; without, a table of all, the tests that failed, and the total
as the last line.
"""
import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

LINE = re.compile(r"^(?:\w+: )?(\d+) passed, (\d+) failed(?:, (\d+) skipped)?\s*$", re.M)
SKIPPED = re.compile(r"^skipped: ", re.M)
TELLING = re.compile(r"ERROR|WARNING: Thread|SUMMARY|Error|assert|fail", re.I)
SETUP = ("build-", "install-")


def junit(path):
    passed = failed = skipped = 0
    for case in ET.parse(path).getroot().iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
    return [passed, failed, skipped]


def count(folder, suite):
    """(passed, failed, skipped) of one suite."""
    total = [0, 0, 0]
    report, log = folder / f"{suite}.xml", folder / f"{suite}.log"
    said = log.read_text(errors="replace") if log.exists() else ""
    lines = LINE.findall(said)
    if report.exists():
        try:
            total = junit(report)
        except ET.ParseError:
            total = [0, 1, 0]
    elif lines:
        total = [int(n or 0) for n in lines[-1]]
    elif SKIPPED.search(said):
        total = [0, 0, 1]
    rc = (folder / f"{suite}.rc").read_text().strip()
    if total[1] == 0 and (rc != "0" or (sum(total) == 0 and not suite.startswith(SETUP))):
        total[1] = 1
    return total


def failures(folder, suite, limit=20):
    """What failed in a suite, one line each: the test's name and the last thing it said about it."""
    lines, report, log = [], folder / f"{suite}.xml", folder / f"{suite}.log"
    if report.exists():
        try:
            cases = list(ET.parse(report).getroot().iter("testcase"))
        except ET.ParseError:
            return ["its report cannot be read"]
        for case in cases:
            bad = next((case.find(k) for k in ("failure", "error") if case.find(k) is not None), None)
            if bad is not None:
                said = " ".join(filter(None, [bad.get("message"), bad.text, case.findtext("system-err")]))
                telling = [s.strip() for s in said.splitlines() if TELLING.search(s)]
                lines.append(f"{case.get('name')}: {(telling or [said.strip()[-200:]])[0][:200]}")
    elif log.exists():
        lines = [s.strip()[:200] for s in log.read_text(errors="replace").splitlines()
                 if re.match(r"\s*(FAIL|not ok|\[  FAILED)", s)]
    return lines[:limit]


def text(passed, failed, skipped):
    return f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else "")


def main():
    folder = Path(sys.argv[1])
    if sys.argv[2:]:
        for suite in sys.argv[2:]:
            print(text(*count(folder, suite)))
        return 0
    total, failed = [0, 0, 0], []
    for rc in sorted(folder.glob("*.rc"), key=lambda p: p.stat().st_mtime):
        n = count(folder, rc.stem)
        total = [a + b for a, b in zip(total, n)]
        print(f"  {rc.stem:<24} {text(*n)}")
        if n[1]:
            failed += [f"  FAILED {rc.stem}: {line}" for line in failures(folder, rc.stem) or ["?"]]
    print("\n".join(failed), end="\n" if failed else "")
    print(text(*total))
    return 1 if total[1] or not total[0] else 0


if __name__ == "__main__":
    sys.exit(main())
