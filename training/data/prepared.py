"""The folders that prepare writes, read back.

news.parquet        id, title, category, subcategory, abstract; a story's index is its row
SPLIT.parquet       one row an impression: impression, user, time, history, liked, disliked,
                    candidates (story indices; lists of stories known have the oldest first),
                    clicked (null where there are no labels)
manifest.json       recipe, options, counts, faulty rows by reason, SHA-256 of each file, data_hash
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from app.scoring.wording import Reader, Story
from training.errors import TrainingError

MANIFEST = "manifest.json"
NEWS = "news.parquet"
BATCH = 10_000  # impressions held in memory at a time


@dataclass(frozen=True, slots=True)
class Impression:
    """What one reader was shown at once. clicked: one flag a candidate; None without labels."""

    id: str
    user: str
    reader: Reader
    candidates: list[Story]
    candidate_ids: list[str]
    clicked: list[bool] | None


def without_categories(impression: Impression) -> Impression:
    """The same, as a client tells it that knows titles only."""
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
            self.manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
            self.data_hash: str = self.manifest["data_hash"]
        except (OSError, ValueError, KeyError, TypeError):
            raise TrainingError(
                f"{folder} is not a prepared data set (no usable {MANIFEST}); "
                "make one with: python -m training prepare"
            ) from None

    def count(self, split: str) -> int:
        """Impressions of a split: train, val, or test where given."""
        return int(pl.scan_parquet(self._file(split)).select(pl.len()).collect().item())

    def impressions(self, split: str, limit: int | None = None) -> Iterator[Impression]:
        """The first `limit` impressions of a split (all without it), in the file's order."""
        rows = pl.scan_parquet(self._file(split))
        total = self.count(split) if limit is None else min(limit, self.count(split))
        for start in range(0, total, BATCH):
            part = rows.slice(start, min(BATCH, total - start)).collect()
            yield from to_impressions(part, self.stories, self.story_ids)

    @cached_property
    def stories(self) -> list[Story]:
        """All stories by index."""
        return to_stories(self._news)

    @cached_property
    def story_ids(self) -> list[str]:
        return self._news["id"].to_list()

    @cached_property
    def _news(self) -> pl.DataFrame:
        return pl.read_parquet(self.folder / NEWS)

    def _file(self, split: str) -> Path:
        file = self.folder / f"{split}.parquet"
        if not file.is_file():
            raise TrainingError(f"{self.folder} has no split {split!r}: {file.name} is not there")
        return file


def to_stories(news: pl.DataFrame) -> list[Story]:
    return [Story(title, category) for title, category in news.select("title", "category").rows()]


def to_impressions(
    rows: pl.DataFrame, stories: Sequence[Story], story_ids: Sequence[str]
) -> Iterator[Impression]:
    """Rows of a split file → impressions."""
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
