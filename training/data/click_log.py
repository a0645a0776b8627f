"""A split's click log: MIND's files, or a site's own, which a mapping describes."""

from pathlib import Path
from typing import Protocol

import polars as pl

from training.data.catalogue import StoryIds
from training.data.faults import FileReport
from training.data.logs.mapping import MAPPING_FILE, read_mapping
from training.data.logs.site import SiteLog
from training.data.mind import MindLog


class ClickLog(Protocol):
    """What a folder holds. Both kinds give the same tables."""

    def read_stories(self, max_bad_share: float) -> tuple[pl.DataFrame, list[FileReport]]:
        """id, title, category, subcategory, abstract. Raises TrainingError."""
        ...

    def read_impressions(
        self, ids: StoryIds, history: int, max_bad_share: float
    ) -> tuple[pl.DataFrame, list[FileReport]]:
        """See training.data.mind.read_behaviors. Raises TrainingError."""
        ...

    def no_labels(self, story: str) -> str:
        """What to do about a log without labels. story: an id that was shown."""
        ...


def open_log(folder: Path, split: str, mapping: Path | None, limit: int | None = None) -> ClickLog:
    """The log in `folder`, read by `mapping`; without one by the folder's own log.yaml, and without
    that as MIND's. limit: only so many rows of events. Raises TrainingError for a mapping that
    can't be used."""
    own = folder / MAPPING_FILE
    file = mapping if mapping is not None else own if own.is_file() else None
    if file is None:
        return MindLog(folder, split, limit)
    return SiteLog(folder, split, read_mapping(file), file, limit)
