"""The example data set as a site may keep it: in other formats, and other rows."""

import csv
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from tests.support.models import MIND

NEWS = ("id", "category", "subcategory", "title", "abstract")
Rows = Sequence[dict[str, Any]]


def stories(split: str = "train") -> list[dict[str, Any]]:
    """The stories of a split of the example data set; "" for what is missing."""
    lines = (MIND / split / "news.tsv").read_text(encoding="utf-8").splitlines()
    return [dict(zip(NEWS, line.split("\t"), strict=False)) for line in lines]


def impressions(split: str = "train") -> list[dict[str, Any]]:
    """Its impressions: number, user, when (a time), past, shown and clicked (lists of ids)."""
    found = []
    for line in (MIND / split / "behaviors.tsv").read_text(encoding="utf-8").splitlines():
        number, user, when, past, shown = line.split("\t")
        items = [item.rpartition("-") for item in shown.split()]
        found.append(
            {
                "number": int(number),
                "user": user,
                "when": datetime.strptime(when, "%m/%d/%Y %I:%M:%S %p"),
                "past": past.split(),
                "shown": [story for story, _, _ in items],
                "clicked": [story for story, _, label in items if label == "1"],
            }
        )
    return found


def write_csv(file: Path, rows: Rows) -> None:
    """Lists are joined by spaces."""
    with file.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, rows[0])
        writer.writeheader()
        for row in rows:
            texts = {k: " ".join(map(str, v)) if isinstance(v, list) else v for k, v in row.items()}
            writer.writerow(texts)


def write_jsonl(file: Path, rows: Rows) -> None:
    """Times in ISO's form."""
    lines = (json.dumps(row, ensure_ascii=False, default=str) for row in rows)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_parquet(file: Path, rows: Rows) -> None:
    pl.DataFrame(rows).write_parquet(file)


WRITERS: dict[str, Callable[[Path, Rows], None]] = {
    "csv": write_csv,
    "jsonl": write_jsonl,
    "parquet": write_parquet,
}


def write_mapping(folder: Path, mapping: dict[str, Any]) -> Path:
    """log.yaml of the folder."""
    file = folder / "log.yaml"
    file.write_text(yaml.safe_dump(mapping, allow_unicode=True), encoding="utf-8")
    return file


def mapping_of(kind: str, **events: Any) -> dict[str, Any]:
    """For the columns that stories and impressions have, without a history; null leaves one out."""
    columns = {"impression": "number", "reader": "user", "time": "when"} | events
    return {
        "stories": {"file": f"stories.{kind}", **{name: name for name in NEWS}},
        "events": {"file": f"events.{kind}", **{k: v for k, v in columns.items() if v is not None}},
    }
