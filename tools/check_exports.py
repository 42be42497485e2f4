#!/usr/bin/env python3
"""The library's names are those of its header, no more and no fewer.

Usage: check_exports.py HEADER LIBRARY... - of a shared library its dynamic symbols count, of an
archive its global ones.
"""
import re
import subprocess
import sys
from pathlib import Path

DECLARED = re.compile(r"ELANUS_API\s[^;(]*?\b(elanus_\w+)\s*\(")


def exported(library):
    flags = ["-g"] if library.endswith(".a") else ["-D"]
    out = subprocess.run(["nm", "--defined-only", *flags, library], check=True,
                         capture_output=True, text=True).stdout
    found = re.findall(r"^[0-9a-f]+ ([A-Z]) (\S+)$", out, re.M)
    # Kind A is the version itself; sanitizers and the compiler add names of their own.
    return {name.split("@")[0] for kind, name in found
            if kind != "A" and not name.startswith(("__asan_", "__odr_asan", "__ubsan", "_"))}


def main():
    header, libraries = Path(sys.argv[1]), sys.argv[2:]
    declared = set(DECLARED.findall(header.read_text()))
    failed = not declared
    for library in libraries:
        names = exported(library)
        for name in sorted(declared - names):
            print(f"{library}: {name} is declared and not there")
        for name in sorted(names - declared):
            print(f"{library}: {name} leaves the library")
        failed |= names != declared
    print(f"{len(declared)} names, {len(libraries)} libraries")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
