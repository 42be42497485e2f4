#!/usr/bin/env python3
"""Turn a file into a C array: embed.py INPUT OUTPUT.c NAME

Defines `const unsigned char NAME[]` and `const size_t NAME_len`, both declared in the output, so
that the including side only needs two extern lines. Text hex keeps it independent of the assembler
and of the linker's flavour.
"""
import pathlib
import re
import sys

PER_LINE = 20


def main():
    if len(sys.argv) != 4 or not re.fullmatch(r"[a-z_][a-z0-9_]*", sys.argv[3]):
        sys.exit(__doc__)
    source, target, name = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
    data = source.read_bytes()
    lines = [f"/* Made from {source.name} by tools/embed.py; do not edit. */",
             "#include <stddef.h>",
             f"extern const unsigned char {name}[];",
             f"extern const size_t {name}_len;",
             f"const size_t {name}_len = {len(data)};",
             f"const unsigned char {name}[] = {{"]
    for at in range(0, len(data), PER_LINE):
        lines.append("    " + ",".join(str(b) for b in data[at:at + PER_LINE]) + ",")
    if not data:
        lines.append("    0 /* empty: C has no array of length 0 */")
    lines.append("};")
    target.write_text("\n".join(lines) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
