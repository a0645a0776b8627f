"""What a prepared folder holds, in numbers and hashes: manifest.json and dropped.jsonl."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from training.data.mind import FileReport
from training.data.prepared import MANIFEST

DROPPED = "dropped.jsonl"


def count_split(rows: pl.DataFrame, texts: int) -> dict[str, Any]:
    """Counts, share of positives and mean list lengths of one split; `texts`: its text lines."""
    labelled = rows["clicked"].null_count() == 0
    candidates = int(rows["candidates"].list.len().sum())
    clicks = int(rows["clicked"].list.sum().sum()) if labelled else None
    means = {
        f"mean_{name}": round(float(rows.select(pl.col(name).list.len().mean()).item() or 0), 3)
        for name in ("history", "liked", "disliked")
    }
    return {
        "impressions": len(rows),
        "readers": rows["user"].n_unique(),
        "candidates": candidates,
        "clicks": clicks,
        "positive_share": round(clicks / candidates, 5) if clicks and candidates else clicks,
        **means,
        "first": str(rows["time"].min()),
        "last": str(rows["time"].max()),
        "texts": texts,
    }


def write_faults(file: Path, reports: Iterable[FileReport]) -> None:
    """One line a faulty row: file, line (from 1), reason, detail, whether the row was kept."""
    with file.open("w", encoding="utf-8") as lines:
        for report in reports:
            for fault in sorted(report.faults, key=lambda fault: fault.line):
                lines.write(json.dumps(asdict(fault), ensure_ascii=False) + "\n")


def count_rows(report: FileReport) -> dict[str, Any]:
    kept = sum(fault.kept for fault in report.faults)
    return {
        "rows": report.rows,
        "dropped": len(report.faults) - kept,
        "kept_in_part": kept,
        "reasons": report.reasons(),
        "sha256": report.sha256,
    }


def write_manifest(folder: Path, known: Mapping[str, Any]) -> dict[str, Any]:
    """`known` and the size and SHA-256 of each file in `folder`. Holds no time and no path, so that
    the same input, options and seed give the same bytes."""
    files = {file.name: describe_file(file) for file in sorted(folder.iterdir())}
    hashes = "".join(f"{name} {file['sha256']}\n" for name, file in files.items())
    data_hash = hashlib.sha256(hashes.encode()).hexdigest()
    manifest = {**known, "files": files, "data_hash": data_hash}
    text = json.dumps(manifest, indent=2, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
    return manifest


def describe_file(file: Path) -> dict[str, Any]:
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256")
    return {"bytes": file.stat().st_size, "sha256": digest.hexdigest()}


def summary(manifest: Mapping[str, Any], out: Path) -> str:
    """For people: what was made, what was wrong, what comes next."""
    lines = [f"{out} is ready: recipe {manifest['recipe']}, {manifest['stories']:,} stories"]
    for split, counts in manifest["splits"].items():
        share = counts["positive_share"]
        labels = "no labels" if share is None else f"{share:.1%} clicked"
        lines.append(
            f"  {split:5} {counts['impressions']:>9,} impressions {counts['candidates']:>11,}"
            f" candidates ({labels}), mean history {counts['mean_history']:.1f},"
            f" liked {counts['mean_liked']:.1f}, {counts['texts']:,} as text"
        )
    faulty = {name: rows for name, rows in manifest["rows"].items() if rows["reasons"]}
    for name, rows in faulty.items():
        wrong = "; ".join(f"{reason} {count:,}" for reason, count in rows["reasons"].items())
        lines.append(
            f"  {name}: of {rows['rows']:,} rows {rows['dropped']:,} dropped, "
            f"{rows['kept_in_part']:,} kept in part ({wrong})"
        )
    if faulty:
        lines.append(f"  each faulty row is named in {out / DROPPED}")
    return "\n".join(lines)
