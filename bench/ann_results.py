"""Reads what ann.py wrote: the head's entries and the rows, numbers as numbers."""

NUMBERS = {"build_s", "build_cpu_s", "index_bytes", "resident_bytes", "recall", "qps", "qps_cpu",
           "mean_us", "p50_us", "p99_us"}
WHOLE = {"k", "nq", "passes"}


def read(path):
    head, rows, columns = {}, [], None
    for line in path.read_text().splitlines():
        if line.startswith("# ") and columns is None:
            key, _, value = line[2:].partition(": ")
            head[key] = value
        elif columns is None:
            columns = line.split("\t")
        elif not line.startswith("#"):
            row = dict(zip(columns, line.split("\t")))
            for key, value in row.items():
                if key in NUMBERS:
                    row[key] = float(value) if value else None
                elif key in WHOLE:
                    row[key] = int(value)
            rows.append(row)
    return head, rows
