"""What ann.py knows of each library: a grid of builds, a grid of searches, the leanest way to call.

Each class says in `builds(wide)` which indexes to build: (family, name, settings); wide asks for a
larger grid. A family is one curve: the best over its builds and search parameters.
`points(settings, k)` are search parameters in rising effort. build() makes the index with `threads`
threads and returns what saves it, so that the time it took, that of saving and that of loading are
apart; load() opens it for one search thread. set() fixes a point and returns a function that gives
query i its rows; batch() one that answers all queries in one call of one thread, where the
package has such a call.

Calls skip wrappers where the package lets one: what is compared is the library, not the Python
around it. For metric cosine the vectors have unit length, and a library gets the metric that it is
fastest with: the order is the same for inner product, L2 and angle.
"""
import ctypes
import json
import os
from importlib import metadata
from pathlib import Path

import numpy as np

EF = [10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 64, 80, 96, 100, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048]
NPROBE = [1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512]
GRAPHS = [(16, 200)]      # degree, candidates while building
GRAPHS_WIDE = [(32, 200)]  # with --wide, too


def nlist_of(n):
    return int(4 * n ** 0.5) if n > 300_000 else 1024


def efs(k):
    return [e for e in EF if e >= k and (e != 100 or k == 100)]


class Lib:
    package = None

    def __init__(self, data):
        self.data = data
        self.l2 = data.metric == "l2"

    @staticmethod
    def graphs(wide):
        return GRAPHS + (GRAPHS_WIDE if wide else [])

    @classmethod
    def version(cls):
        return metadata.version(cls.package)

    def batch(self, k):
        return None

    def rows_needed(self):
        """Bytes of vectors that the caller has to keep in memory for it."""
        return 0


# ---- Elanus ----

class Vectors(ctypes.Structure):
    _fields_ = [("metric", ctypes.c_int), ("element", ctypes.c_int), ("dim", ctypes.c_size_t),
                ("data", ctypes.c_void_p), ("stride", ctypes.c_size_t), ("count", ctypes.c_size_t)]


class Build(ctypes.Structure):
    _fields_ = [("index", ctypes.c_char_p), ("params", ctypes.c_char_p), ("threads", ctypes.c_int),
                ("memory_max", ctypes.c_size_t), ("progress", ctypes.c_void_p),
                ("stop", ctypes.c_void_p), ("arg", ctypes.c_void_p)]


class Open(ctypes.Structure):
    _fields_ = [("copy", ctypes.c_int), ("trusted", ctypes.c_int)]


class Search(ctypes.Structure):
    _fields_ = [("k", ctypes.c_size_t), ("params", ctypes.c_char_p), ("radius", ctypes.c_void_p),
                ("range_filter", ctypes.c_void_p), ("stop", ctypes.c_void_p),
                ("stop_arg", ctypes.c_void_p)]


class Error(ctypes.Structure):
    _fields_ = [("code", ctypes.c_int), ("message", ctypes.c_char * 768)]


def library():
    """libelanus_index, from $ELANUS_INDEX_LIB or the release build."""
    default = Path(__file__).parent.parent / "build/release/src/index/lib/libelanus_index.so"
    lib = ctypes.CDLL(os.environ.get("ELANUS_INDEX_LIB", str(default)))
    lib.elanus_index_version.restype = lib.elanus_index_kernels.restype = ctypes.c_char_p
    lib.elanus_index_free.argtypes = lib.elanus_searcher_free.argtypes = [ctypes.c_void_p]
    lib.elanus_searcher_run.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t,
                                        ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p,
                                        ctypes.c_void_p, ctypes.c_void_p]
    return lib


