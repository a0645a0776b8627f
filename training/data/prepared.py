"""The folders that prepare writes, read back.

news.parquet        id, title, category, subcategory, abstract; a story's index is its row
SPLIT.parquet       a row for each impression: impression, user, time, history, liked, disliked,
                    candidates (story indices; lists of stories known have the oldest first),
                    clicked (null where there are no labels)
log.parquet         all impressions in the order of time, with all candidates, in the same columns;
                    not with the original recipe, nor where candidates were drawn
manifest.json       see training.data.manifest
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import polars as pl

from app.scoring.wording import Reader, Story
from training.data.manifest import DRAWN, MANIFEST_FILE, Manifest
from training.errors import TrainingError

NEWS_FILE = "news.parquet"
LOG_FILE = "log.parquet"
IMPRESSIONS_IN_MEMORY = 10_000


@dataclass(frozen=True, slots=True)
class Impression:
    """What one reader was shown at once. clicked: a flag a candidate; None without labels."""

    id: str
    user: str
    reader: Reader
    candidates: list[Story]
    candidate_ids: list[str]
    clicked: list[bool] | None


def without_categories(impression: Impression) -> Impression:
    """The same impression, as a client describes it that knows only titles."""
    reader = impression.reader
    lists = (reader.history, reader.liked, reader.disliked)
    return replace(
        impression,
        reader=Reader(*([Story(story.title) for story in stories] for stories in lists)),
        candidates=[Story(story.title) for story in impression.candidates],
    )


class PreparedData:
    """A folder written by `python -m training prepare`."""

    def __init__(self, folder: Path) -> None:
        """Raises TrainingError if it is not a prepared folder."""
        self.folder = folder
        try:
            self.manifest = Manifest.read(folder)
        except (OSError, ValueError):
            raise TrainingError(
                f"{folder} is not a prepared data set (no usable {MANIFEST_FILE}); "
                "make one with: python -m training prepare"
            ) from None

    @property
    def data_hash(self) -> str:
        """Tells this data set from others; see training.data.manifest."""
        return self.manifest.data_hash

    def count(self, split: str) -> int:
        """How many impressions a split holds: train, val, or test where it was given."""
        return int(pl.scan_parquet(self._file(split)).select(pl.len()).collect().item())

    def impressions(self, split: str, limit: int | None = None) -> Iterator[Impression]:
        """The first `limit` impressions of a split (all without it), in the file's order."""
        rows = pl.scan_parquet(self._file(split))
        total = self.count(split) if limit is None else min(limit, self.count(split))
        for start in range(0, total, IMPRESSIONS_IN_MEMORY):
            part = rows.slice(start, min(IMPRESSIONS_IN_MEMORY, total - start)).collect()
            yield from to_impressions(part, self.stories, self.story_ids)

    def log(self) -> pl.LazyFrame:
        """All impressions in the order of time; see the columns above. They are read when they are
        collected. Raises TrainingError for a folder without them."""
        file = self.folder / LOG_FILE
        if self.manifest.drawn:
            raise TrainingError(
                f"{self.folder}: {DRAWN}. Live figures need impressions, so no ranker can be fitted"
            )
        if not file.is_file():
            raise TrainingError(
                f"{self.folder} has no {file.name}: prepare it again, with --recipe temporal"
            )
        return pl.scan_parquet(file)

    def sample_evenly(self, split: str, count: float) -> list[Impression]:
        """`count` impressions (below 1: that share of them), spread evenly over a split.

        Raises TrainingError for a split without labels, and for a share that is no impression.
        """
        wanted = set(self._places(split, count))
        found = [item for index, item in enumerate(self.impressions(split)) if index in wanted]
        if any(item.clicked is None for item in found):
            raise TrainingError(f"{self.folder}: the split {split!r} has no labels")
        return found

    def labels_evenly(self, split: str, count: float) -> list[list[bool]]:
        """The flags `clicked` of the impressions that sample_evenly returns, which it alone reads.

        Raises TrainingError as it does.
        """
        places = self._places(split, count)
        flags = pl.scan_parquet(self._file(split)).select("clicked").collect()["clicked"]
        found: list[list[bool]] = flags.gather(places).to_list()
        if any(item is None for item in found):
            raise TrainingError(f"{self.folder}: the split {split!r} has no labels")
        return found

    def rows_evenly(self, split: str, count: float) -> pl.DataFrame:
        """impression, user and time of the impressions that sample_evenly returns."""
        rows = pl.scan_parquet(self._file(split)).select("impression", "user", "time").collect()
        return rows[self._places(split, count)]

    def _places(self, split: str, count: float) -> list[int]:
        total = self.count(split)
        number = min(total, int(count) if count >= 1 else round(count * total))
        if count and not number:
            raise TrainingError(
                f"{self.folder}: {count:g} of the {total:,} impressions of split {split!r} is not"
                " even one: ask for more"
            )
        return [index * total // number for index in range(number)]

    @cached_property
    def stories(self) -> list[Story]:
        """All stories by index."""
        return to_stories(self._news)

    @cached_property
    def story_ids(self) -> list[str]:
        """The data set's own ids of all stories, by index."""
        return self._news["id"].to_list()

    @cached_property
    def _news(self) -> pl.DataFrame:
        return pl.read_parquet(self.folder / NEWS_FILE)

    def _file(self, split: str) -> Path:
        file = self.folder / f"{split}.parquet"
        if not file.is_file():
            raise TrainingError(f"{self.folder} has no split {split!r}: {file.name} does not exist")
        return file


def to_stories(news: pl.DataFrame) -> list[Story]:
    """The news table's stories, by index."""
    return [Story(title, category) for title, category in news.select("title", "category").rows()]


def to_impressions(
    rows: pl.DataFrame, stories: Sequence[Story], story_ids: Sequence[str]
) -> Iterator[Impression]:
    """The impressions in rows of a split's file."""
    columns = ("impression", "user", "history", "liked", "disliked", "candidates", "clicked")
    for name, user, *lists, candidates, clicked in rows.select(columns).iter_rows():
        yield Impression(
            id=name,
            user=user,
            reader=Reader(*([stories[index] for index in indices] for indices in lists)),
            candidates=[stories[index] for index in candidates],
            candidate_ids=[story_ids[index] for index in candidates],
            clicked=clicked,
        )
