"""Tables in CSV, JSONL or Parquet, read in blocks: only the columns that the mapping names."""

import csv
import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from training.data.faults import FileReport
from training.data.lines import read_lines
from training.data.logs.mapping import FORMATS, Shape, suggest
from training.errors import TrainingError

NAMES_SHOWN = 30
"""How many of a table's columns, or a folder's files, an error lists."""
PROBED = 1000
"""From how many lines of a JSONL file its columns are known."""
NUMBER = "number of the row"
"""A column that no file has."""


@dataclass(frozen=True, slots=True)
class Source:
    """One table of a folder. where: its place in the mapping, such as `log.yaml: events`. columns:
    by role, which is the setting's name. lists: roles that hold lists. rows: how many are read at a
    time."""

    where: str
    folder: Path
    file: str
    shape: Shape
    columns: dict[str, str]
    lists: frozenset[str] = frozenset()
    rows: int = 50_000

    def files(self) -> list[Path]:
        """Raises TrainingError where there are none."""
        found = sorted(glob(self.file, root_dir=self.folder))  # noqa: PTH207 - or an absolute path
        if not found:
            names = sorted(path.name for path in self.folder.glob("*"))
            here = list_some(names) or "no files"
            raise TrainingError(
                f"{self.where}.file: no file {self.file} in {self.folder}, which has {here}"
            )
        return [self.folder / name for name in found]

    def format(self, file: Path) -> str:
        """csv, jsonl or parquet. Raises TrainingError where the name does not tell."""
        known = self.shape.format or FORMATS.get(file.suffix.lower())
        if known is None:
            raise TrainingError(
                f"{self.where}: {file.name} does not tell its format: set {self.where_is('format')}"
                " to csv, jsonl or parquet"
            )
        return known

    def where_is(self, name: str) -> str:
        """A setting of this table, such as events.format."""
        return f"{self.where.rpartition(' ')[2]}.{name}"

    def names(self, file: Path) -> list[str]:
        """The file's columns. Raises TrainingError for a file of another kind."""
        if self.format(file) == "jsonl":
            report = FileReport(file.name, {})
            objects = map(read_object, probe(next(read_lines(file, report), None)))
            return list(dict.fromkeys(name for one in objects for name in one))
        with reading(file.name):
            return self.scan(file).collect_schema().names()

    def check_columns(self, file: Path, names: Iterable[str]) -> None:
        """Raise TrainingError for a column that the file does not have."""
        names = [name for name in names if name != NUMBER]
        for role, column in self.columns.items():
            if column not in names:
                raise TrainingError(
                    f"{self.where}.{role}: {file.name} has no column {column!r}"
                    f"{suggest(column, names)}; its columns: {list_some(names)}"
                )

    def check_types(self, file: Path, schema: pl.Schema) -> None:
        """Raise TrainingError for a column of something else than text, numbers, times or, where
        they belong, lists of those."""
        for role, column in self.columns.items():
            dtype = schema[column]
            if role in self.lists and isinstance(dtype, pl.List | pl.Array):
                dtype = dtype.inner  # type: ignore[assignment]
            if dtype.is_nested() or dtype == pl.Binary:
                raise TrainingError(
                    f"{self.where}.{role}: the column {column!r} of {file.name} holds"
                    f" {schema[column]}, expected text, numbers or times"
                    f"{', or lists of them' if role in self.lists else ', not lists'}"
                )

    def scan(self, file: Path) -> pl.LazyFrame:
        """A CSV or Parquet file, with the column NUMBER."""
        if self.format(file) == "parquet":
            return pl.scan_parquet(file, row_index_name=NUMBER, row_index_offset=1)
        shape = self.shape
        return pl.scan_csv(
            file,
            separator=separator_of(shape, file),
            quote_char=shape.quote or None,
            has_header=not shape.columns,
            new_columns=list(shape.columns) or None,
            infer_schema=False,
            encoding="utf8-lossy",
            row_index_name=NUMBER,
            row_index_offset=1,
        )

    def blocks(
        self, file: Path, report: FileReport, limit: int | None = None
    ) -> Iterator[pl.DataFrame]:
        """Blocks of rows: `line` (from 1, below a header) and the columns by role, as they are; of
        CSV and JSONL text, or lists of it. The report counts and hashes.

        limit: only the first rows. Raises TrainingError.
        """
        if self.format(file) == "jsonl":
            yield from self.json_blocks(file, report, limit)
            return
        yield from self.table_blocks(file, report, limit)
        with file.open("rb") as content:
            report.sha256 = hashlib.file_digest(content, "sha256").hexdigest()

    def table_blocks(
        self, file: Path, report: FileReport, limit: int | None
    ) -> Iterator[pl.DataFrame]:
        """Of a CSV or Parquet file."""
        columns = [pl.col(column).alias(role) for role, column in self.columns.items()]
        is_csv = self.format(file) == "csv"
        with reading(report.name, self, file):
            frame = self.scan(file)
            schema = frame.collect_schema()
            self.check_columns(file, schema.names())
            self.check_types(file, schema)
            frame = frame if limit is None else frame.head(limit)
            rows = frame.select(pl.col(NUMBER).cast(pl.Int64).alias("line"), *columns)
            for block in rows.collect_batches(chunk_size=self.rows, maintain_order=True):
                report.rows += len(block)
                yield set_aside_broken(block, report) if is_csv else block

    def json_blocks(
        self, file: Path, report: FileReport, limit: int | None
    ) -> Iterator[pl.DataFrame]:
        """Of a JSONL file."""
        fields: dict[str, pl.DataType] | None = None
        with reading(report.name):
            for rows in read_lines(file, report, limit):
                text = pl.col("text").str.strip_chars()
                rows = report.set_aside(rows, text.is_null(), "not UTF-8", pl.lit(""))
                rows = rows.filter(text != "")
                if fields is None:
                    fields = self.json_fields(file, rows)
                yield self.decode(rows, fields, report)

    def json_fields(self, file: Path, rows: pl.DataFrame) -> dict[str, pl.DataType]:
        """By column: text, or a list of texts where the first value is a list."""
        objects = [read_object(line) for line in probe(rows)]
        self.check_columns(file, dict.fromkeys(name for one in objects for name in one))
        fields: dict[str, pl.DataType] = {}
        for role, column in self.columns.items():
            values = (one[column] for one in objects if one.get(column) is not None)
            many = role in self.lists and isinstance(next(values, None), list)
            fields[column] = pl.List(pl.String) if many else pl.String()
        return fields

    def decode(
        self, rows: pl.DataFrame, fields: dict[str, pl.DataType], report: FileReport
    ) -> pl.DataFrame:
        """The columns by role. Lines that can't be read so are set aside."""
        cells = pl.col("text").str.json_decode(pl.Struct(fields)).alias("cells")
        columns = [pl.col("cells").struct.field(c).alias(r) for r, c in self.columns.items()]
        try:
            found = rows.select("line", cells)
        except pl.exceptions.ComputeError:
            bad = [not has_shape(line, fields) for line in rows["text"]]
            rows = report.set_aside(rows, pl.lit(pl.Series(bad)), "bad JSON", pl.col("text"))
            found = rows.select("line", cells)
        return found.select("line", *columns)