class Elanus(Lib):
    def __init__(self, data):
        super().__init__(data)
        self.lib = library()
        self.error = Error()
        self.index, self.searcher = ctypes.c_void_p(), ctypes.c_void_p()
        metric = {"l2": 0, "ip": 1, "cosine": 2}[data.metric]
        self.vectors = Vectors(metric, 0, data.dim, data.base.ctypes.data, 0, data.n)
        self.out = None

    @classmethod
    def version(cls):
        return library().elanus_index_version().decode()

    def builds(self, wide):
        n, d = self.data.n, self.data.dim
        nl = nlist_of(n)
        graphs = [f"M={m},efConstruction={c}" for m, c in self.graphs(wide)]
        grid = [("FLAT", ""), ("IVF_FLAT", f"nlist={nl}"), ("IVF_SQ8", f"nlist={nl}"),
                ("IVF_PQ", f"nlist={nl},m={d // 2},nbits=8"),
                ("IVF_RABITQ", f"nlist={nl},rbq_bits=1"), ("SCANN", f"nlist={nl}")]
        grid += [("HNSW", g) for g in graphs]
        grid += [("HNSW_SQ", f"{g},sq_type=SQ8,refine=true") for g in graphs]
        grid += [("DISKANN", "max_degree=56,search_list_size=100"), ("ANNOY", "n_trees=50"),
                 ("AUTOINDEX", "")]
        if wide:
            grid += [("HNSW_SQ", f"{graphs[-1]},sq_type=SQ4U,refine=true"),
                     ("IVF_RABITQ", f"nlist={nl},rbq_bits=4"), ("ANNOY", "n_trees=100"),
                     ("SCANN", f"nlist={int(2 * n ** 0.5)}")]
        return [(f"elanus {kind}", f"{kind} {params}".strip(), {"index": kind, "params": params})
                for kind, params in grid]

    def points(self, settings, k):
        kind, n = settings["index"], self.data.n
        if kind == "FLAT":
            return [""]
        if kind == "AUTOINDEX":
            return [f"level={i}" for i in range(1, 11)]
        if kind in ("IVF_FLAT", "IVF_SQ8", "IVF_PQ"):
            return [f"nprobe={p}" for p in NPROBE]
        if kind == "IVF_RABITQ":
            return [f"nprobe={p},refine_k={r}" for r in (4, 16) for p in NPROBE]
        if kind == "SCANN":
            return [f"nprobe={p},reorder_k={r * k}" for r in (4, 16) for p in NPROBE]
        if kind == "HNSW":
            return [f"ef={e}" for e in efs(k)]
        if kind == "HNSW_SQ":
            return [f"ef={e},refine_k={r}" for r in (1, 2) for e in efs(k) if e >= r * k]
        if kind == "DISKANN":
            return [f"search_list={e}" for e in efs(k)]
        return [f"search_k={s}" for s in (200, 500, 1000, 2000, 4000, 8000, 16000, 32000, 64000)
                if s < n]

    def rows_needed(self):
        return self.data.base.nbytes

    def _check(self, code):
        if code:
            raise RuntimeError(self.error.message.decode())

    def build(self, settings, threads, path):
        b = Build(settings["index"].encode(), settings["params"].encode(), threads)
        self._check(self.lib.elanus_index_build_file(
            ctypes.byref(self.vectors), ctypes.byref(b), str(path / "index").encode(),
            ctypes.byref(self.error)))

    def load(self, settings, path):
        how = Open(copy=1, trusted=1)
        self._check(self.lib.elanus_index_open(
            str(path / "index").encode(), ctypes.byref(self.vectors), ctypes.byref(how),
            ctypes.byref(self.index), ctypes.byref(self.error)))

    def set(self, point, k):
        self.lib.elanus_searcher_free(self.searcher)
        self.searcher = ctypes.c_void_p()
        s = Search(k, point.encode())
        self._check(self.lib.elanus_searcher_new(
            self.index, ctypes.byref(s), ctypes.byref(self.searcher), ctypes.byref(self.error)))
        q = self.data.queries
        self.out = np.zeros((len(q), k), np.int64)
        self.scores = np.zeros((len(q), k), np.float32)
        run, searcher = self.lib.elanus_searcher_run, self.searcher
        query = [q.ctypes.data + i * q.strides[0] for i in range(len(q))]
        rows = [self.out.ctypes.data + i * self.out.strides[0] for i in range(len(q))]
        score = [self.scores.ctypes.data + i * self.scores.strides[0] for i in range(len(q))]
        out = list(self.out)

        def one(i):
            if run(searcher, query[i], 1, None, score[i], rows[i], None, None):
                raise RuntimeError("search failed")
            return out[i]
        return one

    def batch(self, k):
        q = self.data.queries

        def run():
            self._check(self.lib.elanus_searcher_run(
                self.searcher, q.ctypes.data, len(q), None, self.scores.ctypes.data,
                self.out.ctypes.data, None, ctypes.addressof(self.error)))
            return self.out
        return run


