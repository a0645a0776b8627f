"""A prepared folder's log, read in parts, so that it need not fit into memory."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from training.metrics import Flags
from training.ranking.earlier import Ints, starts

TIME_FORMAT = "%Y-%m-%dT%H:%M:%S"
KEY = pl.format("{} {} {}", "impression", "user", pl.col("time").dt.strftime(TIME_FORMAT))
"""Tells an impression from all others. Its own id does not: each folder of MIND counts from 1."""
PART_EVENTS = 500_000
"""How many candidates a part holds at most, unless one moment has more."""
ROWS_AT_ONCE = 100_000
"""How many impressions are read at a time where only few columns are needed."""


@dataclass(frozen=True, slots=True)
class Lists:
    """Lists of story indices, one after the other. values: [entries]; sizes: [lists]."""

    values: Ints
    sizes: Ints

    def rows(self) -> Ints:
        """The number of the list that each entry is of, [entries]."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)

    def split(self) -> list[Ints]:
        """Each list by itself."""
        return np.split(self.values, np.cumsum(self.sizes)[:-1])


@dataclass(frozen=True, slots=True)
class Part:
    """Impressions start to end of the log. shown: their candidates. clicked: [candidates], all
    False where there are no labels."""

    start: int
    end: int
    shown: Lists
    clicked: Flags


class Log:
    """times: in milliseconds, [impressions]. sizes: candidates of each impression. labelled: which
    have labels. users: a number for each reader, [impressions]."""

    def __init__(self, rows: pl.LazyFrame) -> None:
        """rows: as PreparedData.log returns them."""
        self.rows = rows
        facts = rows.select(
            pl.col("time").dt.epoch("ms"),
            size=pl.col("candidates").list.len(),
            labelled=pl.col("clicked").is_not_null(),
            user=pl.col("user").cast(pl.Categorical).to_physical(),
        ).collect(engine="streaming")
        self.times = facts["time"].to_numpy().astype(np.int64)
        self.sizes = facts["size"].to_numpy().astype(np.int64)
        self.labelled: Flags = facts["labelled"].to_numpy()
        self.users = facts["user"].to_numpy()

    def __len__(self) -> int:
        return len(self.times)

    def keys(self) -> pl.Series:
        """All impressions' keys; see KEY."""
        return self.rows.select(KEY.alias("key")).collect(engine="streaming")["key"]

    def parts(self, longest_ms: int) -> Iterator[Part]:
        """The whole log in the order of time. A part holds no more than PART_EVENTS candidates and
        `longest_ms`, but impressions of one moment are never in two."""
        begins = np.flatnonzero(starts(self.times))  # of moments
        bounds = np.append(begins, len(self))
        events = np.append(0, np.cumsum(self.sizes))[bounds]
        moment = 0
        while moment < len(begins):
            full = np.searchsorted(events, events[moment] + PART_EVENTS, "right") - 1
            late = np.searchsorted(self.times[begins], self.times[begins[moment]] + longest_ms)
            after = max(moment + 1, int(min(full, late)))
            yield self.read(int(bounds[moment]), int(bounds[after]))
            moment = after

    def read(self, start: int, end: int) -> Part:
        """One part."""
        rows = self._slice(start, end, "candidates", "clicked")
        shown = flat(rows["candidates"])
        if not self.labelled[start:end].any():
            return Part(start, end, shown, np.zeros(len(shown.values), np.bool_))
        clicked = np.zeros(len(shown.values), np.bool_)
        known = np.repeat(self.labelled[start:end], shown.sizes)
        clicked[known] = rows["clicked"].drop_nulls().explode().drop_nulls().to_numpy()
        return Part(start, end, shown, clicked)

    def lists(self, part: Part, kept: Flags, *names: str) -> list[Lists]:
        """Columns of lists of a part's kept impressions; kept: [impressions of the part]."""
        rows = self._slice(part.start, part.end, *names).filter(pl.Series(kept))
        return [flat(rows[name]) for name in names]

    def used_stories(self, stories: int) -> Ints:
        """The indices of all stories that the log names. stories: how many there are."""
        used = np.zeros(stories, np.bool_)
        for start in range(0, len(self), ROWS_AT_ONCE):
            rows = self._slice(start, start + ROWS_AT_ONCE, "history", "candidates")
            for name in rows.columns:
                used[flat(rows[name]).values] = True
        return np.flatnonzero(used)

    def _slice(self, start: int, end: int, *names: str) -> pl.DataFrame:
        return self.rows.slice(start, end - start).select(names).collect()


def flat(lists: pl.Series) -> Lists:
    """A column of lists, without empty entries."""
    values: NDArray[np.uint32] = lists.explode().drop_nulls().to_numpy()
    return Lists(values.astype(np.int64), lists.list.len().to_numpy().astype(np.int64))
