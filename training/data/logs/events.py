"""Logs with one row a story: shown or clicked, gathered into impressions, or clicks alone."""

import polars as pl

from training.data.catalogue import StoryIds
from training.data.faults import FileReport
from training.data.logs.cells import as_text
from training.data.logs.impressions import parse_facts
from training.data.logs.mapping import Mapping

STORY = pl.col("shown") // 2


def parse_events(
    rows: pl.DataFrame, ids: StoryIds, mapping: Mapping, report: FileReport
) -> pl.DataFrame:
    """One block: line, impression, user, time, shown (2 · story, + 1 if this row is a click) and
    `place`, where the log has positions. The first two may be null."""
    events, types = mapping.events, rows.schema
    rows = parse_facts(rows, mapping, report)
    named = as_text(pl.col("story"), types["story"])
    rows = rows.with_columns(named=named, index=named.cast(ids.one, strict=False).to_physical())
    if "label" in types:
        mark = pl.col("label").cast(pl.String).str.strip_chars().str.to_lowercase().fill_null("")
        rows = rows.with_columns(mark=mark).filter(~pl.col("mark").is_in(events.ignore))
        strange = ~pl.col("mark").is_in([*events.click, *events.view])
        rows = report.set_aside(rows, strange, "unknown label", pl.col("mark"))
        clicked = pl.col("mark").is_in(events.click)
    else:
        clicked = pl.lit(True)
    if "position" in types:
        place = pl.col("position").cast(pl.Float32, strict=False)
        rows = rows.with_columns(place=place)
        strange = (
            pl.col("place").is_null() & as_text(pl.col("position"), types["position"]).is_not_null()
        )
        rows = report.set_aside(rows, strange, "bad position", pl.col("position").cast(pl.String))
    rows = report.set_aside(rows, pl.col("index").is_null(), "unknown story", pl.col("named"))
    code = 2 * pl.col("index").cast(pl.UInt32) + clicked.cast(pl.UInt32)
    places = ["place"] if "position" in types else []
    return rows.select("line", "impression", "user", "time", *places, shown=code)


def as_clicks(rows: pl.DataFrame, name: str) -> pl.DataFrame:
    """Clicks without impressions, of one file, one row each: as gather_files returns them."""
    return rows.select(
        impression=pl.col("impression").fill_null(pl.col("line").cast(pl.String)),
        user=pl.col("user").fill_null(pl.format("anonymous {} {}", pl.lit(name), "line")),
        time="time",
        shown=pl.concat_list("shown"),
    )


def gather_block(rows: pl.DataFrame, report: FileReport) -> pl.DataFrame:
    """One row an impression of a block. Without impression ids, what a reader was shown at one
    moment is one; an anonymous row without one can't be placed and is set aside."""
    moment = pl.format("{} {}", "user", pl.col("time").dt.epoch("ms"))
    rows = rows.with_columns(pl.col("impression").fill_null(moment))
    lost = pl.col("impression").is_null()
    rows = report.set_aside(rows, lost, "no impression", pl.lit(""))
    return merge(rows.with_columns(readers=pl.lit(1, pl.UInt32)))


def merge(rows: pl.DataFrame) -> pl.DataFrame:
    """One row an impression, its stories by place, where there are places, and then as they come. A
    story is there once, and clicked if any of its rows is a click. readers: above 1 if there is
    more than one."""
    is_placed = "place" in rows.columns
    user = pl.col("user").drop_nulls()
    several = pl.max_horizontal(user.n_unique().cast(pl.UInt32), pl.col("readers").max())
    facts = [pl.col("line").first(), user.first(), pl.col("time").min(), several.alias("readers")]
    stories = rows.group_by("impression", STORY.alias("story"), maintain_order=True).agg(
        *facts, pl.col("shown").max(), *[pl.col("place").min()][:is_placed]
    )
    shown, place = pl.col("shown"), {"nulls_last": True, "maintain_order": True}
    if is_placed:
        shown = shown.sort_by("place", **place)
        facts.append(pl.col("place").sort(nulls_last=True).alias("places"))
    return stories.group_by("impression", maintain_order=True).agg(*facts, shown)


def gather(rows: pl.DataFrame) -> pl.DataFrame:
    """The impressions of all blocks: those that go on in a later block are put together."""
    again = rows["impression"].is_duplicated()
    if not again.any():
        return rows
    lists = [name for name in ("shown", "places") if name in rows.columns]
    flat = rows.filter(again).explode(lists).rename({"places": "place"}, strict=False)
    return pl.concat([rows.filter(~again), merge(flat)])


def finish(rows: pl.DataFrame, split: str, report: FileReport) -> pl.DataFrame:
    """impression, user, time and shown of gathered impressions, in the order of the file."""
    several = pl.col("readers") > 1
    rows = report.set_aside(rows, several, "several readers", pl.col("impression"))
    nobody = pl.format("anonymous {} {}", pl.lit(split), "impression")
    return rows.sort("line", maintain_order=True).select(
        "impression", pl.col("user").fill_null(nobody), "time", "shown"
    )