# ---- Peers ----

class Faiss(Lib):
    package = "faiss-cpu"

    def __init__(self, data):
        super().__init__(data)
        import faiss
        self.faiss = faiss
        self.metric = faiss.METRIC_L2 if self.l2 else faiss.METRIC_INNER_PRODUCT

    def builds(self, wide):
        n, d = self.data.n, self.data.dim
        nl = nlist_of(n)
        grid = [("FLAT", "Flat", None)]
        grid += [("HNSW", f"HNSW{m},Flat", c) for m, c in self.graphs(wide)]
        grid += [("HNSW_SQ8", f"HNSW{m}_SQ8,RFlat", c) for m, c in self.graphs(wide)]
        grid += [("IVF_FLAT", f"IVF{nl},Flat", None),
                 ("IVF_PQ4fs", f"IVF{nl},PQ{d // 2}x4fs,RFlat", None),
                 ("IVF_RABITQfs", f"IVF{nl},RaBitQfs,RFlat", None)]
        return [(f"faiss {kind}", factory + (f" efC={c}" if c else ""),
                 {"factory": factory, "efc": c})
                for kind, factory, c in grid]

    def points(self, settings, k):
        f = settings["factory"]
        if f == "Flat":
            return [{}]
        if f.startswith("HNSW"):
            refine = (1, 2) if "RFlat" in f else (None,)
            return [{"ef": e, "rf": r} for r in refine for e in efs(k) if not r or e >= r * k]
        if "RFlat" not in f:
            return [{"nprobe": p} for p in NPROBE]
        return [{"nprobe": p, "rf": r} for r in (4, 16) for p in NPROBE]

    def _inner(self):
        ix = self.index
        if isinstance(ix, self.faiss.IndexRefine):
            ix = self.faiss.downcast_index(ix.base_index)
        return ix

    def build(self, settings, threads, path):
        self.faiss.omp_set_num_threads(threads)
        self.index = self.faiss.index_factory(self.data.dim, settings["factory"], self.metric)
        if settings["efc"]:
            self._inner().hnsw.efConstruction = settings["efc"]
        self.index.train(self.data.base)
        self.index.add(self.data.base)
        return lambda: self.faiss.write_index(self.index, str(path / "index"))

    def load(self, settings, path):
        self.faiss.omp_set_num_threads(1)
        self.index = self.faiss.read_index(str(path / "index"))

    def set(self, point, k):
        inner = self._inner()
        if "ef" in point:
            inner.hnsw.efSearch = point["ef"]
        if "nprobe" in point:
            inner.nprobe = point["nprobe"]
        if point.get("rf"):
            self.index.k_factor = point["rf"]
        q, faiss = self.data.queries, self.faiss
        self.rows = np.zeros((len(q), k), np.int64)
        self.scores = np.zeros((len(q), k), np.float32)
        query = [faiss.swig_ptr(v) for v in q]
        score, rows = [[faiss.swig_ptr(v) for v in a] for a in (self.scores, self.rows)]
        out, search = list(self.rows), self.index.search_c

        def one(i):
            search(1, query[i], k, score[i], rows[i])
            return out[i]
        return one

    def batch(self, k):
        return lambda: self.index.search(self.data.queries, k)[1]


