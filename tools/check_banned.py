#!/usr/bin/env python3
"""Finds calls under src/ that this house does not make. Usage: check_banned.py [ROOT]

Text in comments and strings does not count, nor do members (ops->free(x)).
"""
import re
import sys
from pathlib import Path

UNBOUNDED = "write past the end: use snprintf, struct buf or memcpy with a known length"
UNCHECKED = "cannot report an error: use parse_i64 or parse_f64 (base/utf8.h)"
RAW = "memory comes from base/alloc.h"
BANNED = {
    "sprintf": UNBOUNDED, "vsprintf": UNBOUNDED, "strcpy": UNBOUNDED, "strcat": UNBOUNDED,
    "stpcpy": UNBOUNDED, "gets": UNBOUNDED,
    "atoi": UNCHECKED, "atol": UNCHECKED, "atoll": UNCHECKED, "atof": UNCHECKED,
    "alloca": "a size from outside would break the stack",
    "strtok": "keeps hidden state shared by threads",
    "malloc": RAW, "calloc": RAW, "realloc": RAW, "reallocarray": RAW, "free": RAW,
    "strdup": RAW, "strndup": RAW, "asprintf": RAW, "vasprintf": RAW,
    "aligned_alloc": RAW, "posix_memalign": RAW, "memalign": RAW, "valloc": RAW,
}
# path below the root -> the reasons that do not hold there
ALLOWED = {"src/base/alloc.c": {RAW}}
GENERATED = re.compile(r"\.pb-c\.[ch]$")

CALL = re.compile(r"(?<![\w.])(?<!->)(" + "|".join(BANNED) + r")\s*\(")
NOT_CODE = re.compile(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.S)


def blank(match):
    """Keeps the line numbers of what follows."""
    return re.sub(r"[^\n]", " ", match.group())


def check(path, where):
    allowed = ALLOWED.get(where.as_posix(), set())
    code = NOT_CODE.sub(blank, path.read_text(errors="replace"))
    for number, line in enumerate(code.splitlines(), 1):
        for name in CALL.findall(line):
            if BANNED[name] not in allowed:
                yield f"{where}:{number}: {name}: {BANNED[name]}"


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent)
    errors = []
    for path in sorted((root / "src").rglob("*")):
        if path.suffix in (".c", ".h", ".def", ".inc") and not GENERATED.search(path.name):
            errors += check(path, path.relative_to(root))
    for error in errors:
        print(error)
    print(f"{len(errors)} banned calls")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
