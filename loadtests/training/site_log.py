"""Measure the time and memory that `training prepare` needs for a site's own log, by format.

  python -m loadtests.training.site_log --impressions 1000000

Writes an invented log of 100,000 stories, three impressions a reader and 20 to 54 stories an
impression in MIND's files, in CSV, JSONL and Parquet with a row an impression, in Parquet with a
row a story shown, in Parquet with a history file of 100 clicks a reader, and in Parquet with its
clicks alone. `prepare` runs on each in a process of its own. Prints a table and one line of JSON.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl

from loadtests.training.prepare import run_measured

PART = 25_000
"""How many impressions are made at a time."""
PAST = 100
SHOWN = (20, 55)
DAYS_MS = 7 * 24 * 3_600_000
START_MS = 1_793_491_200_000  # 2026-11-01, UTC
TABLES = "stories: {file: stories.parquet, id: id, title: title, category: category}\n"
LISTS = (
    TABLES + "events: {file: FILE, impression: id, reader: reader, time: time,"
    " shown: shown, clicked: clicked}\n"
)
MAPPINGS = {
    name: LISTS.replace("FILE", f"events.{name}") for name in ("csv", "jsonl", "parquet")
} | {
    "stories shown": TABLES + "events: {file: shown.parquet, impression: id, reader: reader,"
    " time: time, story: shown, label: label}\n",
    "history": LISTS.replace("FILE", "events.history, format: parquet")
    + "history: {file: past.parquet, reader: reader, stories: stories, times: times}\n",
    "clicks": TABLES + "events: {file: clicks.parquet, reader: reader, time: time,"
    " story: clicked}\n",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.training.site_log",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--impressions", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--stories", type=int, default=100_000, metavar="N")
    parser.add_argument(
        "--formats",
        default="MIND," + ",".join(MAPPINGS),
        help="comma-separated (all: %(default)s)",
    )
    parser.add_argument("--work", type=Path, help="folder for 3 GB (default: a temporary one)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        measure(Path(work), options)


def measure(work: Path, options: argparse.Namespace) -> None:
    """Write the log and prepare each format of it."""
    impressions, stories, formats = options.impressions, options.stories, options.formats.split(",")
    (work / "mind").mkdir()
    write_stories(work, stories)
    if "history" in formats:
        write_past(work, max(1, impressions // 3), stories)
    parts = work / "parts"
    parts.mkdir()
    for number, part in enumerate(make_parts(impressions, stories)):
        part.write_parquet(parts / f"{number:05}.parquet")
    results = {}
    for name in formats:
        folder = work / "mind" if name == "MIND" else work
        command = [sys.executable, "-m", "training", "prepare", "--train", str(folder)]
        command += ["--out", str(work / "out"), "--text-samples", "0"]
        if name in MAPPINGS:
            (work / "log.yaml").write_text(MAPPINGS[name])
        file = write_events(work, parts, name)
        results[name] = run_measured(command) | {"gb": round(file.stat().st_size / 1e9, 3)}
        file.unlink()
        found = results[name]
        print(
            f"{name:14} {found['gb']:6.2f} GB {found['seconds']:7.1f} s"
            f" peak {found['peak_gib']:5.2f} GiB",
            flush=True,
        )
    print(json.dumps({"impressions": impressions, "stories": stories, **results}))


def write_stories(work: Path, stories: int) -> None:
    """Titles of ten invented words."""
    random = np.random.default_rng(0)
    words = np.array([f"word{n}" for n in range(5000)])
    titles = [" ".join(line) for line in words[random.integers(0, 5000, (stories, 10))]]
    ids = [f"N{n}" for n in range(stories)]
    news = pl.DataFrame(
        {"id": ids, "title": titles, "category": words[random.integers(0, 20, stories)]}
    )
    news.write_parquet(work / "stories.parquet")
    lines = news.select(pl.format("{}\t{}\t\t{}\t\t\t\t", "id", "category", "title"))
    (work / "mind" / "news.tsv").write_text("\n".join(lines.to_series()) + "\n")


def write_past(work: Path, readers: int, stories: int) -> None:
    """PAST clicks of each reader, in the hours before the log."""
    random = np.random.default_rng(2)
    when = START_MS - np.arange(PAST, 0, -1) * 3_600_000
    parts = work / "past"
    parts.mkdir()
    for start in range(0, readers, PART):
        count = min(PART, readers - start)
        clicked = pl.Series(random.integers(0, stories, (count, PAST))).arr.to_list()
        times = pl.Series([when]).new_from_index(0, count).cast(pl.List(pl.Datetime("ms")))
        rows = {"reader": start + np.arange(count), "stories": clicked, "times": times}
        rows["stories"] = clicked.list.eval(pl.format("N{}", pl.element()))
        pl.DataFrame(rows).write_parquet(parts / f"{start:09}.parquet")
    pl.scan_parquet(parts / "*.parquet").sink_parquet(work / "past.parquet")


def make_parts(impressions: int, stories: int) -> Iterator[pl.DataFrame]:
    """id, reader, time, shown and clicked, in the order of time."""
    random = np.random.default_rng(1)
    for start in range(0, impressions, PART):
        count = min(PART, impressions - start)
        sizes = random.integers(*SHOWN, count)
        row = np.repeat(np.arange(count), sizes)
        story = random.integers(0, stories, len(row))
        first = np.append(True, row[1:] != row[:-1])
        flat = pl.DataFrame({"row": row, "story": story, "first": first})
        item = pl.format("N{}", "story")
        lists = flat.group_by("row", maintain_order=True).agg(
            shown=item, clicked=item.filter(pl.col("first"))
        )
        times = START_MS + (start + np.arange(count)) * DAYS_MS // impressions
        readers = random.integers(0, max(1, impressions // 3), count)
        facts = pl.DataFrame({"id": start + np.arange(count), "reader": readers, "time": times})
        facts = facts.with_columns(pl.col("time").cast(pl.Datetime("ms")))
        yield facts.hstack(lists.drop("row"))


def write_events(work: Path, parts: Path, name: str) -> Path:
    """The log's events in one of the formats; a part at a time."""
    rows = pl.scan_parquet(parts / "*.parquet")
    texts = [pl.col(column).list.join(" ") for column in ("shown", "clicked")]
    file = work / f"events.{name}"
    write: Callable[[Path], object]
    if name == "csv":
        write = rows.with_columns(texts).sink_csv
    elif name == "jsonl":
        write = rows.with_columns(pl.col("time").dt.to_string("iso")).sink_ndjson
    elif name in ("parquet", "history"):
        write = rows.sink_parquet
    elif name == "clicks":
        file = work / "clicks.parquet"
        write = rows.explode("clicked").drop("shown").sink_parquet
    elif name == "stories shown":
        file = work / "shown.parquet"
        flat = rows.explode("shown").with_columns(
            label=pl.col("clicked").list.first() == pl.col("shown")
        )
        write = flat.drop("clicked").sink_parquet
    else:
        return write_mind(work / "mind" / "behaviors.tsv", parts)
    write(file)
    return file


def write_mind(file: Path, parts: Path) -> Path:
    """behaviors.tsv, without histories."""
    mark = pl.format("{}-{}", pl.element(), pl.int_range(pl.len()).eq(0).cast(int))
    items = pl.col("shown").list.eval(mark).list.join(" ")
    when = pl.col("time").dt.strftime("%m/%d/%Y %I:%M:%S %p")
    with file.open("w") as lines:
        for part in sorted(parts.iterdir()):
            rows = pl.read_parquet(part)
            line = pl.format("{}\tU{}\t{}\t\t{}", "id", "reader", when, items)
            lines.write("\n".join(rows.select(line).to_series()) + "\n")
    return file


if __name__ == "__main__":
    main()
