"""The stories of a site's log."""

from pathlib import Path

import polars as pl

from training.data.catalogue import TEXTS
from training.data.faults import FileReport
from training.data.logs.cells import as_text
from training.data.logs.mapping import Mapping
from training.data.logs.reports import make_report
from training.data.logs.tables import Source

SCHEMA = {name: pl.String() for name in ("line", "id", *TEXTS)} | {"line": pl.Int64()}


def read_stories(
    source: Source, file: Path, name: str, mapping: Mapping, max_bad_share: float
) -> tuple[pl.DataFrame, FileReport]:
    """The stories of one file: id and TEXTS. `name` names the file in the report.

    Raises TrainingError for columns that are not there and for too many faulty rows.
    """
    report = make_report(name, mapping)
    parts = [pl.DataFrame(schema=SCHEMA)]
    for rows in source.blocks(file, report):
        texts = [
            as_text(pl.col(role), rows.schema[role]).alias(role)
            if role in rows.columns
            else pl.lit(None, pl.String).alias(role)
            for role in ("id", *TEXTS)
        ]
        rows = rows.select("line", *texts)
        rows = report.set_aside(rows, pl.col("id").is_null(), "missing story id", pl.col("title"))
        parts.append(report.set_aside(rows, pl.col("title").is_null(), "empty title", pl.col("id")))
    stories = pl.concat(parts)
    repeated = ~pl.col("id").is_first_distinct()
    stories = report.set_aside(stories, repeated, "repeated story id", pl.col("id"))
    report.check(max_bad_share)
    return stories.drop("line"), report
