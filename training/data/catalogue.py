"""The stories of a data set: their table, and their ids as row numbers of it."""

from collections.abc import Sequence
from functools import cached_property

import polars as pl

TEXTS = ("title", "category", "subcategory", "abstract")
"""The columns of the table beside `id`; null where they are not known, which a title always is."""


class StoryIds:
    """Maps story ids to row numbers of the table, by polars' own dictionary encoding."""

    def __init__(self, ids: pl.Series) -> None:
        self.ids = ids
        self.known = frozenset(ids)
        self.one = pl.Enum(ids)
        self.plain = pl.List(self.one)

    @cached_property
    def labelled(self) -> pl.List:
        """One lookup for id and label together: the code of "N7-1" is 2 · (index of N7) + 1."""
        return pl.List(pl.Enum([f"{i}-{label}" for i in self.ids for label in "01"]))


def merge_stories(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The stories of several tables. Of a story that is in several, the first row counts."""
    return pl.concat(parts).unique("id", keep="first", maintain_order=True)
