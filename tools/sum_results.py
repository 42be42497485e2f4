#!/usr/bin/env python3
"""Adds up the results of test suites. Usage: sum_results.py FOLDER [SUITE...]

FOLDER has, for each suite, SUITE.rc (the status it ended with), SUITE.log (what it said), and what
the runner wrote, if it writes any: SUITE.xml or SUITE.*.xml (JUnit), SUITE.tap. A suite without
either is counted by the last line "N passed, N failed[, N skipped]" of its log, or by a line
"skipped: why" as one skipped; a build has none of these and counts only if it fails. A suite that
ended with another status than 0 counts as failed even if each of its tests passed.

With suites named, one line for each; without, a table of all and the total as the last line.
"""
import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

LINE = re.compile(r"^(?:\w+: )?(\d+) passed, (\d+) failed(?:, (\d+) skipped)?\s*$", re.M)
TAP = re.compile(r"^# (pass|fail|cancelled|skipped) (\d+)$", re.M)
SKIPPED = re.compile(r"^skipped: ", re.M)


def junit(path):
    passed = failed = skipped = 0
    for case in ET.parse(path).getroot().iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped


def count(folder, suite):
    """(passed, failed, skipped) of one suite."""
    total = [0, 0, 0]
    found = False
    for path in [folder / f"{suite}.xml", *sorted(folder.glob(f"{suite}.*.xml"))]:
        if path.exists():
            found = True
            try:
                total = [a + b for a, b in zip(total, junit(path))]
            except ET.ParseError:
                total[1] += 1
    tap, log = folder / f"{suite}.tap", folder / f"{suite}.log"
    if tap.exists():
        n = {k: int(v) for k, v in TAP.findall(tap.read_text(errors="replace"))}
        if n:
            found = True
            total[0] += n.get("pass", 0)
            total[1] += n.get("fail", 0) + n.get("cancelled", 0)
            total[2] += n.get("skipped", 0)
    said = log.read_text(errors="replace") if log.exists() else ""
    if not found:
        lines = LINE.findall(said)
        if lines:
            total = [a + int(b or 0) for a, b in zip(total, lines[-1])]
        elif SKIPPED.search(said):
            total[2] += 1
    rc = (folder / f"{suite}.rc").read_text().strip()
    if rc != "0" and total[1] == 0:
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
