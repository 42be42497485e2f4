"""Sets of vectors for ann.py: folders of npy files, or uniform random ones made on the spot.

A folder has base.npy, query.npy (rows of float32) and, for each metric, gt_l2.npy, gt_ip.npy or
gt_cosine.npy: the scores of the 100 best rows of each query, best first (squared distances,
similarities); beside it gt_l2.ivecs and so on with their numbers. Absent ground truth is computed.

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
            self.truth = self.nearest = None
        else:
            folder = Path(where)
            self.name, self.metric = folder.name, metric or self._metric(folder)
            self.base = np.ascontiguousarray(np.load(folder / "base.npy"), dtype=np.float32)
            self.queries = np.ascontiguousarray(np.load(folder / "query.npy")[:nq],
                                                dtype=np.float32)
            truth = folder / f"gt_{self.metric}.npy"
            self.truth = self.nearest = None
            if truth.exists() and truth.with_suffix(".ivecs").exists():
                self.truth = np.load(truth)[:nq]
                self.nearest = np.fromfile(truth.with_suffix(".ivecs"), np.int32).reshape(
                    -1, DEPTH + 1)[:nq, 1:]
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
        scores, rows = [], []
        norms = np.einsum("ij,ij->i", self.base, self.base, dtype=np.float64)
        for q in self.queries:
            score = self.base @ q
            score = norms - 2 * score if self.metric == "l2" else -score
            near = np.argpartition(score, DEPTH)[:DEPTH]
            exact = self.scores(near[None], q[None])[0]
            order = np.argsort(exact if self.metric == "l2" else -exact)
            scores.append(exact[order])
            rows.append(near[order])
        self.truth, self.nearest = np.array(scores), np.array(rows)

    def scores(self, ids, queries):
        """True scores of rows ids[j][i] for query j, in double precision."""
        rows = self.base[np.maximum(ids, 0)].astype(np.float64)
        q = queries.astype(np.float64)[:, None, :]
        if self.metric == "l2":
            return ((rows - q) ** 2).sum(axis=2)
        return (rows * q).sum(axis=2)

    def recall(self, ids, k):
        """Mean over the first len(ids) queries. A row given twice counts once; -1 never."""
        right = 0
        for j, row in enumerate(np.asarray(ids).tolist()):
            found = set(row) - {-1}
            certain = found.intersection(self.nearest[j, :k].tolist())
            right += len(certain)
            if len(certain) < k and found != certain:
                right += min(self._tied(found - certain, j, k), k - len(certain))
        return right / (len(ids) * k)

    def _tied(self, rows, j, k):
        """How many rows that truth does not name are as near to query j as its k-th."""
        s = self.scores(np.array([list(rows)]), self.queries[j:j + 1])[0]
        kth = float(self.truth[j, k - 1])
        slack = 1e-5 * max(abs(kth), 1e-6)
        return int(np.sum(s <= kth + slack if self.metric == "l2" else s >= kth - slack))