class Hnswlib(Lib):
    package = "hnswlib"

    def builds(self, wide):
        return [("hnswlib HNSW", f"M={m} efC={c}", {"M": m, "efc": c})
                for m, c in self.graphs(wide)]

    def points(self, settings, k):
        return efs(k)

    def _new(self):
        import hnswlib
        return hnswlib.Index("l2" if self.l2 else "ip", self.data.dim)

    def build(self, settings, threads, path):
        self.index = self._new()
        self.index.init_index(self.data.n, ef_construction=settings["efc"], M=settings["M"])
        self.index.add_items(self.data.base, num_threads=threads)
        return lambda: self.index.save_index(str(path / "index"))

    def load(self, settings, path):
        self.index = self._new()
        self.index.load_index(str(path / "index"))
        self.index.set_num_threads(1)

    def set(self, point, k):
        self.index.set_ef(point)
        q = [v[None] for v in self.data.queries]
        search = self.index.knn_query
        return lambda i: search(q[i], k, 1)[0][0]

    def batch(self, k):
        return lambda: self.index.knn_query(self.data.queries, k, 1)[0]


class Usearch(Lib):
    package = "usearch"

    def builds(self, wide):
        return [("usearch HNSW", f"{t} M={m} efC={c}", {"dtype": t, "M": m, "efc": c})
                for t in (("f32", "bf16") if wide else ("f32",)) for m, c in self.graphs(wide)]

    def points(self, settings, k):
        return efs(k)

    def _new(self, settings):
        from usearch.index import Index
        return Index(ndim=self.data.dim, metric="l2sq" if self.l2 else "ip",
                     dtype=settings["dtype"], connectivity=settings["M"],
                     expansion_add=settings["efc"])

    def build(self, settings, threads, path):
        self.index = self._new(settings)
        self.index.add(np.arange(self.data.n), self.data.base, threads=threads)
        return lambda: self.index.save(str(path / "index"))

    def load(self, settings, path):
        self.index = self._new(settings)
        self.index.load(str(path / "index"))

    def set(self, point, k):
        from usearch.index import ScalarKind
        self.index.expansion_search = point
        q = [v[None] for v in self.data.queries]
        search, any_kind = self.index._compiled.search_many, ScalarKind.Unknown
        return lambda i: search(q[i], count=k, exact=False, threads=1, dtype=any_kind)[0][0]

    def batch(self, k):
        return lambda: self.index.search(self.data.queries, k, threads=1).keys.astype(np.int64)


class Scann(Lib):
    package = "scann"

    def builds(self, wide):
        n = self.data.n
        leaves = [int(2 * n ** 0.5)] + ([int(n ** 0.5)] if wide else [])
        return [("scann", f"leaves={x}" + (" soar" if soar else ""), {"leaves": x, "soar": soar})
                for x in leaves for soar in ((False, True) if wide else (False,))]

    def points(self, settings, k):
        return [(p, r * k) for r in (4, 16) for p in
                NPROBE if p <= settings["leaves"]]

    def build(self, settings, threads, path):
        import scann
        b = scann.scann_ops_pybind.builder(self.data.base, 10,
                                           "squared_l2" if self.l2 else "dot_product")
        b.set_n_training_threads(threads)
        more = {"soar_lambda": 1.5, "overretrieve_factor": 2.0} if settings["soar"] else {}
        self.index = b.tree(num_leaves=settings["leaves"], num_leaves_to_search=100,
                            training_sample_size=min(self.data.n, 250_000), **more) \
            .score_ah(2, anisotropic_quantization_threshold=0.2).reorder(100).build()
        return lambda: self.index.serialize(str(path))

    def load(self, settings, path):
        import scann
        self.index = scann.scann_ops_pybind.load_searcher(str(path))
        self.index.set_num_threads(1)

    def set(self, point, k):
        self.point = leaves, reorder = point
        q, search = list(self.data.queries), self.index.searcher.search
        return lambda i: search(q[i], k, reorder, leaves)[0]

    def batch(self, k):
        leaves, reorder = self.point
        return lambda: self.index.search_batched(self.data.queries, k, reorder, leaves)[0]


