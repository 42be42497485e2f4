#!/usr/bin/env python3
"""Fills the tables of docs/performance.md from bench/results, so that no figure is typed by hand.

    bench/report.py             rewrites what lies between the marks, draws the pictures
    bench/report.py --check     status 1 when the page is not what the results say

A mark is a line `<!-- results: WHAT -->`; everything up to the line `<!-- end -->` is generated.
WHAT is `summary`, `ann SET`, `practice SET` (of each the newest file in bench/results counts) or `server`.
"""
import re
import subprocess
import sys
from pathlib import Path

from ann import RECALLS, at_recall, curves, interpolated, speed_of
from ann_results import read

ROOT = Path(__file__).resolve().parent.parent
PAGE, RESULTS, PICTURES = ROOT / "docs/performance.md", ROOT / "bench/results", ROOT / "docs/img"
MARK = re.compile(r"(<!-- results: (.+?) -->\n)(.*?)(<!-- end -->)", re.S)
COLUMNS = ("began", "name", "set", "step", "flight", "qps", "p50_ms", "p99_ms", "recall")
CLOCKS = {"wall": "the clock", "cpu": "processor time"}
MODES = {"single": "one thread, one query a call", "two": "two threads, one query a call each",
         "batch": "one thread, all queries in one call"}


def newest(pattern):
    found = sorted(RESULTS.glob(pattern))
    return found[-1] if found else None


def is_ours(family):
    return family.startswith("elanus")


def number(text):
    return f"{int(text):,}" if text != "-" else "-"


def table(head, lines):
    out = ["| " + " | ".join(head) + " |", "|" + "---|" * 1 + "---:|" * (len(head) - 1)]
    return "\n".join(out + ["| " + " | ".join(line) + " |" for line in lines])


def speeds(rows, k, mode, speed):
    """A line per family, ours first, each sorted by speed at .95; the best of a column is bold."""
    if mode == "two" and speed == "qps_cpu":
        return ""  # processor time does not know how two share memory
    lines = [line for line in interpolated(rows, speed) if line[0] == k and line[1] == mode]
    if not lines:
        return ""
    best = [max((int(line[3 + i]) for line in lines if line[3 + i] != "-"), default=0)
            for i in range(len(RECALLS))]

    def order(line):
        at95 = line[3 + RECALLS.index(0.95)]
        return not is_ours(line[2]), -int(at95) if at95 != "-" else 0, line[2]
    body = []
    for line in sorted(lines, key=order):
        cells = [f"**{number(s)}**" if s != "-" and int(s) == best[i] else number(s)
                 for i, s in enumerate(line[3:])]
        body.append([line[2], *cells])
    return f"k {k}, {MODES[mode]}, queries a second:\n\n" + table(
        ["", *(f"recall {r:.2f}".replace("0.", ".") for r in RECALLS)], body) + "\n"


def builds(rows, clock):
    """By the clock only where the machine had nothing else to do."""
    seen = {}
    for r in rows:
        key = (r["family"], r["build"])
        seen[key] = (r, max(r["resident_bytes"] or 0, seen[key][1] if key in seen else 0))
    body = []
    for (family, build), (r, resident) in sorted(seen.items(), key=lambda x: (not is_ours(x[0][0]),
                                                                              x[0])):
        own = build.removeprefix(family.split()[-1]).strip() or "-"
        body.append([f"{family}: {own}"] + [f"{r['build_s']:,.1f}"] * (clock == "wall")
                    + [f"{r['build_cpu_s']:,.1f}", f"{r['index_bytes'] / 1e6:,.0f}",
                       f"{resident / 1e6:,.0f}"])
    head = ["", "processor s", "file MB", "memory MB"]
    if clock == "wall":
        head.insert(1, "seconds")
    return "Builds with two threads, files, memory (rows included) when opened and searched:\n\n" \
        + table(head, body) + "\n"


