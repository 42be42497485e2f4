"""Searches over sealed and growing rows together: what the sealed rows have found bounds what is
looked for among growing ones, and must not cost a hit: keys that stand in both, deletes, equal
scores, ranges, many results."""
import numpy as np
import pytest
from support import index, schema_of

ROWS, MORE, DIM, NQ = 3000, 3000, 24, 30


class Both:
    """A collection of which the test knows every visible row; keys may stand in several."""

    def __init__(self, client, name, metric, kind, params):
        rng = np.random.default_rng(3)
        self.client, self.name, self.metric, self.exact = client, name, metric, kind == "FLAT"
        client.create_collection(name, schema=schema_of(vector=DIM))
        centres = rng.standard_normal((30, DIM)) * 2

        def make(n):
            return (centres[rng.integers(0, 30, n)] + rng.standard_normal((n, DIM))).astype(np.float32)
        self.queries = make(NQ)
        old, new = make(ROWS), make(MORE)
        new[:200] = old[:200]                       # the same key, the same row: equal scores
        new[200:400] = old[400:600]                 # another key, the same row
        self.keys = np.concatenate([np.arange(ROWS), np.arange(MORE)])
        self.keys[ROWS + 200:] += 10_000            # the first 200 growing keys are in sealed rows too
        self.keys[ROWS + 400:ROWS + 600] = np.arange(1000, 1200)  # and these, elsewhere
        self.rows = np.concatenate([old, new])
        self.insert(0, ROWS)
        client.flush(name)
        index(client, name, kind=kind, metric=metric, wait=True, **params)
        client.load_collection(name)
        for at in range(ROWS, ROWS + MORE, 500):
            self.insert(at, at + 500)
        self.search(self.queries[:1], 5)            # asks for codes of growing rows, which come beside searches
        self.gone = np.zeros(len(self.rows), bool)

    def insert(self, start, end):
        self.client.insert(self.name, [{"id": int(k), "vector": v} for k, v in
                                       zip(self.keys[start:end], self.rows[start:end])])

    def delete(self, keys):
        self.client.delete(self.name, ids=[int(k) for k in keys])
        self.gone |= np.isin(self.keys, list(keys))

    def search(self, queries, k, **params):
        return self.client.search(self.name, list(queries), anns_field="vector", limit=k,
                                  consistency_level="Strong",
                                  search_params={"metric_type": self.metric, "params": params})

    def expect(self, q, k, radius=None):
        """Best scores, each key once."""
        d = ((self.rows - q) ** 2).sum(1)
        if self.metric == "COSINE":
            d = -(self.rows @ q) / np.linalg.norm(self.rows, axis=1) / np.linalg.norm(q)
        best = {}
        for i in np.argsort(d, kind="stable"):
            if not self.gone[i] and (radius is None or d[i] < radius):
                best.setdefault(self.keys[i], d[i])
        return np.sort(list(best.values()))[:k]

    def check(self, k, radius=None, **params):
        if radius is not None:
            params["radius"] = -radius if self.metric == "COSINE" else radius
        found = want = 0
        for q, hits in zip(self.queries, self.search(self.queries, k, **params)):
            right = self.expect(q, k, radius)
            got = np.array([h["distance"] for h in hits]) * (-1 if self.metric == "COSINE" else 1)
            keys = [h["id"] for h in hits]
            assert len(set(keys)) == len(keys)
            assert not set(keys) & set(self.keys[self.gone].tolist())
            assert len(got) <= len(right)
            found += sum(np.isclose(a, b, rtol=1e-3, atol=1e-3) for a, b in zip(got, right))
            want += len(right)
        assert found >= want * (1 if self.exact else .99), f"{found} of {want}"


@pytest.mark.parametrize("kind,metric,build,how", [
    ("FLAT", "L2", {}, {}),
    ("IVF_FLAT", "L2", {"nlist": 16}, {"nprobe": 16}),
    ("IVF_FLAT", "COSINE", {"nlist": 16}, {"nprobe": 16})])
def test_search_when_rows_are_sealed_and_growing_then_each_key_has_its_best(client, name, kind,
                                                                            metric, build, how):
    c = Both(client, name, metric, kind, build)
    for k in (1, 10, 300):
        c.check(k, **how)
    far = c.expect(c.queries[0], 62)
    c.check(200, radius=float(far[58] + far[61]) / 2, **how)
    # The best of many queries, in sealed and in growing rows.
    c.delete({h["id"] for hits in c.search(c.queries, 5, **how) for h in hits})
    for k in (10, 100):
        c.check(k, **how)