@contextmanager
def reading(name: str, source: Source | None = None, file: Path | None = None) -> Iterator[None]:
    """Turn what polars and the system say while a file is read into a TrainingError."""
    try:
        yield
    except OSError as error:
        raise TrainingError(f"{name}: {error.strerror or error}") from None
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        if source is not None and file is not None and "more fields" in reason:
            reason = find_ragged(source, file) or reason
        raise TrainingError(f"{name}: {reason}") from None


def find_ragged(source: Source, file: Path) -> str | None:
    """Which row of a CSV file has more cells than the table has columns."""
    width = len(source.names(file)) - 1
    options: dict[str, Any] = {"delimiter": separator_of(source.shape, file)}
    quoting = {"quotechar": source.shape.quote} if source.shape.quote else {"quoting": 3}
    with file.open(newline="", encoding="utf-8", errors="replace") as lines:
        for number, row in enumerate(csv.reader(lines, **options, **quoting)):
            if len(row) > width:
                place = number + bool(source.shape.columns)
                return (
                    f"row {place} has {len(row)} cells, but there are {width} columns: quote cells"
                    f" that hold the separator {options['delimiter']!r}"
                )
    return None


def separator_of(shape: Shape, file: Path) -> str:
    """Between the cells of a CSV file."""
    return shape.separator or ("\t" if file.suffix.lower() == ".tsv" else ",")


def set_aside_broken(rows: pl.DataFrame, report: FileReport) -> pl.DataFrame:
    """Note the rows with bytes that are not UTF-8, which polars replaces by a character."""
    texts = [name for name, dtype in rows.schema.items() if dtype == pl.String]
    if not texts:
        return rows
    broken = pl.any_horizontal(pl.col(texts).str.contains("\ufffd", literal=True).fill_null(False))
    return report.set_aside(rows, broken, "not UTF-8", pl.lit(""))


def probe(rows: pl.DataFrame | None) -> list[str]:
    """The first lines, without empty ones."""
    if rows is None:
        return []
    return [line for line in rows["text"].head(PROBED) if line and line.strip()]


def read_object(line: str) -> dict[str, Any]:
    """The line's JSON object; empty for anything else."""
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def has_shape(line: str, fields: dict[str, pl.DataType]) -> bool:
    """Whether a line is an object whose values are text, or lists of it where they should be."""
    found = read_object(line)
    for name, dtype in fields.items():
        value = found.get(name)
        values = value if isinstance(value, list) and dtype != pl.String else [value]
        if any(isinstance(one, list | dict) for one in values):
            return False
    return bool(found)


def list_some(names: Iterable[str]) -> str:
    """Names in a line, not too many."""
    shown = list(names)
    return ", ".join(shown[:NAMES_SHOWN]) + ", …" * (len(shown) > NAMES_SHOWN)
