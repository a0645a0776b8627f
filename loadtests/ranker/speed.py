"""How long the ranker takes for one reader's candidates, without the language model.

  OMP_NUM_THREADS=1 python -m loadtests.ranker.speed
  OMP_NUM_THREADS=1 python -m loadtests.ranker.speed --candidates 1000

Invented stories with live figures and vectors, a history of 50. Prints the medians on one core of
live figures, cosines, tower, the matrix and the trees; and how many events live figures take.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.likeness.cosine import cosines
from app.likeness.tower import ReaderEncoder, read_tower
from app.ranker.features import Floats, Known, count_matches, features
from app.ranker.ranker import Ranker, load_ranker
from app.signals.live import LiveFigures, ShownStory

ADAPTER = Path("adapters/news-smollm2")
STORIES, HISTORY, REPEATS = 20_000, 50, 30
CATEGORIES = tuple(f"category {number}" for number in range(18))
NOW = 1_700_000_000.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ranker", type=Path, default=ADAPTER, help=f"its folder ({ADAPTER})")
    parser.add_argument("--candidates", type=int, nargs="+", default=[50, 300, 1000])
    options = parser.parse_args()
    for count in options.candidates:
        print(describe(count, measure(options.ranker, count)), flush=True)
    print(f"{events_per_second():,.0f} events of one story counted in a second")


def describe(count: int, seconds: dict[str, float]) -> str:
    """One line for so many candidates."""
    parts = ", ".join(f"{name} {1000 * value:.2f}" for name, value in seconds.items())
    return f"{count:5,} candidates: {1000 * sum(seconds.values()):6.2f} ms ({parts})"


def measure(folder: Path, count: int) -> dict[str, float]:
    """Median seconds of each step for `count` candidates."""
    ranker, tower = load_ranker(folder), read_tower(folder)
    if ranker is None or tower is None:
        raise SystemExit(f"{folder} holds no ranker with a tower")
    return steps(ranker, ReaderEncoder(tower.tensors), count)


def steps(ranker: Ranker, reader: ReaderEncoder, count: int) -> dict[str, float]:
    """Median seconds of each step, with invented stories."""
    random = np.random.default_rng(0)
    live = make_live(random)
    ids = [str(number) for number in random.permutation(STORIES)[:count]]
    categories = [CATEGORIES[int(story) % len(CATEGORIES)] for story in ids]
    history, candidates = (unit(random, size, reader.width) for size in (HISTORY, count))
    figures = live.figures(ids, categories, NOW)
    passed = count_matches(ids, ids[:20])

    def known() -> Floats:
        return features(
            Known(
                figures=figures,
                cosines=found["cosines"],
                tower=found["tower"],
                category_count=count_matches(categories, CATEGORIES),
                history_length=HISTORY,
                times_passed=passed,
                times_clicked=passed,
                hour=12.0,
                text=found["tower"],
            )
        )

    found: dict[str, Floats] = {}
    found["cosines"] = cosines(history, candidates)
    found["tower"] = reader.scores(reader.reader(history), candidates)
    matrix = known()
    work: dict[str, Callable[[], object]] = {
        "live figures": lambda: live.figures(ids, categories, NOW),
        "cosines": lambda: cosines(history, candidates),
        "tower": lambda: reader.scores(reader.reader(history), candidates),
        "matrix": known,
        "trees": lambda: ranker.probability(matrix),
    }
    return {name: median_seconds(do) for name, do in work.items()}


def make_live(random: np.random.Generator) -> LiveFigures:
    """Live figures of STORIES stories."""
    live = LiveFigures()
    for number in range(STORIES):
        story = ShownStory(str(number), CATEGORIES[number % len(CATEGORIES)])
        live.shown(f"reader {number}", [story], NOW - random.random() * 1e5)
    return live


def events_per_second(events: int = 50_000, read_every: int = 100) -> float:
    """How many events live figures take in a second of processor time, a third of them clicks, when
    every `read_every` events a reader's 50 candidates are looked up."""
    random = np.random.default_rng(0)
    live = LiveFigures()
    stories = [ShownStory(str(number), CATEGORIES[number % 18]) for number in range(100_000)]
    chosen = random.integers(0, len(stories), events).tolist()
    start = time.process_time()
    for number, place in enumerate(chosen):
        count = live.clicked if number % 3 == 0 else live.shown
        count(str(number % 7919), [stories[place]], NOW + number / 5000)
        if number % read_every == 0:
            live.figures([str(story) for story in chosen[:50]], [None] * 50, NOW)
    return events / (time.process_time() - start)


def unit(random: np.random.Generator, count: int, width: int) -> NDArray[np.float32]:
    """Random vectors of unit length."""
    vectors = random.normal(size=(count, width))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


def median_seconds(do: Callable[[], object], repeats: int = REPEATS) -> float:
    """The median of several calls, after one that does not count."""
    do()
    taken: Sequence[float] = [timed(do) for _ in range(repeats)]
    return statistics.median(taken)


def timed(do: Callable[[], object]) -> float:
    start = time.perf_counter()
    do()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
