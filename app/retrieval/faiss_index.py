"""Nearest neighbours by faiss, which compares a query with a part of many vectors only.

The vectors lie in cells around centres that k-means has found; a search looks into the cells whose
centres are nearest (faiss's IndexIVFFlat). Fewer vectors than `train_from` are searched exactly.
"""

import math
import threading
from importlib.util import find_spec
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from app.errors import StartupError
from app.retrieval.index import ExactIndex, Flags, Rows, Vectors

TRAIN_FROM = 20_000
GROWTH = 4
"""The cells are made anew once there are so many times as many vectors."""
CELLS = 2.0
"""Cells for each square root of a vector."""
SEARCHED = 0.4
"""The share of cells that a search looks into, if it may find all rows. Titles of MIND make no
clear cells: a third holds 0.966 of the 200 stories nearest to a reader, a twelfth 0.75."""
LEARNED = 64
"""How many vectors a cell's centre is found from."""
ROUNDS = 10
"""Of k-means."""


def check_faiss() -> None:
    """Raises StartupError if the package is not installed."""
    if find_spec("faiss") is None:
        raise StartupError(
            "setting FRONTPAGE_RETRIEVAL_INDEX: faiss needs the package faiss-cpu, which"
            " requirements/faiss.txt pins"
        )


class FaissIndex:
    """As app.retrieval.index.Index. Takes 4 bytes a number, and as much again while it makes cells.
    Searches wait for each other, since faiss can't search while vectors are added."""

    def __init__(self, width: int, train_from: int = TRAIN_FROM) -> None:
        import faiss  # takes a second, and few need it

        threadpool_limits(1, user_api="blas")  # faiss brings its own
        self._faiss: Any = faiss
        self._width = width
        self._train_at = train_from
        self._exact: ExactIndex | None = ExactIndex(width)
        self._cells: Any = None
        self._present = np.zeros(0, np.bool_)
        self._lock = threading.Lock()

    def put(self, rows: Rows, vectors: Vectors) -> None:
        self._faiss.omp_set_num_threads(1)  # of this thread
        before = self._note(rows)
        if self._exact is not None:
            self._exact.put(rows, vectors)
        else:
            with self._lock:
                if len(before):
                    self._cells.remove_ids(self._faiss.IDSelectorArray(before))
                self._cells.add_with_ids(np.ascontiguousarray(vectors, np.float32), rows)
        count = int(np.count_nonzero(self._present))
        if count >= self._train_at:
            self._train_at = GROWTH * count
            self._make_cells()

    def nearest(self, query: Vectors, allowed: Flags, count: int) -> Rows:
        exact = self._exact
        if exact is not None:
            return exact.nearest(query, allowed, count)
        self._faiss.omp_set_num_threads(1)
        bits = np.packbits(allowed, bitorder="little")
        only = self._faiss.IDSelectorBitmap(bits)
        with self._lock:
            few = int(np.count_nonzero(self._present)) / max(int(np.count_nonzero(allowed)), 1)
            probes = min(math.ceil(self._cells.nlist * SEARCHED * few), self._cells.nlist)
            options = self._faiss.SearchParametersIVF(sel=only, nprobe=probes)
            given = np.ascontiguousarray(query[None], np.float32)
            _, found = self._cells.search(given, count, params=options)
        return np.asarray(found[0][found[0] >= 0], np.int64)

    def _note(self, rows: Rows) -> Rows:
        """Note that rows have vectors; returns those that had one before."""
        last = int(rows.max(initial=-1))
        if last >= len(self._present):
            more = np.zeros(2 * last + 2 - len(self._present), np.bool_)
            self._present = np.concatenate([self._present, more])
        before = rows[self._present[rows]]
        self._present[rows] = True
        return before

    def _make_cells(self) -> None:
        """Searches go on with what there was until the new cells are there."""
        rows = np.flatnonzero(self._present)
        vectors = self._all(rows)
        faiss = self._faiss
        centres = faiss.IndexFlatIP(self._width)
        number = int(CELLS * math.sqrt(len(rows)))
        made = faiss.IndexIVFFlat(centres, self._width, number, faiss.METRIC_INNER_PRODUCT)
        made.cp.max_points_per_centroid, made.cp.niter = LEARNED, ROUNDS
        made.train(vectors)
        made.add_with_ids(vectors, rows)
        made.set_direct_map_type(faiss.DirectMap.Hashtable)
        with self._lock:
            self._cells, self._exact = made, None

    def _all(self, rows: Rows) -> Vectors:
        """The vectors of rows, which all have one."""
        if self._exact is not None:
            return self._exact.get(rows)
        with self._lock:
            return np.asarray(self._cells.reconstruct_batch(rows), np.float32)