class Annoy(Lib):
    package = "annoy"

    def builds(self, wide):
        return [("annoy", f"trees={t}", {"trees": t})
                for t in ((50, 100) if wide else (50,))]

    def points(self, settings, k):
        return [200, 500, 1000, 2000, 4000, 8000, 16000, 32000, 64000]

    def _new(self):
        from annoy import AnnoyIndex
        return AnnoyIndex(self.data.dim, {"l2": "euclidean", "ip": "dot",
                                          "cosine": "angular"}[self.data.metric])

    def build(self, settings, threads, path):
        self.index = self._new()
        for i, row in enumerate(self.data.base):
            self.index.add_item(i, row)
        self.index.build(settings["trees"], n_jobs=threads)
        return lambda: self.index.save(str(path / "index"))

    def load(self, settings, path):
        self.index = self._new()
        self.index.load(str(path / "index"), prefault=True)

    def set(self, point, k):
        q, search = [v.tolist() for v in self.data.queries], self.index.get_nns_by_vector
        return lambda i: search(q[i], k, point)


class Vsag(Lib):
    package = "pyvsag"

    def builds(self, wide):
        return [("vsag HGraph", f"{t} degree={2 * m} efC={c}", {"type": t, "M": m, "efc": c})
                for t in (("fp32", "sq8") if wide else ("sq8",)) for m, c in self.graphs(wide)]

    def points(self, settings, k):
        return efs(k)

    def _new(self, settings, threads):
        import pyvsag
        param = {"base_quantization_type": settings["type"], "max_degree": 2 * settings["M"],
                 "ef_construction": settings["efc"], "build_thread_count": threads}
        if settings["type"] != "fp32":
            param.update(use_reorder=True, precise_quantization_type="fp32")
        return pyvsag.Index("hgraph", json.dumps(
            {"dtype": "float32", "metric_type": "l2" if self.l2 else "ip", "dim": self.data.dim,
             "index_param": param}))

    def build(self, settings, threads, path):
        self.index = self._new(settings, threads)
        self.index.build(vectors=self.data.base, ids=np.arange(self.data.n, dtype=np.int64),
                         num_elements=self.data.n, dim=self.data.dim)
        return lambda: self.index.save(str(path / "index"))

    def load(self, settings, path):
        self.index = self._new(settings, 1)
        self.index.load(str(path / "index"))

    def set(self, point, k):
        params = json.dumps({"hgraph": {"ef_search": point}})
        q, search = list(self.data.queries), self.index.knn_search
        return lambda i: search(q[i], k, params)[0]


class Svs(Lib):
    package = "scalable-vs"

    def builds(self, wide):
        return [("svs Vamana", f"{t} degree={2 * m} window={c}", {"type": t, "M": m, "efc": c})
                for t in (("fp32", "lvq8", "lvq4x8") if wide else ("fp32",))
                for m, c in self.graphs(wide)]

    def points(self, settings, k):
        return efs(k)

    def _distance(self):
        import svs
        return svs.DistanceType.MIP if self.data.metric == "ip" else svs.DistanceType.L2

    def build(self, settings, threads, path):
        import svs
        par = svs.VamanaBuildParameters(graph_max_degree=2 * settings["M"],
                                        window_size=settings["efc"],
                                        alpha=0.95 if self.data.metric == "ip" else 1.2)
        data = self.data.base
        if settings["type"] != "fp32":
            (path / "raw").mkdir(exist_ok=True)
            svs.write_vecs(data, str(path / "raw.fvecs"))
            loader = svs.VectorDataLoader(str(path / "raw.fvecs"), svs.DataType.float32,
                                          dims=self.data.dim)
            data = self._lvq(loader, settings)
        self.index = svs.Vamana.build(par, data, self._distance(), num_threads=threads)

        def save():
            self.index.save(*(str(path / x) for x in ("config", "graph", "data")))
            (path / "raw.fvecs").unlink(missing_ok=True)
        return save

    @staticmethod
    def _lvq(loader, settings):
        import svs
        bits = {"lvq8": (8, 0), "lvq4x8": (4, 8)}[settings["type"]]
        return svs.LVQLoader(loader, primary=bits[0], residual=bits[1])

    def load(self, settings, path):
        import svs
        data = str(path / "data")
        loader = svs.VectorDataLoader(data, svs.DataType.float32) if settings["type"] == "fp32" \
            else svs.LVQLoader(data)
        self.index = svs.Vamana(str(path / "config"), svs.GraphLoader(str(path / "graph")), loader,
                                self._distance(), num_threads=1)

    def set(self, point, k):
        self.index.search_window_size = point
        q, search = [v[None] for v in self.data.queries], self.index.search
        return lambda i: search(q[i], k)[0][0]

    def batch(self, k):
        return lambda: self.index.search(self.data.queries, k)[0].astype(np.int64)


