#!/usr/bin/env python3
"""Compiles every header under src/ alone, with each warning an error.

Usage: check_headers.py ROOT BUILD_DIR - include paths and definitions are taken from BUILD_DIR's
compile_commands.json, the compiler from CC (default cc). A header without `#pragma once` is a
template, included with macros set, and is left out.
"""
import concurrent.futures
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

WARNINGS = ["-Wall", "-Wextra", "-Wshadow", "-Wvla", "-Wstrict-prototypes", "-Wno-unused-function",
            "-Wno-missing-field-initializers", "-Werror"]


def flags_of(build):
    """Include paths and definitions of all commands, first seen first."""
    flags = {}
    for entry in json.loads((build / "compile_commands.json").read_text()):
        words = shlex.split(entry["command"])
        base = Path(entry["directory"])
        for word, following in zip(words, words[1:] + [""]):
            if word in ("-isystem", "-I"):
                flags["-I" + str(base / following)] = None
            elif word.startswith("-I"):
                flags["-I" + str(base / word[2:])] = None
            elif word.startswith("-D"):
                flags[word] = None
    return list(flags)


def compile_alone(header, flags):
    cc = shlex.split(os.environ.get("CC", "cc"))
    command = cc + ["-std=gnu17", "-D_GNU_SOURCE", "-fsyntax-only", "-x", "c"] + flags + WARNINGS
    source = f'#include "{header.as_posix()}"\nextern int header_is_not_empty;\n'
    done = subprocess.run(command + ["-"], input=source, capture_output=True, text=True)
    return done.returncode, done.stderr


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    root, build = Path(sys.argv[1]), Path(sys.argv[2])
    flags = ["-I" + str(root / "src")] + flags_of(build)
    headers = sorted(p.relative_to(root / "src") for p in (root / "src").rglob("*.h")
                     if "#pragma once" in p.read_text(errors="replace"))
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
        results = pool.map(lambda h: compile_alone(h, flags), headers)
        for header, (code, text) in zip(headers, results):
            if code != 0:
                failed += 1
                print(f"src/{header} does not compile alone:\n{text}")
    print(f"{len(headers)} headers, {failed} that do not compile alone")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
