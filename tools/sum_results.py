#!/usr/bin/env python3
"""Adds up the results of test suites. Usage: sum_results.py FOLDER [SUITE...]

FOLDER has, for each suite, SUITE.rc (the status it ended with), SUITE.log (what it said), and what
the runner wrote, if it writes any: SUITE.xml (JUnit). A suite without is counted by the last line
"N passed, N failed[, N skipped]" of its log, or by a line "skipped: why" as one skipped; a build
has none of these and counts only if it fails. A suite that ended with another status than 0, or
in which no test ran, counts as failed even if no test failed.

With suites named, one line for each; without, a table of all and the total as the last line.
"""
import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

LINE = re.compile(r"^(?:\w+: )?(\d+) passed, (\d+) failed(?:, (\d+) skipped)?\s*$", re.M)
SKIPPED = re.compile(r"^skipped: ", re.M)
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


def text(passed, failed, skipped):
    return f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else "")


def main():
    folder = Path(sys.argv[1])
    if sys.argv[2:]:
        for suite in sys.argv[2:]:
            print(text(*count(folder, suite)))
        return 0
    total = [0, 0, 0]
    for rc in sorted(folder.glob("*.rc"), key=lambda p: p.stat().st_mtime):
        n = count(folder, rc.stem)
        total = [a + b for a, b in zip(total, n)]
        print(f"  {rc.stem:<24} {text(*n)}")
    print(text(*total))
    return 1 if total[1] or not total[0] else 0


if __name__ == "__main__":
    sys.exit(main())
