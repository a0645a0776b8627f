"""Measure the time and memory that `training rank` needs for a log of MIND-large's size.

  python -m loadtests.training.rank --mind MIND/train

The log is made from that of loadtests.training.prepare by `prepare`. Measured are, each in its own
process: `prepare`; the features of every candidate, in parts that are not kept; and `rank`, which
counts all impressions and learns from the newest --learn. Vectors, and the scores of language model
and tower, are invented: so what `rank` finds says nothing, and embedding the titles, which is done
once, is not in its time. Prints a table and one line of JSON.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from app.signals.counters import HalfLives
from loadtests.training.prepare import repeat, run_measured
from training.data.prepared import PreparedData
from training.ranking.log import Log
from training.ranking.moments import Catalogue, Replay
from training.ranking.rows import write_scores
from training.ranking.vectors import distinct, vectors_file

WIDTH = 384
"""Of invented vectors: as all-MiniLM-L6-v2 has."""
ENCODER = Path("invented")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.training.rank",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--mind", type=Path, help="MIND folder to repeat")
    parser.add_argument("--impressions", type=int, default=2_200_000, help="how many to write")
    parser.add_argument("--stories", type=int, default=101_000, help="least number of stories")
    parser.add_argument("--learn", type=int, default=200_000, help="rank's --impressions")
    parser.add_argument("--work", type=Path, help="folder for 3 GB (default: a temporary one)")
    parser.add_argument("--features", type=Path, metavar="DATA", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.features:
        print(compute_features(options.features))
        return
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        measure(options, Path(work))


def measure(options: argparse.Namespace, work: Path) -> None:
    impressions, stories = repeat(
        options.mind, work / "large", options.impressions, options.stories
    )
    print(f"input: {impressions:,} impressions, {stories:,} stories", flush=True)
    data, training = work / "data", [sys.executable, "-m", "training"]
    prepare = [*training, "prepare", "--train", str(work / "large"), "--out", str(data)]
    results = {"prepare": run_measured(prepare)}
    every = [sys.executable, "-m", "loadtests.training.rank", "--features", str(data)]
    results["all features, no vectors"] = run_measured(every)
    invent(data, options.learn)
    rank = [*training, "rank", "--data", str(data), "--encoder", str(ENCODER)]
    for kind in ("text", "tower"):
        rank += [f"--{kind}", str(data / f"{kind}.parquet")]
    rank += ["--impressions", str(options.learn), "--output", str(work / "ranker")]
    results[f"rank, {options.learn:,} learned"] = run_measured(rank)
    for name, result in results.items():
        print(
            f"{name:24} {result['seconds']:7.1f} s, {result['cpu_seconds']:6.1f} of processors,"
            f"  peak {result['peak_gib']:5.2f} GiB"
        )
    print(json.dumps({"impressions": impressions, "stories": stories, **results}))


def compute_features(folder: Path) -> str:
    """Compute the features of every candidate of a prepared folder; returns a line for the log."""
    data = PreparedData(folder)
    log = Log(data.log())
    catalogue = Catalogue([story.category for story in data.stories], None)
    found = Replay(catalogue, HalfLives()).moments(log, log.labelled)
    return f"features of {sum(len(part.matrix) for part in found):,} candidates"


def invent(folder: Path, learn: int) -> None:
    """Write vectors of all used titles, and scores for the newest `learn` impressions."""
    random = np.random.default_rng(0)
    data = PreparedData(folder)
    log = Log(data.log())
    titles = [story.title for story in data.stories]
    names = distinct(titles, log.used_stories(len(titles)).tolist())
    vectors = random.normal(size=(len(names), WIDTH)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    np.save(vectors_file(folder, ENCODER, names), vectors.astype(np.float16))
    keys = log.keys().tail(learn).to_list()
    for kind in ("text", "tower"):
        scores = {
            key: random.normal(size=size).tolist()
            for key, size in zip(keys, log.sizes[-learn:], strict=True)
        }
        write_scores(folder / f"{kind}.parquet", scores)


if __name__ == "__main__":
    main()
