"""How many of the stories that readers clicked are among the candidates of /recommend.

  python -m training prepare --train MIND/train --val-from 2019-11-14 --out data/mind
  python -m loadtests.ranker.recall --data data/mind --since 2019-11-14T10:00

Replays a prepared log in the order of time. Before each measured impression with a click, the
candidates are found among all stories of the log with what was known then, without the stories of
the reader's history; a click is a hit if its story is among them. A story counts as published when
the log first shows it, since MIND does not say when; with `--hours` only those published so lately
are candidates. Prints the hits by kind of candidate, and those of other choices for comparison.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.retrieval.index import Rows, highest
from app.retrieval.popularity import popularity
from app.retrieval.retrieval import LATEST, NEW, POPULAR, SIMILAR
from app.signals.live import Figures, LiveFigures, ShownStory
from loadtests.services import ROOT
from training.data.prepared import PreparedData
from training.errors import TrainingError
from training.ranking.log import Log
from training.ranking.vectors import story_vectors

LATEST_TRIED = (1, 5, 10, 20, 50)
HOUR_S = 3600.0

Flags = NDArray[np.bool_]
Vectors = NDArray[np.float32]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Impression:
    """Stories are indices."""

    user: str
    time: datetime
    history: list[int]
    candidates: list[int]
    clicked: list[bool] | None

    @property
    def seconds(self) -> float:
        return self.time.replace(tzinfo=UTC).timestamp()

    @property
    def clicks(self) -> list[int]:
        if self.clicked is None:
            return []
        pairs = zip(self.candidates, self.clicked, strict=True)
        return [story for story, clicked in pairs if clicked]


@dataclass(frozen=True, slots=True)
class Stories:
    """Of the log. published: in Unix seconds, NaN where it shows none, [stories]."""

    ids: list[str]
    vectors: Vectors
    published: Floats


@dataclass(slots=True)
class Hits:
    """Clicks that were found, and stories that were candidates, by choice."""

    clicks: int = 0
    impressions: int = 0
    found: Counter[str] = field(default_factory=Counter)
    sizes: Counter[str] = field(default_factory=Counter)

    def add(self, clicks: list[int], choices: dict[str, Rows]) -> None:
        self.clicks += len(clicks)
        self.impressions += 1
        for name, rows in choices.items():
            self.found[name] += len(set(clicks) & set(rows.tolist()))
            self.sizes[name] += len(rows)

    def lines(self) -> Iterator[str]:
        yield f"{self.impressions} impressions with {self.clicks} clicks"
        yield "| candidates | clicks among them | stories |\n|---|---|---|"
        for name, hits in self.found.items():
            size = self.sizes[name] / self.impressions
            yield f"| {name} | {hits / self.clicks:.3f} | {size:.0f} |"


def measure(data: PreparedData, encoder: Path, since: datetime, hours: float | None) -> Hits:
    """Replay the log, measuring from `since` on."""
    log = [
        Impression(*row)
        for row in data.log()
        .sort("time")
        .select("user", "time", "history", "candidates", "clicked")
        .collect()
        .iter_rows()
    ]
    stories = read_stories(data, encoder, log)
    live, hits = LiveFigures(), Hits()
    for one in log:
        if one.time >= since and one.clicks:
            figures = live.figures(stories.ids, [None] * len(stories.ids), one.seconds)
            hits.add(one.clicks, choices(stories, one, figures, hours))
        shown = [ShownStory(stories.ids[story]) for story in one.candidates]
        live.shown(one.user, shown, one.seconds)
        live.clicked(one.user, [ShownStory(stories.ids[x]) for x in one.clicks], one.seconds)
    return hits


def read_stories(data: PreparedData, encoder: Path, log: list[Impression]) -> Stories:
    titles = [story.title for story in data.stories]
    used = Log(data.log()).used_stories(len(titles))
    published = np.full(len(titles), np.nan)
    for one in reversed(log):
        published[one.candidates] = one.seconds
    ids = list(data.story_ids)
    return Stories(ids, story_vectors(data.folder, encoder, titles, used.tolist()), published)


def choices(
    stories: Stories, one: Impression, figures: Figures, hours: float | None
) -> dict[str, Rows]:
    """The candidates of each choice, the best first."""
    allowed = stories.vectors.any(1) & ~(stories.published > one.seconds)
    if hours is not None:
        allowed &= stories.published >= one.seconds - hours * HOUR_S
    allowed[one.history] = False
    shown = allowed & (figures.shown > 0)

    def best(scores: Floats | Vectors, among: Flags, count: int) -> Rows:
        return highest(np.where(among, scores, -np.inf), count)

    history = stories.vectors[one.history[-max(LATEST_TRIED) :]]
    cosines = stories.vectors @ history.T

    def similar(latest: int, how: str) -> Rows:
        own = cosines[:, -latest:]
        if not own.size:
            return np.zeros(0, np.int64)
        return best(own.mean(1) if how == "mean" else own.max(1), allowed, SIMILAR)

    new = np.where(np.isnan(stories.published), 0.0, stories.published)
    found = {
        "similar": similar(LATEST, "mean"),
        "popular": best(popularity(figures), shown, POPULAR),
        "new": best(new, allowed & (figures.shown == 0), NEW),
    }
    return {
        "all that may be": np.flatnonzero(allowed),
        "all kinds": np.unique(np.concatenate(list(found.values()))),
        **found,
        **{
            f"{SIMILAR} by the {how} cosine to the latest {latest}": similar(latest, how)
            for how in ("mean", "highest")
            for latest in LATEST_TRIED
        },
        f"{POPULAR} by click-through": best(figures.rate(), shown, POPULAR),
        f"{POPULAR} by clicks": best(figures.clicks, shown, POPULAR),
        f"{POPULAR} by impressions now": best(figures.recent_exposure, shown, POPULAR),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.ranker.recall",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="a prepared folder")
    parser.add_argument("--since", type=datetime.fromisoformat, required=True)
    parser.add_argument("--encoder", type=Path, default=ROOT / "models" / "all-minilm-l6-v2")
    parser.add_argument("--hours", type=float, help="default: stories of any age")
    options = parser.parse_args()
    try:
        data = PreparedData(options.data)
        hits = measure(data, options.encoder, options.since, options.hours)
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if not hits.clicks:
        print("error: no impression since then has a click", file=sys.stderr)
        return 2
    print(*hits.lines(), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