def ann(name):
    path = newest(f"{name}-????-??-??.tsv")
    if not path:
        return f"No results of {name} yet: `bench/ann.py` makes them.\n"
    head, rows = read(path)
    out = [f"{int(head['rows']):,} x {head['dim']}, {head['metric']}; {head['date']}; "
           f"{head['machine']}; kernels {head['kernels']}; load of the machine at the end "
           f"{head['load'].split()[0]}; speeds by {CLOCKS[head['clock']]}, "
           f"best of {head['passes']} passes. "
           f"File: `{path.relative_to(ROOT)}`.\n"]
    for picture in sorted(PICTURES.glob(f"{name}-k*-single.png")):
        out.append(f"![queries a second and recall](img/{picture.name})\n")
    for k in sorted({r["k"] for r in rows}):
        out += [speeds(rows, k, mode, speed_of(head["clock"])) for mode in MODES]
    out.append(builds(rows, head["clock"]))
    return "\n".join(x for x in out if x)


def practice(name):
    path = newest(f"practice-{name}-????-??-??.md")
    if not path:
        return f"No results of {name} yet: `bench/practice.py` makes them.\n"
    text = path.read_text()
    picture = PICTURES / f"practice-{name}.png"
    if path.with_suffix(".png").exists():
        text += f"\n![recall and latency](img/{picture.name})\n"
    return text


def server():
    """What bench/server.py wrote of each server, one after the other."""
    out = []
    for path in sorted(RESULTS.glob("server-*.tsv")):
        lines = [dict(zip(COLUMNS, line.split("\t")))
                 for line in path.read_text().splitlines()[1:]]
        body = [[r["step"], r["flight"], *(r[c] or "-" for c in ("qps", "p50_ms", "p99_ms", "recall"))]
                for r in lines if not r["step"].startswith("recall at")]
        out += [f"{lines[0]['name']}, {lines[0]['set']}, {lines[0]['began'][:10]}:\n",
                table(["", "in flight", "a second", "p50 ms", "p99 ms", "recall"], body) + "\n"]
    return "\n".join(out)


def ratio(ours, theirs):
    return f"{ours / theirs:.2f}" if ours and theirs else "-"


def summary():
    """For each set and recall: our best family, the best peer, the ratio. Losses show as < 1."""
    body = []
    for name in sorted({p.name[:-15] for p in RESULTS.glob("*-????-??-??.tsv")
                        if not p.name.startswith("practice-")}):
        head, rows = read(newest(f"{name}-????-??-??.tsv"))
        found = curves(rows, speed_of(head["clock"]))
        for k in sorted({key[1] for key in found}):
            for recall in (0.90, 0.95, 0.99):
                best = {True: (0, "-"), False: (0, "-")}
                for (family, kk, mode), curve in found.items():
                    speed = at_recall(curve, recall)
                    if kk == k and mode == "single" and speed:
                        side = is_ours(family)
                        best[side] = max(best[side], (speed, family))
                (us, our), (them, their) = best[True], best[False]
                body.append([f"{head['set']}, k {k}, recall {recall:.2f}",
                             f"{our.removeprefix('elanus ')}", f"{us:,.0f}", their, f"{them:,.0f}",
                             ratio(us, them)])
    return table(["one thread", "our best", "queries/s", "best peer", "queries/s", "ratio"], body) \
        + "\n"


def block(what):
    kind, _, name = what.partition(" ")
    if not name:
        return {"summary": summary, "server": server}[kind]()
    return {"ann": ann, "practice": practice}[kind](name)


def draw():
    for path in {newest(f"{p.name[:-15]}-????-??-??.tsv")
                 for p in RESULTS.glob("*-????-??-??.tsv") if not p.name.startswith("practice-")}:
        subprocess.run([sys.executable, str(ROOT / "bench/plot.py"), str(path), "--out",
                        str(PICTURES)], check=True)
    for path in sorted(RESULTS.glob("practice-*.png")):
        (PICTURES / f"{path.stem[:-11]}.png").write_bytes(path.read_bytes())


def main():
    check = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not check:
        sys.exit(__doc__)
    if not check:
        PICTURES.mkdir(parents=True, exist_ok=True)
        draw()
    page = PAGE.read_text()
    new = MARK.sub(lambda m: m[1] + "\n" + block(m[2]) + "\n" + m[4], page)
    if check:
        print("docs/performance.md " + ("is what bench/results says" if new == page else
                                        "differs from bench/results: run bench/report.py"))
        return new != page
    PAGE.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
