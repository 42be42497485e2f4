#!/usr/bin/env python3
"""Whether a search costs more than it did: instructions a query, counted by valgrind, against
figures.tsv beside this file.

    bench/gate/gate.py build/release            compares; status 1 when something became dearer
    bench/gate/gate.py build/release --update   writes figures.tsv anew

index_gate (index_gate.c) builds its indexes and runs its cases; of a case only what happens inside
elanus_searcher_run() is counted. A case fails when its instructions exceed the figure by 2 %, its
distances, exact scores or hops by 0.5 %, or its recall falls by 0.002. Counting is exact and does
not depend on what else the machine does, but it does on the compiler: with another than that of
the figures the gate says "skipped".
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
FIGURES = HERE / "figures.tsv"
COLUMNS = ["case", "queries", "instructions", "distances", "exact", "hops", "recall"]
DEARER = {"instructions": 1.02, "distances": 1.005, "exact": 1.005, "hops": 1.005}
LESS_RECALL = 0.002


def compiler(build):
    """What the compiled code says of itself."""
    lib = build / "src/index/lib/libelanus_index.so"
    out = subprocess.run(["readelf", "-p", ".comment", str(lib)], check=True, capture_output=True,
                         text=True).stdout
    return " / ".join(sorted(set(re.findall(r"\]\s+(.+)", out))))


def instructions(driver, folder, case, queries):
    count = subprocess.run(
        ["valgrind", "--tool=callgrind", "--toggle-collect=elanus_searcher_run",
         "--callgrind-out-file=/dev/null", str(driver), "search", folder, case],
        capture_output=True, text=True)
    found = re.search(r"Collected : (\d+)", count.stderr)
    if count.returncode != 0 or not found or int(found[1]) == 0:
        sys.exit(f"{case}: valgrind counted nothing:\n{count.stderr}")
    return int(found[1]) / queries


def measure(driver):
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([str(driver), "build", folder], check=True)
        lines = subprocess.run([str(driver), "check", folder], check=True, capture_output=True,
                               text=True).stdout.splitlines()
        rows = {}
        for line in lines:
            name, nq, *counters = line.split("\t")
            rows[name] = dict(zip(COLUMNS[3:], map(float, counters)), queries=int(nq))
        with ThreadPoolExecutor(2) as pool:
            counts = pool.map(lambda n: instructions(driver, folder, n, rows[n]["queries"]), rows)
            for name, n in zip(rows, counts):
                rows[name]["instructions"] = n
    return rows


def read_figures():
    head, rows = "", {}
    for line in FIGURES.read_text().splitlines():
        if line.startswith("# compiler: "):
            head = line.removeprefix("# compiler: ")
        elif not line.startswith("#") and not line.startswith(COLUMNS[0]):
            name, *values = line.split("\t")
            rows[name] = dict(zip(COLUMNS[1:], map(float, values)))
    return head, rows


def write_figures(head, rows):
    with open(FIGURES, "w") as f:
        f.write("# of a query: instructions at AVX2, counters, recall; by gate.py --update\n")
        f.write(f"# compiler: {head}\n" + "\t".join(COLUMNS) + "\n")
        for name, r in rows.items():
            f.write(f"{name}\t{r['queries']}\t{r['instructions']:.1f}\t{r['distances']:.2f}\t"
                    f"{r['exact']:.2f}\t{r['hops']:.2f}\t{r['recall']:.4f}\n")


def compare(want, got):
    """Complaints about one case."""
    for key, factor in DEARER.items():
        if got[key] > want[key] * factor + 0.01:
            yield (f"{key} of a query: {got[key]:.1f}, was {want[key]:.1f} "
                   f"(+{100 * (got[key] / want[key] - 1 if want[key] else 1):.1f} %)")
    if got["recall"] < want["recall"] - LESS_RECALL:
        yield f"recall {got['recall']:.4f}, was {want['recall']:.4f}"


def main():
    args = [a for a in sys.argv[1:] if a != "--update"]
    if len(args) != 1:
        sys.exit(__doc__)
    build = Path(args[0])
    driver = build / "bench/gate/index_gate"
    if os.uname().machine != "x86_64" or not shutil.which("valgrind"):
        print("skipped: there is no valgrind with AVX2 here")
        return 0
    rows, made_by = measure(driver), compiler(build)
    if len(args) != len(sys.argv[1:]):
        write_figures(made_by, rows)
        return 0
    figures_by, figures = read_figures()
    failed = 0
    for name, got in rows.items():
        bad = list(compare(figures[name], got)) if name in figures else ["has no figure"]
        failed += bool(bad)
        print(f"{'FAILED' if bad else 'ok':<7}{name:<12}{got['instructions']:>12.0f} instructions, "
              f"recall {got['recall']:.4f}" + "".join(f"\n       {b}" for b in bad))
    if made_by != figures_by:
        print(f"skipped: compiled by {made_by}, figures are of {figures_by}")
        return 0
    print(f"{len(rows) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
