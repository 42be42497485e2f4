#!/usr/bin/env python3
"""Writes the table of RPCs in docs/compatibility.md from src/proxy/methods.def.

Usage: compat_table.py [--check] [ROOT]

Everything above the marker line is written by hand; what follows it is made here. An RPC is
"served", "not yet", or "partly" when the hand-written part has a row `| Name | limits |` for it.
--check changes nothing and fails when the file is not what would be written, or when the
hand-written part names an RPC that is not served.
"""
import re
import sys
from pathlib import Path

MARKER = "<!-- made by tools/compat_table.py from src/proxy/methods.def: do not edit below -->"
ROW = re.compile(r"^(PX_METHOD|PX_STATUS_METHOD|PX_UNSERVED)\(\s*([^)]*)\)", re.M)
PART = re.compile(r"^\| ([A-Z]\w+) \| (.+?) \|$", re.M)


def methods(text):
    """(section, service, name, served) in the order of the file"""
    body = text[text.index("*/") + 2:]
    section = ""
    for match in re.finditer(r"/\* (.+?) \*/|" + ROW.pattern, body, re.M):
        if match.group(1):
            section = match.group(1)
            continue
        args = [a.strip() for a in match.group(3).split(",")]
        if match.group(2) == "PX_UNSERVED":
            yield section, args[0], args[1], False
        else:
            yield section, "MilvusService", args[0], True


def table(rows, limits):
    lines = ["", "## RPCs", ""]
    served = sum(1 for r in rows if r[3])
    lines.append(f"{len(rows)} RPCs, {served} served; the others answer gRPC UNIMPLEMENTED, on "
                 "which clients fall back where they can.")
    section = None
    for part, service, name, is_served in rows:
        if (part, service) != section:
            section = (part, service)
            title = part if service == "MilvusService" else service
            lines += ["", f"### {title}", "", "| RPC | |", "|---|---|"]
        state = "not yet" if not is_served else "partly" if name in limits else "served"
        lines.append(f"| {name} | {state} |")
    return "\n".join(lines) + "\n"


def main():
    args = [a for a in sys.argv[1:] if a != "--check"]
    root = Path(args[0]) if args else Path(__file__).resolve().parent.parent
    doc = root / "docs" / "compatibility.md"
    text = doc.read_text()
    if MARKER not in text:
        sys.exit(f"{doc}: the marker line is gone: {MARKER}")
    head = text[:text.index(MARKER)]
    limits = {name: text for name, text in PART.findall(head) if name != "RPC"}
    rows = list(methods((root / "src" / "proxy" / "methods.def").read_text()))
    unknown = limits.keys() - {r[2] for r in rows if r[3]}
    if unknown:
        sys.exit(f"{doc}: limits of RPCs that are not served: {', '.join(sorted(unknown))}")
    wanted = head + MARKER + "\n" + table(rows, limits)
    if "--check" in sys.argv:
        if wanted != text:
            sys.exit(f"{doc} is out of date: run tools/compat_table.py")
        print(f"{len(rows)} RPCs, table up to date")
    elif wanted != text:
        doc.write_text(wanted)


if __name__ == "__main__":
    main()
