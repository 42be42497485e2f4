#!/usr/bin/env python3
"""Draws curves of queries a second against recall from the files that ann.py writes.

    bench/plot.py bench/results/SET-DATE.tsv... [--out docs/img] [--k 10] [--mode single]

One PNG a file, k and mode: the best points of every family, ours in colour and bold.
"""
import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

from ann import curves, speed_of  # noqa: E402
from ann_results import read  # noqa: E402

LEAST_RECALL = 0.80


def draw(path, rows, head, k, mode, out):
    found = curves(rows, speed_of(head["clock"]))
    groups = {f: c for (f, kk, m), c in found.items() if kk == k and m == mode}
    groups = {f: [p for p in c if p[0] >= LEAST_RECALL] for f, c in groups.items()}
    groups = {f: c for f, c in sorted(groups.items()) if c}
    if not groups:
        return None
    figure, axes = pyplot.subplots(figsize=(9, 6))
    # Grey is for the others.
    ours = [c for i, c in enumerate(pyplot.get_cmap("tab10").colors) if i != 7] + ["black"]
    others = pyplot.get_cmap("Greys")
    marks, n_ours, n_others = "osv^D<>phX*P", 0, 0
    for family, curve in groups.items():
        if family.startswith("elanus"):
            style = {"color": ours[n_ours % len(ours)], "linewidth": 2.2, "zorder": 3}
            n_ours += 1
        else:
            style = {"color": others(0.4 + 0.5 * (n_others % 5) / 5), "linewidth": 1.1,
                     "linestyle": ("--", ":", "-.")[n_others % 3]}
            n_others += 1
        axes.plot([p[0] for p in curve], [p[1] for p in curve], label=family,
                  marker=marks[(n_ours + n_others) % len(marks)], markersize=4, **style)
    axes.set_yscale("log")
    axes.set_xlabel(f"recall@{k}")
    axes.set_ylabel("queries a second, one thread" if mode == "single" else
                    "queries a second, two threads" if mode == "two" else
                    "queries a second, one thread, all in one call")
    axes.set_title(f"{head['set']}: {head['rows']} x {head['dim']}, {head['metric']}, k {k}")
    axes.grid(True, which="both", alpha=0.25)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
    out.mkdir(parents=True, exist_ok=True)
    name = out / f"{head['set']}-k{k}-{mode}.png"
    figure.savefig(name, dpi=110)
    pyplot.close(figure)
    return name


def main():
    ap = argparse.ArgumentParser(description=__doc__,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("files", nargs="+", type=Path)
    ap.add_argument("--out", type=Path, default=Path("docs/img"))
    ap.add_argument("--k", default="10,100")
    ap.add_argument("--mode", default="single")
    args = ap.parse_args()
    for path in args.files:
        head, rows = read(path)
        for k in map(int, args.k.split(",")):
            for mode in args.mode.split(","):
                name = draw(path, rows, head, k, mode, args.out)
                if name:
                    print(name)


if __name__ == "__main__":
    main()
