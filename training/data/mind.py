"""MIND's news.tsv and behaviors.tsv, read in blocks with polars. No row is lost silently.

The layout (tab separated, no header, no quoting) is described in
https://github.com/msnews/msnews.github.io/blob/master/assets/doc/introduction.md
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from training.errors import TrainingError

NEWS_COLUMNS = ("id", "category", "subcategory", "title", "abstract", "url", "entities", "mentions")
BEHAVIOR_COLUMNS = ("impression", "user", "time", "history", "shown")
TIME_FORMAT = "%m/%d/%Y %I:%M:%S %p"  # 11/13/2019 8:36:57 AM
BLOCK_BYTES = 32 * 1024 * 1024
"""How much is read at a time: about 55,000 impressions."""
LINES_NAMED = 5
"""How many faulty lines an error names for each reason."""
DETAIL_LENGTH = 60
"""How much an error quotes of what it found."""
EXPECTED = {
    "bad label": "N1-1 or N1-0, clicked or not",
    "bad time": "11/13/2019 8:36:57 AM",
    "double space": "one space between stories",
    "empty story id": "an id such as N1 before that title",
    "empty title": "a title for that id",
    "empty user id": "an id such as U1",
    "no candidates": "stories such as N1-1 N2-0",
    "not UTF-8": "text in UTF-8",
    "repeated story id": "each id once",
    "unknown story": "an id of a news.tsv",
    "unknown story in history": "ids of a news.tsv",
    "wrong column count": "tab-separated columns: "
    f"{', '.join(NEWS_COLUMNS)} in news.tsv; {', '.join(BEHAVIOR_COLUMNS)} in behaviors.tsv",
}
"""What should stand where a row is faulty, by the fault's reason."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one row. line: counted from 1. kept: the row stays, without the part that
    is wrong."""

    file: str
    line: int
    reason: str
    detail: str
    kept: bool = False


@dataclass(slots=True)
class FileReport:
    """What was read of one file, gathered while it is read.

    name: the file's name in messages. rows: its lines. sha256: of its bytes, in hex, once the whole
    file is read. faults: every faulty row.
    """

    name: str
    rows: int = 0
    sha256: str = ""
    faults: list[Fault] = field(default_factory=list)

    def add(self, line: int, reason: str, detail: str, kept: bool = False) -> None:
        """Note a faulty row."""
        self.faults.append(Fault(self.name, line, reason, detail, kept))

    def set_aside(
        self, rows: pl.DataFrame, bad: pl.Expr, reason: str, detail: pl.Expr
    ) -> pl.DataFrame:
        """Note the rows that are `bad` and return the others."""
        mask = rows.select(bad.fill_null(True).alias("bad")).to_series()
        if not mask.any():
            return rows
        for line, text in rows.filter(mask).select("line", detail.alias("detail")).iter_rows():
            self.add(line, reason, text or "")
        return rows.filter(~mask)

    def reasons(self) -> dict[str, int]:
        """How many rows are faulty, by reason."""
        return dict(sorted(Counter(fault.reason for fault in self.faults).items()))

    def check(self, max_bad_share: float) -> None:
        """Raise TrainingError for a file without rows, or with too large a share of faulty ones.
        Each row counts once, whether it was dropped or kept in part."""
        if not self.rows:
            raise TrainingError(
                f"{self.name}: the file is empty; expected a row a line, as in MIND"
            )
        share = len(self.faults) / self.rows
        if share > max_bad_share:
            raise TrainingError(
                f"{self.name}: {len(self.faults):,} of {self.rows:,} rows are faulty ({share:.1%}, "
                f"more than --max-bad-share {max_bad_share:g}): {self._where()}. "
                "Correct the file, or raise --max-bad-share."
            )

    def _where(self) -> str:
        texts = []
        for reason, count in self.reasons().items():
            lines = [str(fault.line) for fault in self.faults if fault.reason == reason]
            more = ", …" if count > LINES_NAMED else ""
            first = next(fault.detail for fault in self.faults if fault.reason == reason)
            found = f"found {first[:DETAIL_LENGTH]!r}, " if first else ""
            texts.append(
                f"{reason} {count:,} (line {', '.join(lines[:LINES_NAMED])}{more}):"
                f" {found}expected {EXPECTED[reason]}"
            )
        return "; ".join(texts)


class StoryIds:
    """Maps story ids to row numbers of the news table, by polars' own dictionary encoding."""

    def __init__(self, ids: pl.Series) -> None:
        self.known = frozenset(ids)
        self.plain = pl.List(pl.Enum(ids))
        # One lookup for id and label together: the code of "N7-1" is 2 · (index of N7) + 1.
        self.labelled = pl.List(pl.Enum([f"{i}-{label}" for i in ids for label in "01"]))


