"""What a prepared folder holds, in numbers and hashes: manifest.json and dropped.jsonl."""

import hashlib
import json
import operator
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from training.data.faults import FileReport

MANIFEST_FILE = "manifest.json"
DROPPED_FILE = "dropped.jsonl"
DRAWN = "the stories beside each click were drawn: the log does not say what was shown"


class Record(BaseModel):
    """A part of manifest.json. Fields that a file has beyond these are ignored."""

    model_config = ConfigDict(frozen=True)


class SplitCounts(Record):
    """A split in numbers. `clicks` and `positive_share` are None where there are no labels."""

    read: int
    """Impressions read of the split, before the recipe chose among them."""
    impressions: int
    readers: int
    """Different users."""
    candidates: int
    clicks: int | None
    """Clicked candidates."""
    positive_share: float | None
    """clicks / candidates, 0 to 1, rounded to 5 digits."""
    mean_history: float
    """Stories of a reader's history, mean over impressions; likewise the next two."""
    mean_liked: float
    mean_disliked: float
    first: str
    """Time of the earliest impression, YYYY-MM-DD HH:MM:SS, in the logs' own zone."""
    last: str
    """Time of the latest."""
    texts: int
    """Lines of the split's text file; 0 where it has none."""


class RowCounts(Record):
    """One input file in numbers."""

    rows: int
    """Lines of the file."""
    dropped: int
    """Faulty rows that were left out."""
    kept_in_part: int
    """Faulty rows that stayed without the part that was wrong."""
    reasons: dict[str, int]
    """Faulty rows by what is wrong with them."""
    unknown_history: int = Field(0, exclude_if=operator.not_)
    """Entries of histories that name no known story and were left out, which is no fault."""
    sha256: str
    """Hash of the file's bytes, in hex."""


class FileFacts(Record):
    """One file of the prepared folder."""

    bytes: int
    sha256: str
    """Hash of the file's bytes, in hex."""


class Manifest(Record):
    """manifest.json. It holds no time and no path, so that the same input, options and seed give
    the same bytes. Only `data_hash` must be there in a file that is read."""

    recipe: str = ""
    """temporal or original."""
    seed: int = 0
    options: dict[str, int | str] = {}
    """The recipe's own options by name; see training.data.options.Temporal."""
    stories: int = 0
    """Rows of news.parquet."""
    splits: dict[str, SplitCounts] = {}
    """By name: train, val and, where it was given, test."""
    drawn: bool = Field(False, exclude_if=operator.not_)
    """Whether candidates beside the clicks were drawn, because the log does not say what was shown.
    """
    rows: dict[str, RowCounts] = {}
    """Input files by split and name, such as train/news.tsv."""
    files: dict[str, FileFacts] = {}
    """The other files of the folder, by name."""
    data_hash: str
    """SHA-256, in hex, over the names and hashes of `files`: what a model was trained on."""

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Raises OSError, and ValueError for a file of something else."""
        return cls.model_validate_json((folder / MANIFEST_FILE).read_bytes())

    def write(self, folder: Path) -> None:
        """Write manifest.json into `folder`. Raises OSError."""
        text = json.dumps(self.model_dump(), indent=2, ensure_ascii=False)
        (folder / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8")

    def summary(self, out: Path) -> str:
        """For people: what was made in `out`, and what was wrong with the input."""
        lines = [f"{out} is ready: recipe {self.recipe}, {self.stories:,} stories"]
        for split, counts in self.splits.items():
            share = counts.positive_share
            labels = "no labels" if share is None else f"{share:.1%} clicked"
            lines.append(
                f"  {split:5} {counts.impressions:>9,} impressions {counts.candidates:>11,}"
                f" candidates ({labels}), mean history {counts.mean_history:.1f},"
                f" liked {counts.mean_liked:.1f}, {counts.texts:,} as text"
            )
        if self.drawn:
            lines.append(f"  {DRAWN}")
        for name, rows in self.rows.items():
            if rows.unknown_history:
                lines.append(
                    f"  {name}: {rows.unknown_history:,} entries of histories are of unknown"
                    " stories and were left out"
                )
        faulty = {name: rows for name, rows in self.rows.items() if rows.reasons}
        for name, rows in faulty.items():
            wrong = "; ".join(f"{reason} {count:,}" for reason, count in rows.reasons.items())
            lines.append(
                f"  {name}: of {rows.rows:,} rows {rows.dropped:,} dropped, "
                f"{rows.kept_in_part:,} kept in part ({wrong})"
            )
        if faulty:
            lines.append(f"  each faulty row is named in {out / DROPPED_FILE}")
        return "\n".join(lines)


def count_split(rows: pl.DataFrame, read: int, texts: int) -> SplitCounts:
    """Count a split's rows. read: impressions before the recipe; texts: lines of its text file."""
    labelled = rows["clicked"].null_count() == 0
    candidates = int(rows["candidates"].list.len().sum())
    clicks = int(rows["clicked"].list.sum().sum()) if labelled else None
    share = None if clicks is None else round(clicks / candidates, 5) if candidates else 0.0
    history, liked, disliked = (
        round(float(rows.select(pl.col(name).list.len().mean()).item() or 0), 3)
        for name in ("history", "liked", "disliked")
    )
    return SplitCounts(
        read=read,
        impressions=len(rows),
        readers=rows["user"].n_unique(),
        candidates=candidates,
        clicks=clicks,
        positive_share=share,
        mean_history=history,
        mean_liked=liked,
        mean_disliked=disliked,
        first=str(rows["time"].min()),
        last=str(rows["time"].max()),
        texts=texts,
    )


def count_rows(reports: Iterable[FileReport]) -> dict[str, RowCounts]:
    """The input files in numbers, by name."""
    return {
        report.name: RowCounts(
            rows=report.rows,
            dropped=sum(not fault.kept for fault in report.faults),
            kept_in_part=sum(fault.kept for fault in report.faults),
            reasons=report.reasons(),
            unknown_history=report.unknown_history,
            sha256=report.sha256,
        )
        for report in reports
    }


def write_faults(file: Path, reports: Iterable[FileReport]) -> None:
    """One line for each faulty row: file, line (from 1), reason, detail, whether it was kept."""
    with file.open("w", encoding="utf-8") as lines:
        for report in reports:
            for fault in sorted(report.faults, key=lambda fault: fault.line):
                lines.write(json.dumps(asdict(fault), ensure_ascii=False) + "\n")


def describe_files(folder: Path) -> dict[str, FileFacts]:
    """The size and hash of each file in `folder`, by name in order."""
    found = {}
    for file in sorted(folder.iterdir()):
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256")
        found[file.name] = FileFacts(bytes=file.stat().st_size, sha256=digest.hexdigest())
    return found


def hash_files(files: Mapping[str, FileFacts]) -> str:
    """One hash for a whole folder."""
    hashes = "".join(f"{name} {file.sha256}\n" for name, file in files.items())
    return hashlib.sha256(hashes.encode()).hexdigest()
