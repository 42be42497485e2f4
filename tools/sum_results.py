#!/usr/bin/env python3
"""Adds up test results and prints the one closing line: "N passed, N failed[, N skipped]".

    tools/sum_results.py RESULT...

A RESULT is a junit XML file (meson, pytest) or a text file whose last line of that shape counts.
A file that is missing or holds no result counts as one failure: a suite that did not run is not a pass.
"""
import re, sys
import xml.etree.ElementTree as xml

LINE = re.compile(r"^(?:\w+: )?(\d+) passed, (\d+) failed(?:, (\d+) skipped)?\s*$")


def junit(path):
    passed = failed = skipped = 0
    for case in xml.parse(path).getroot().iter("testcase"):
        kinds = {child.tag for child in case}
        if kinds & {"failure", "error"}:
            failed += 1
            print(f"failed: {case.get('classname') or ''} {case.get('name')}", file=sys.stderr)
        elif "skipped" in kinds:
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped


def text(path):
    found = [m for m in map(LINE.match, open(path, errors="replace")) if m]
    if not found:
        raise ValueError("no closing line")
    return tuple(int(g or 0) for g in found[-1].groups())


total = [0, 0, 0]
for path in sys.argv[1:]:
    try:
        got = junit(path) if path.endswith(".xml") else text(path)
        if sum(got) == 0:
            raise ValueError("no test ran")
    except Exception as e:
        print(f"failed: {path}: {e}", file=sys.stderr)
        got = (0, 1, 0)
    total = [a + b for a, b in zip(total, got)]
print(f"{total[0]} passed, {total[1]} failed" + (f", {total[2]} skipped" if total[2] else ""))
sys.exit(1 if total[1] or not total[0] else 0)