class Rabitq(Lib):
    package = "rabitqlib"

    def builds(self, wide):
        nl = nlist_of(self.data.n)
        grid = [("rabitqlib SymQG", f"degree={d} efC={c}", {"kind": "qg", "degree": d, "efc": c})
                for d, c in (((32, 200), (64, 200)) if wide else ((32, 200),))]
        grid += [("rabitqlib IVF", f"nlist={nl} bits={b}", {"kind": "ivf", "nlist": nl, "bits": b})
                 for b in ((4, 7) if wide else (7,))]
        return grid

    def points(self, settings, k):
        return efs(k) if settings["kind"] == "qg" else NPROBE

    def _metric(self):
        return "ip" if self.data.metric == "ip" else "l2"

    def build(self, settings, threads, path):
        import rabitqlib as r
        x, (n, d) = self.data.base, self.data.base.shape
        if settings["kind"] == "qg":
            self.index = r.SymqgIndex(d, settings["degree"], self._metric())
            self.index.build(x, settings["efc"], threads)
        else:
            means = r.RaBitQKMeans(d, settings["nlist"], num_threads=threads)
            means.train(x)
            self.index = r.IvfIndex(d, n, settings["nlist"], settings["bits"], self._metric())
            self.index.build(x, means.centroids, means.assignments, threads)
        return lambda: self.index.save(str(path / "index"))

    def load(self, settings, path):
        import rabitqlib as r
        self.index = (r.SymqgIndex if settings["kind"] == "qg" else r.IvfIndex).load(
            str(path / "index"))

    def set(self, point, k):
        self.point = point
        q, search = [v[None] for v in self.data.queries], self.index.search
        return lambda i: search(q[i], k, point)[0][0]

    def batch(self, k):
        return lambda: self.index.search(self.data.queries, k, self.point)[0].astype(np.int64)


class Diskann(Lib):
    package = "diskannpy"

    def builds(self, wide):
        return [("diskannpy memory", f"R={r} L={c}", {"R": r, "L": c})
                for r, c in (((32, 100), (64, 100)) if wide else ((32, 100),))]

    def points(self, settings, k):
        return efs(k)

    def _metric(self):
        return "mips" if self.data.metric == "ip" else "l2"

    def build(self, settings, threads, path):
        import diskannpy
        diskannpy.build_memory_index(self.data.base, self._metric(), str(path), settings["L"],
                                     settings["R"], threads)

    def load(self, settings, path):
        import diskannpy
        self.index = diskannpy.StaticMemoryIndex(str(path), 1, 2048)

    def set(self, point, k):
        self.point = point
        # Its search of one query broadcasts the first row over all where numpy is newer than 1.25.
        q, search = [v[None] for v in self.data.queries], self.index.batch_search
        return lambda i: search(q[i], k, point, 1).identifiers[0]

    def batch(self, k):
        return lambda: self.index.batch_search(self.data.queries, k, self.point,
                                               1).identifiers.astype(np.int64)


LIBS = {"elanus": Elanus, "faiss": Faiss, "hnswlib": Hnswlib, "usearch": Usearch, "scann": Scann,
        "annoy": Annoy, "vsag": Vsag, "svs": Svs, "rabitq": Rabitq, "diskann": Diskann}