def read_news(folder: Path, name: str, max_bad_share: float) -> tuple[pl.DataFrame, FileReport]:
    """The stories of `folder`/news.tsv: id, title, category, subcategory, abstract (null if empty).

    `name` names the file in the report. Raises TrainingError if too many rows are faulty.
    """
    report = FileReport(name)
    parts: list[pl.DataFrame] = []
    for rows in read_rows(folder / "news.tsv", NEWS_COLUMNS, report):
        rows = rows.with_columns(pl.col("title").str.strip_chars())
        rows = report.set_aside(rows, pl.col("id") == "", "empty story id", pl.col("title"))
        parts.append(report.set_aside(rows, pl.col("title") == "", "empty title", pl.col("id")))
    report.check(max_bad_share)
    news = pl.concat(parts)
    repeated = ~pl.col("id").is_first_distinct()
    news = report.set_aside(news, repeated, "repeated story id", pl.col("id"))
    report.check(max_bad_share)
    texts = ("title", "category", "subcategory", "abstract")
    return news.select("id", *(pl.col(t).replace("", None) for t in texts)), report


def merge_news(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The stories of several folders. Of a story that is in several, the first row counts."""
    return pl.concat(parts).unique("id", keep="first", maintain_order=True)


def read_behaviors(
    folder: Path, name: str, ids: StoryIds, history: int, max_bad_share: float
) -> tuple[pl.DataFrame, FileReport]:
    """The impressions of `folder`/behaviors.tsv, in the file's order.

    Columns: impression, user, time, history (list[u32]: indices of the last `history` stories
    clicked, oldest first), shown (list[u32]: 2 · story index, + 1 if it was clicked), labelled
    (whether the file has labels; MIND's test files have none). Raises TrainingError if too many
    rows are faulty.
    """
    report = FileReport(name)
    path = folder / "behaviors.tsv"
    parts: list[pl.DataFrame] = []
    labelled: bool | None = None
    for rows in read_rows(path, BEHAVIOR_COLUMNS, report):
        if labelled is None and len(rows):
            last = rows["shown"].str.split(" ").list.last()
            labelled = 2 * len(last.filter(last.is_in(ids.known))) <= len(last)
        parts.append(parse_impressions(rows, ids, history, labelled is not False, report))
    report.check(max_bad_share)
    return pl.concat(parts).with_columns(labelled=pl.lit(labelled is not False)), report


def parse_impressions(
    rows: pl.DataFrame, ids: StoryIds, history: int, labelled: bool, report: FileReport
) -> pl.DataFrame:
    """One block of what read_behaviors returns, without the column `labelled`."""
    rows = report.set_aside(rows, pl.col("user") == "", "empty user id", pl.lit(""))
    shown = pl.col("shown").str.strip_chars(" ").str.split(" ")
    past = pl.col("history").str.strip_chars(" ").str.split(" ").list.tail(history)
    rows = rows.with_columns(
        when=pl.col("time").str.to_datetime(TIME_FORMAT, strict=False, time_unit="ms"),
        codes=shown.cast(ids.labelled if labelled else ids.plain, strict=False),
        past=past.cast(ids.plain, strict=False),
    )
    rows = report.set_aside(rows, pl.col("when").is_null(), "bad time", pl.col("time"))
    unknown = pl.col("codes").list.drop_nulls().list.len() < pl.col("codes").list.len()
    for line, text in rows.filter(unknown).select("line", "shown").iter_rows():
        report.add(line, *explain(text, ids, labelled))
    rows = rows.filter(~unknown)
    note_lost_history(rows, ids, history, report)
    code = pl.element().to_physical().cast(pl.UInt32)
    return rows.select(
        "impression",
        "user",
        time="when",
        history=pl.col("past").list.drop_nulls().list.eval(code),
        shown=pl.col("codes").list.eval(code if labelled else code * 2),
    )


def explain(shown: str, ids: StoryIds, labelled: bool) -> tuple[str, str]:
    """Why a list of shown stories can't be read: the reason, and the first entry it is true of."""
    entries = shown.split()
    if not entries:
        return "no candidates", ""
    if labelled:
        for entry in entries:
            if entry[-2:] not in ("-0", "-1"):
                return "bad label", entry
        entries = [entry[:-2] for entry in entries]
    strange = [entry for entry in entries if entry not in ids.known]
    return ("unknown story", strange[0]) if strange else ("double space", "")


def note_lost_history(rows: pl.DataFrame, ids: StoryIds, history: int, report: FileReport) -> None:
    """Note the rows whose history names a story that no news.tsv holds: it will be left out."""
    empty = pl.col("history").str.strip_chars(" ") == ""
    had = pl.when(empty).then(0).otherwise(pl.col("past").list.len())
    short = rows.filter(pl.col("past").list.drop_nulls().list.len() < had)
    for line, text in short.select("line", "history").iter_rows():
        lost = [i for i in text.strip(" ").split(" ")[-history:] if i not in ids.known]
        report.add(line, "unknown story in history", " ".join(lost), kept=True)


def read_rows(path: Path, columns: Sequence[str], report: FileReport) -> Iterator[pl.DataFrame]:
    """Blocks of rows: `line` (from 1) and the columns, all text. The report counts and hashes."""
    text = pl.col("text")
    for rows in read_lines(path, report):
        rows = report.set_aside(rows, text.is_null(), "not UTF-8", pl.lit(""))
        tabs = text.str.count_matches("\t", literal=True)
        found = pl.format("{} instead of {}", tabs + 1, len(columns))
        rows = report.set_aside(rows, tabs != len(columns) - 1, "wrong column count", found)
        fields = text.str.split_exact("\t", len(columns) - 1).struct.rename_fields(list(columns))
        yield rows.select("line", fields.alias("fields")).unnest("fields")


def read_lines(path: Path, report: FileReport) -> Iterator[pl.DataFrame]:
    """Blocks of rows: `line` and `text` (null where the bytes are not UTF-8).

    polars' scan_csv and scan_lines won't do: one broken byte fails the whole scan, and a row with
    too few columns is filled up silently.
    """
    digest = hashlib.sha256()
    rest = b""
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
                whole, newline, rest = (rest + block).rpartition(b"\n")
                if newline:
                    yield number_lines(whole, report)
    except OSError as error:
        raise TrainingError(
            f"{path}: {error.strerror}; expected a folder with MIND's news.tsv and behaviors.tsv,"
            f" found {describe_place(path.parent)}"
        ) from None
    if rest:
        yield number_lines(rest, report)
    report.sha256 = digest.hexdigest()


def describe_place(folder: Path) -> str:
    """What is there instead of a folder in MIND's layout."""
    if not folder.is_dir():
        return "a file" if folder.exists() else "no such folder"
    names = sorted(path.name for path in folder.iterdir())
    more = ", …" if len(names) > LINES_NAMED else ""
    return ", ".join(names[:LINES_NAMED]) + more or "an empty folder"


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
