"""What each reader clicked strictly earlier, from a file with their clicks and from the log."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from training.data.catalogue import StoryIds
from training.data.faults import FileReport
from training.data.logs.cells import as_list, as_text, as_time
from training.data.logs.impressions import note_unknown
from training.data.logs.mapping import Mapping
from training.data.logs.tables import Source
from training.data.samples import windows

CLICKS = {"reader": pl.UInt32(), "time": pl.Datetime("ms"), "story": pl.UInt32()}
"""Columns of clicks. reader: see number_readers. time: null for before all times."""
ROWS = 20_000
"""How many readers are read at a time."""


def clicks_of(rows: pl.DataFrame) -> pl.DataFrame:
    """The clicks in impressions: user, time and story."""
    element = pl.element()
    stories = pl.col("shown").list.eval(element.filter(element % 2 == 1) // 2)
    flat = rows.select("user", "time", story=stories)
    return flat.filter(pl.col("story").list.len() > 0).explode("story")


def read_clicks(
    source: Source,
    file: Path,
    report: FileReport,
    ids: StoryIds,
    readers: pl.DataFrame,
    mapping: Mapping,
) -> Iterator[pl.DataFrame]:
    """Blocks of the clicks of those readers in a file with lists by reader: columns as CLICKS."""
    for rows in source.blocks(file, report):
        types = rows.schema
        rows = rows.with_columns(user=as_text(pl.col("reader"), types["reader"]))
        rows = rows.drop("reader").join(readers, on="user", maintain_order="left")
        items = as_list(pl.col("stories"), types["stories"], mapping.list_separator)
        times = pl.lit(None, pl.Datetime("ms"))
        if "times" in types:
            times = times_of(pl.col("times"), types["times"], mapping)
            unequal = times.list.len() != items.list.len()
            found = pl.format("{} for {}", times.list.len(), items.list.len())
            rows = report.set_aside(rows, unequal, "lists do not match", found)
        rows = rows.select("line", "reader", items=items, time=times)
        stories = rows["items"].cast(ids.plain, strict=False)
        note_unknown(rows["line"], rows["items"], stories, mapping, report)
        flat = rows.select("reader", "time", story=stories).filter(pl.col("story").list.len() > 0)
        flat = flat.explode(["story", "time"] if "times" in types else "story")
        code = pl.col("story").to_physical().cast(pl.UInt32)
        yield flat.select("reader", "time", story=code).drop_nulls("story")


def times_of(cell: pl.Expr, dtype: pl.DataType, mapping: Mapping) -> pl.Expr:
    """A list of times, in UTC."""
    if isinstance(dtype, pl.List):
        inner = dtype.inner
        return cell.list.eval(
            as_time(pl.element(), inner, mapping.time_format, mapping.zone)  # type: ignore[arg-type]
        )
    texts = as_list(cell, dtype, mapping.list_separator)
    return texts.list.eval(as_time(pl.element(), pl.String(), mapping.time_format, mapping.zone))


def number_readers(rows: pl.DataFrame) -> pl.DataFrame:
    """user, reader (a number) and first (the earliest time) of all readers in impressions."""
    readers = rows.group_by("user", maintain_order=True).agg(first=pl.col("time").min())
    return readers.with_row_index("reader")


def keep_needed(clicks: pl.DataFrame, readers: pl.DataFrame, keep: int) -> pl.DataFrame:
    """Without clicks that no impression will see, because a history file may hold very many: of
    those before a reader's first impression only the last `keep` stories matter."""
    first = readers["first"].gather(clicks["reader"])
    old = clicks["time"].is_null() | (clicks["time"] < first)
    early = clicks.filter(old.fill_null(True)).sort("time", maintain_order=True)
    early = early.unique(["reader", "story"], keep="first", maintain_order=True)
    early = early.group_by("reader", maintain_order=True).tail(keep)
    return pl.concat([early, clicks.filter(~old.fill_null(True))])


def add_histories(
    rows: pl.DataFrame, readers: pl.DataFrame, clicks: pl.DataFrame, keep: int
) -> pl.DataFrame:
    """The impressions with `history`: the last `keep` stories that the reader clicked strictly
    earlier, oldest first. A story counts from its first click on, once. clicks: of each reader,
    those before the first impression of all are in order."""
    numbered = rows.select("user").join(readers, on="user", maintain_order="left")
    of_rows = numbered["reader"].to_numpy().astype(np.int64)
    times = rows["time"].dt.epoch("ms").to_numpy().astype(np.int64)
    first, last = (int(times.min()), int(times.max())) if len(times) else (0, 0)
    width = last - first + 3
    past = clicks["time"].dt.epoch("ms").fill_null(first - 1).clip(first - 1, last)
    line = clicks["reader"].cast(pl.Int64).to_numpy() * width + (past.to_numpy() - (first - 1))
    order = np.argsort(line, kind="stable")  # clicks before the first impression keep their order
    line, clicks = line[order], clicks.select("reader", "story")[order]
    pairs = clicks.select(pl.col("reader").cast(pl.UInt64) * 2**32 + pl.col("story"))
    fresh = pairs.to_series().is_first_distinct().to_numpy()
    line, stories = line[fresh], clicks["story"].to_numpy()[fresh]
    begin = np.searchsorted(line, of_rows * width)
    end = np.searchsorted(line, of_rows * width + (times - first + 1))
    lists = windows(stories, np.maximum(begin, end - keep), end, keep)
    return rows.with_columns(history=lists)
