"""Logs with one row an impression: lists of what was shown, and of what was clicked."""

import re

import polars as pl

from training.data.catalogue import StoryIds
from training.data.faults import FileReport
from training.data.logs.cells import as_list, as_text, as_time
from training.data.logs.mapping import Events, Mapping
from training.errors import TrainingError

YEARS = (pl.datetime(1990, 1, 1), pl.datetime(2100, 1, 1))
"""Times before and after are misread."""
CODES = pl.List(pl.UInt32)


def parse_facts(rows: pl.DataFrame, mapping: Mapping, report: FileReport) -> pl.DataFrame:
    """The rows with `impression` (null if there is none), `user` (likewise) and `time`, UTC. Those
    without a time are set aside."""
    events, types = mapping.events, rows.schema
    facts = [
        as_text(pl.col(role), types[role]).alias(name)
        if role in types
        else pl.lit(None, pl.String).alias(name)
        for role, name in (("impression", "impression"), ("reader", "user"))
    ]
    raw = pl.col("time").cast(pl.String)
    when = as_time(pl.col("time"), types["time"], mapping.time_format, mapping.zone)
    rows = rows.with_columns(*facts, time=when, raw=raw)
    if events.anonymous:
        nobody = pl.col("user").is_in(events.anonymous)
        rows = rows.with_columns(user=pl.when(~nobody).then("user"))
    plausible = pl.col("time").is_between(*YEARS)
    return report.set_aside(rows, ~plausible, "bad time", pl.col("raw"))


def parse_impressions(
    rows: pl.DataFrame, ids: StoryIds, mapping: Mapping, history: int, report: FileReport
) -> pl.DataFrame:
    """One block: impression, user, time, history (the last `history` stories), shown, as
    training.data.mind.read_behaviors returns them. Raises TrainingError for unknown stories in
    histories where the mapping says so."""
    events, types = mapping.events, rows.schema
    rows = parse_facts(rows, mapping, report)
    lists = [
        as_list(pl.col(role), types[role], mapping.list_separator).alias(role)
        for role in ("shown", "clicked", "labels", "history")
        if role in types
    ]
    rows = rows.with_columns(lists)
    rows = report.set_aside(rows, pl.col("shown").list.len() == 0, "no candidates", pl.lit(""))
    flat = label(rows, events, report)
    flat = flat.with_columns(story=pl.col("item").cast(ids.one, strict=False).to_physical())
    flat = drop_lines(flat, flat.filter(pl.col("story").is_null()), "unknown story", "item", report)
    if "clicked" in types:
        flat = add_clicks(rows, flat, ids, report)
    code = 2 * pl.col("story").cast(pl.UInt32) + pl.col("clicked").cast(pl.UInt32)
    shown = flat.group_by("line", maintain_order=True).agg(shown=code)
    rows = rows.drop("shown").join(shown, on="line", maintain_order="left")
    return rows.select(
        impression=pl.col("impression").fill_null(pl.col("line").cast(pl.String)),
        user=pl.col("user").fill_null(pl.format("anonymous {} {}", pl.lit(report.name), "line")),
        time="time",
        history=past_of(rows, ids, mapping, history, report),
        shown="shown",
    )


def label(rows: pl.DataFrame, events: Events, report: FileReport) -> pl.DataFrame:
    """line, item and clicked (False where another column says it) of every story shown."""
    if events.labels is not None and "labels" in rows.columns:
        unequal = pl.col("labels").list.len() != pl.col("shown").list.len()
        found = pl.format("{} for {}", pl.col("labels").list.len(), pl.col("shown").list.len())
        rows = report.set_aside(rows, unequal, "labels do not match", found)
        flat = rows.select("line", item="shown", mark="labels").explode("item", "mark")
    elif events.label_mark is not None:
        pattern = f"^(.*){re.escape(events.label_mark)}(.*)$"
        item = pl.col("shown").str
        flat = rows.select("line", "shown").explode("shown")
        flat = flat.select("line", item=item.extract(pattern, 1), mark=item.extract(pattern, 2))
        flat = flat.with_columns(pl.col("mark").fill_null("no label"))
    else:
        flat = rows.select("line", item="shown").explode("item")
        return flat.with_columns(clicked=pl.lit(False))
    mark = pl.col("mark").str.to_lowercase()
    strange = flat.filter(~mark.is_in([*events.click, *events.view]))
    flat = drop_lines(flat, strange, "unknown label", "mark", report)
    return flat.with_columns(clicked=mark.is_in(events.click))


def add_clicks(
    rows: pl.DataFrame, flat: pl.DataFrame, ids: StoryIds, report: FileReport
) -> pl.DataFrame:
    """Set `clicked` by the rows' own lists."""
    clicks = rows.select("line", item="clicked").explode("item").drop_nulls().unique()
    clicks = clicks.filter(pl.col("line").is_in(flat["line"].unique().implode()))
    clicks = clicks.with_columns(story=pl.col("item").cast(ids.one, strict=False).to_physical())
    keys = ["line", "story"]
    lost = clicks.join(flat, on=keys, how="anti").sort("line")
    flat = drop_lines(flat, lost, "clicked but not shown", "item", report)
    marks = clicks.select(*keys, found=pl.lit(True))
    joined = flat.join(marks, on=keys, how="left", maintain_order="left")
    return joined.with_columns(clicked=pl.col("found").fill_null(False)).drop("found")


def drop_lines(
    flat: pl.DataFrame, bad: pl.DataFrame, reason: str, detail: str, report: FileReport
) -> pl.DataFrame:
    """Note the rows that have a bad item, by the first of them, and return the others' items."""
    if bad.is_empty():
        return flat
    first = bad.unique("line", keep="first", maintain_order=True)
    for line, text in first.select("line", detail).iter_rows():
        report.add(line, reason, text or "")
    return flat.join(first, on="line", how="anti", maintain_order="left")


def past_of(
    rows: pl.DataFrame, ids: StoryIds, mapping: Mapping, history: int, report: FileReport
) -> pl.Series | pl.Expr:
    """The column `history` as indices; without one, empty lists."""
    if "history" not in rows.columns:
        return pl.lit([], dtype=CODES)
    texts = rows["history"].list.tail(history)
    past = texts.cast(ids.plain, strict=False)
    note_unknown(rows["line"], texts, past, mapping, report)
    known = past.list.drop_nulls()
    return known.list.eval(pl.element().to_physical().cast(pl.UInt32))


def note_unknown(
    lines: pl.Series, texts: pl.Series, stories: pl.Series, mapping: Mapping, report: FileReport
) -> None:
    """Count the stories that no file has, or raise TrainingError for the first of them."""
    lost = stories.list.len() - stories.list.drop_nulls().list.len()
    count = int(lost.sum() or 0)
    report.unknown_history += count
    if count and mapping.unknown_history == "error":
        row = int((lost > 0).arg_max() or 0)
        known = set(stories[row].drop_nulls().cast(pl.String))
        item = next(text for text in texts[row] if text not in known)
        raise TrainingError(
            f"{report.name}: {report.unit} {lines[row]}: the history names {item!r}, which no row"
            f" of {mapping.stories.file} has; add it, or set unknown_history to drop"
        )
