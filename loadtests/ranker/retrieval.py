"""How long /recommend needs to find its candidates, and how many neighbours faiss finds.

  OMP_NUM_THREADS=1 python -m loadtests.ranker.retrieval
  OMP_NUM_THREADS=1 python -m loadtests.ranker.retrieval --stories 300000 --index faiss

Invented stories, a tenth of them with live figures, and vectors around invented topics. Prints the
median and the 95th percentile of a search for a reader, by the clock and of processor time: of the
neighbours alone, and of all candidates; how long it takes to look up all stories' popularity, which
happens at most every two seconds; and with faiss the share of the exact 200 neighbours that it
finds. Invented topics are easy to tell apart: with `--vectors` the vectors are those of a file,
such as `training rank` keeps beside prepared data, and readers are means of any 20 of them.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from app.live.live import Live
from app.retrieval.catalogue import Catalogue, Filters
from app.retrieval.faiss_index import FaissIndex
from app.retrieval.index import ExactIndex, Index
from app.retrieval.popularity import Popularity
from app.retrieval.retrieval import LATEST, SIMILAR, choose, distinct
from app.signals.live import ShownStory
from app.store.database import Database
from app.store.listing import Listed
from app.store.records import StoredStory

WIDTH = 384
TOPICS, TOPIC_WIDTH = 300, 40
"""Titles of a topic differ in fewer directions than a vector has numbers."""
REPEATS, QUERIES = 200, 50
AT_ONCE = 1000
NOW = 1_700_000_000.0
INDEXES: dict[str, Callable[[int], Index]] = {"exact": ExactIndex, "faiss": FaissIndex}

Vectors = NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.ranker.retrieval",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--stories", type=int, default=100_000)
    parser.add_argument("--index", choices=INDEXES, default="exact")
    parser.add_argument("--vectors", type=Path, help="NumPy file [stories, width]; sets --stories")
    options = parser.parse_args()
    threadpool_limits(1, user_api="blas")  # as the service does
    if options.vectors is None:
        vectors, queries = invented(options.stories), invented(REPEATS, seed=1)
    else:
        vectors = np.load(options.vectors).astype(np.float32)
        queries = means(vectors)
    for line in measure(vectors, queries, options.index):
        print(line, flush=True)


def means(vectors: Vectors) -> Vectors:
    """[REPEATS, width], each of LATEST vectors drawn at random."""
    drawn = np.random.default_rng(0).integers(0, len(vectors), (REPEATS, LATEST))
    return np.asarray(vectors[drawn].mean(1), np.float32)


def measure(vectors: Vectors, queries: Vectors, index: str) -> list[str]:
    """What was measured, in lines."""
    stories = len(vectors)
    started = time.perf_counter()
    catalogue = fill(stories, vectors, INDEXES[index])
    lines = [
        f"{stories:,} stories put into the {index} index: {time.perf_counter() - started:.1f} s"
    ]
    live = make_live(stories)
    popularity = Popularity(live, catalogue, lambda: NOW)
    started = time.perf_counter()
    popular = popularity.current()
    lines.append(f"popularity of all: {(time.perf_counter() - started) * 1e3:.1f} ms")
    filters = Filters(NOW, exclude=[f"N{number}" for number in range(50)])
    allowed = catalogue.allowed(filters)
    lines.append(timed("neighbours", lambda one: catalogue.nearest(one, allowed, SIMILAR), queries))

    def search(query: Vectors) -> None:
        found = choose(catalogue, catalogue.allowed(filters), query, popular)
        list(distinct(catalogue, found, ()))

    lines.append(timed("all candidates", search, queries))
    if index != "exact":
        exact = ExactIndex(vectors.shape[1])
        exact.put(np.arange(stories), vectors)
        share = recall(catalogue, exact, catalogue.allowed(filters), queries[:QUERIES])
        lines.append(f"of the exact {SIMILAR} neighbours it finds {share:.3f}")
    return lines


def invented(count: int, seed: int = 0) -> Vectors:
    """Vectors of unit length [count, WIDTH] around topics, which are the same for all seeds."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(TOPICS, WIDTH)).astype(np.float32)
    ways = random.normal(size=(TOPICS, TOPIC_WIDTH, WIDTH)).astype(np.float32)
    random = np.random.default_rng(seed + 1)
    topics = random.integers(0, TOPICS, count)
    found = np.empty((count, WIDTH), np.float32)
    for topic in range(TOPICS):
        own = np.flatnonzero(topics == topic)
        along = random.normal(size=(len(own), TOPIC_WIDTH)).astype(np.float32)
        found[own] = centres[topic] + along @ ways[topic] / np.sqrt(np.float32(TOPIC_WIDTH))
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def fill(stories: int, vectors: Vectors, make_index: Callable[[int], Index]) -> Catalogue:
    """Stories N0, N1 and so on, in rows of the same numbers."""
    catalogue = Catalogue(stories, make_index)
    half = vectors.astype(np.float16)
    for start in range(0, stories, AT_ONCE):
        numbers = range(start, min(start + AT_ONCE, stories))
        some = [StoredStory(f"N{n}", f"Title {n}", published=NOW - n) for n in numbers]
        catalogue.put([Listed(story, NOW) for story in some], 0.0)
        titles = catalogue.titles(catalogue.without_vectors().tolist())
        catalogue.embed(titles, {f"Title {n}": half[n] for n in numbers})
    return catalogue


def make_live(stories: int) -> Live:
    """Live figures of a tenth of the stories, which no store keeps."""
    live = Live(Database("sqlite:///unused"), None, stories)
    shown = np.random.default_rng(0).permutation(stories)[: stories // 10].tolist()
    for number in shown:
        live._figures.shown(f"reader {number}", [ShownStory(f"N{number}")], NOW - number % 9999)
    return live


def timed(name: str, work: Callable[[Vectors], object], queries: Vectors) -> str:
    clock, processor = [], []
    for query in queries:
        started = time.perf_counter(), time.thread_time()
        work(query)
        clock.append(time.perf_counter() - started[0])
        processor.append(time.thread_time() - started[1])
    return f"{name}: {described(clock)}; of processor time {described(processor)}"


def described(seconds: Sequence[float]) -> str:
    slow = statistics.quantiles(seconds, n=20)[-1]
    return f"p50 {statistics.median(seconds) * 1e3:.1f} ms, p95 {slow * 1e3:.1f} ms"


def recall(
    catalogue: Catalogue, exact: ExactIndex, allowed: NDArray[np.bool_], queries: Vectors
) -> float:
    """The mean share of the exact neighbours that the catalogue's index finds."""
    shares = []
    for query in queries:
        best = set(exact.nearest(query, allowed, SIMILAR).tolist())
        found = set(catalogue.nearest(query, allowed, SIMILAR).tolist())
        shares.append(len(best & found) / len(best))
    return float(np.mean(shares))


if __name__ == "__main__":
    main()
