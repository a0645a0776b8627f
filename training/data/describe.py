"""What is understood of a log's first rows, as text to read before anything is written."""

from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from training.data.catalogue import StoryIds, merge_stories
from training.data.click_log import ClickLog, open_log
from training.data.faults import FileReport
from training.data.logs.histories import clicks_of
from training.data.logs.site import SiteLog
from training.data.manifest import DRAWN
from training.data.options import PrepareOptions
from training.data.prepared import to_stories

SHOWN = 3
"""How many stories and impressions are printed."""
TITLES = 5
"""How many titles of a list are printed."""


def describe(options: PrepareOptions, rows: int) -> str:
    """What prepare would understand of each folder, reading its stories and the first `rows` rows
    of its events. Raises TrainingError for what can't be read at all; faulty rows are told."""
    parts = []
    for split, folder in options.folders().items():
        log = open_log(folder, split, options.log, rows)
        kind = log.mapping_name if isinstance(log, SiteLog) else "MIND's layout"
        parts.append(f"{split}: {folder}, read by {kind}")
        parts += describe_log(log, options, rows)
    return "\n".join([*parts, "nothing was written"])


def describe_log(log: ClickLog, options: PrepareOptions, rows: int) -> Iterator[str]:
    """One folder, in lines."""
    stories, reports = log.read_stories(1.0)
    stories = merge_stories([stories])
    yield f"  {len(stories):,} stories, such as"
    for story in stories.head(SHOWN).iter_rows(named=True):
        category = " / ".join(filter(None, (story["category"], story["subcategory"])))
        yield f"    {story['id']}: {story['title']!r}" + (f" ({category})" if category else "")
    ids = StoryIds(stories["id"])
    found, of_events = log.read_impressions(ids, options.recipe.history, 1.0)
    reports += of_events
    if isinstance(log, SiteLog):
        yield from (f"  {line}" for line in [*log.columns(), log.first_time()])
        if log.builds_history:
            clicks = clicks_of(found.filter("labelled"))
            found, past = log.add_history(found, clicks, ids, options.recipe.history, 1.0)
            reports += past
        if log.is_drawn:
            yield f"  {DRAWN}"
    yield from count(found, sum(report.rows for report in of_events))
    titles = [story.title for story in to_stories(stories)]
    for impression in choose(found).iter_rows(named=True):
        yield from describe_impression(impression, titles)
    yield from describe_faults(reports)


def count(rows: pl.DataFrame, read: int) -> Iterator[str]:
    """Impressions in numbers. read: rows of the files."""
    yield f"  the first {read:,} rows of events give {len(rows):,} impressions"
    if rows.is_empty():
        return
    nobody = rows["user"].str.starts_with("anonymous ").sum()
    candidates = int(rows["shown"].list.len().sum())
    clicks = len(clicks_of(rows)) if rows["labelled"].all() else 0
    first, last = (str(time) for time in (rows["time"].min(), rows["time"].max()))
    yield (
        f"  from {first} to {last}, {rows['user'].n_unique():,} readers"
        f" ({nobody:,} impressions are anonymous), {candidates:,} stories shown, {clicks:,} clicked"
    )


def choose(rows: pl.DataFrame) -> pl.DataFrame:
    """A few impressions: rather with clicks, and rather with a history."""
    clicked = pl.col("shown").list.eval(pl.element() % 2 == 1).list.any()
    known = pl.col("history").list.len() > 0
    keys = rows.select(clicked=clicked & pl.col("labelled"), known=known)
    order = keys.with_row_index("row").sort(
        "clicked", "known", "row", descending=[True, True, False]
    )
    return rows[order["row"].head(SHOWN)]


def describe_impression(row: dict[str, Any], titles: Sequence[str]) -> Iterator[str]:
    """One impression in lines."""
    yield f"  impression {row['impression']}: reader {row['user']}, {row['time']}"
    history, codes = row["history"], row["shown"]
    yield f"    history, the latest last: {name([titles[i] for i in history], latest=True)}"
    if not row["labelled"]:
        yield f"    shown, without labels: {name([titles[code // 2] for code in codes])}"
        return
    for word, label in (("clicked", 1), ("not clicked", 0)):
        yield f"    {word}: {name([titles[code // 2] for code in codes if code % 2 == label])}"


def name(titles: Sequence[str], latest: bool = False) -> str:
    """Titles in a line, not too many."""
    shown = [repr(title) for title in (titles[-TITLES:] if latest else titles[:TITLES])]
    more = f"{len(titles) - len(shown):,} more"
    if len(titles) > len(shown):
        shown.insert(0 if latest else len(shown), more)
    return ", ".join(shown) or "none"


def describe_faults(reports: Sequence[FileReport]) -> Iterator[str]:
    """What is wrong with the rows, by file."""
    for report in reports:
        if report.unknown_history:
            yield f"  {report.name}: {report.unknown_history:,} entries of histories are unknown"
        if report.faults:
            yield (
                f"  {report.name}: {len(report.faults):,} of {report.rows:,} rows are faulty:"
                f" {report.where()}"
            )
