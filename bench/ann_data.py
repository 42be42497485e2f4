"""Sets of vectors for ann.py: folders of npy files, or uniform random ones made on the spot.

A folder has base.npy, query.npy (rows of float32) and, for each metric, gt_l2.npy, gt_ip.npy or
gt_cosine.npy: the scores of the 100 best rows of each query, best first (squared distances,
similarities). Absent ground truth is computed.

Recall counts a found row as right when its true score is no worse than that of the k-th true
neighbour, so that ties do not matter, with a tolerance of 1e-5 of the score's scale for what
float32 sums in another order do.
"""
import json
from pathlib import Path

import numpy as np

DEPTH = 100
RANDOM = "random"


class Set:
    """Vectors and truth. With metric cosine, base and queries are divided by their length."""

    def __init__(self, where, metric=None, nq=1000):
        self.where = str(where)
        if self.where == RANDOM:
            self.name, self.metric = "random100k", metric or "l2"
            rng = np.random.default_rng(1)
            self.base = rng.random((100_000, 128), dtype=np.float32)
            self.queries = rng.random((nq, 128), dtype=np.float32)
            self.truth = None
        else:
            folder = Path(where)
            self.name, self.metric = folder.name, metric or self._metric(folder)
            self.base = np.ascontiguousarray(np.load(folder / "base.npy"), dtype=np.float32)
            self.queries = np.ascontiguousarray(np.load(folder / "query.npy")[:nq],
                                                dtype=np.float32)
            truth = folder / f"gt_{self.metric}.npy"
            self.truth = np.load(truth)[:nq] if truth.exists() else None
        if self.metric == "cosine":
            for array in (self.base, self.queries):
                array /= np.maximum(np.linalg.norm(array, axis=1, keepdims=True), 1e-30)
        self.n, self.dim = self.base.shape

    @staticmethod
    def _metric(folder):
        """The one that info.json means the set for."""
        info = folder / "info.json"
        name = json.loads(info.read_text()).get("default_metric", "") if info.exists() else ""
        if name in ("l2", "ip", "cosine"):
            return name
        return "l2" if "sift" in folder.name else "cosine"

    def ensure_truth(self):
        if self.truth is not None:
            return
        parts = []
        norms = np.einsum("ij,ij->i", self.base, self.base, dtype=np.float64)
        for q in self.queries:
            score = self.base @ q
            if self.metric == "l2":
                score = norms - 2 * score + q @ q
                near = np.argpartition(score, DEPTH)[:DEPTH]
            else:
                near = np.argpartition(-score, DEPTH)[:DEPTH]
            exact = self.scores(near[None], q[None])[0]
            parts.append(np.sort(exact) if self.metric == "l2" else -np.sort(-exact))
        self.truth = np.array(parts)

    def scores(self, ids, queries):
        """True scores of rows ids[j][i] for query j, in double precision."""
        rows = self.base[np.maximum(ids, 0)].astype(np.float64)
        q = queries.astype(np.float64)[:, None, :]
        if self.metric == "l2":
            return ((rows - q) ** 2).sum(axis=2)
        return (rows * q).sum(axis=2)

    def recall(self, ids, k):
        """Mean over the first len(ids) queries. A row given twice counts once; -1 never."""
        ids = np.asarray(ids)
        nq, right = len(ids), 0
        for start in range(0, nq, 256):
            part = ids[start:start + 256]
            s = self.scores(part, self.queries[start:start + len(part)])
            kth = self.truth[start:start + len(part), k - 1:k].astype(np.float64)
            slack = 1e-5 * np.maximum(np.abs(kth), 1e-6)
            good = (s <= kth + slack if self.metric == "l2" else s >= kth - slack) & (part >= 0)
            for row, ok in zip(part, good):
                right += min(k, len(set(row[ok].tolist())))
        return right / (nq * k)
