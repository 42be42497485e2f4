#!/usr/bin/env python3
"""Checks that docs/configuration.md is what the program says about its options.

Usage: check_config_page.py ROOT ELANUS. When it is not: make docs.
"""
import difflib
import subprocess
import sys
from pathlib import Path


def main(root, elanus):
    page = Path(root) / "docs" / "configuration.md"
    want = subprocess.run([elanus, "help", "configuration"], check=True, capture_output=True,
                          text=True).stdout
    have = page.read_text() if page.exists() else ""
    diff = list(difflib.unified_diff(have.splitlines(), want.splitlines(), str(page), "elanus",
                                     lineterm=""))
    if diff:
        sys.exit("\n".join(diff[:40] + ["docs/configuration.md is out of date: make docs"]))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
