"""A text file's lines in blocks, numbered, without losing any that is not UTF-8."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from training.data.faults import FileReport

BLOCK_BYTES = 32 * 1024 * 1024
"""How much is read at a time: about 55,000 impressions of MIND."""


def read_lines(path: Path, report: FileReport, limit: int | None = None) -> Iterator[pl.DataFrame]:
    """Blocks of rows: `line` (from 1) and `text` (null where the bytes are not UTF-8). The report
    counts and hashes. limit: only the first lines, without a hash. Raises OSError.

    polars' scan_csv and scan_lines won't do: one broken byte fails the whole scan, and a row with
    too few columns is filled up silently.
    """
    digest = hashlib.sha256()
    rest = b""
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
            whole, newline, rest = (rest + block).rpartition(b"\n")
            if newline:
                rows = number_lines(whole, report)
                if limit is not None and report.rows >= limit:
                    report.rows = limit
                    yield rows.filter(pl.col("line") <= limit)
                    return
                yield rows
    if rest:
        yield number_lines(rest, report)
    report.sha256 = digest.hexdigest()


def number_lines(block: bytes, report: FileReport) -> pl.DataFrame:
    """A block of whole lines as rows, numbered from where the report has counted to."""
    lines = decode_lines(block)
    if not report.rows and lines[0]:
        lines[0] = lines[0].removeprefix("\ufeff")
    numbers = pl.int_range(report.rows + 1, report.rows + len(lines) + 1, eager=True)
    report.rows += len(lines)
    texts = pl.Series(lines, dtype=pl.String).str.strip_suffix("\r")
    return pl.DataFrame({"line": numbers, "text": texts})


def decode_lines(block: bytes) -> list[str | None]:
    """The lines of a block; None for those that are not UTF-8."""
    try:
        return list(block.decode().split("\n"))
    except UnicodeDecodeError:
        return [decode_line(line) for line in block.split(b"\n")]


def decode_line(line: bytes) -> str | None:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return None
