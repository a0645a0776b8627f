"""MIND's news.tsv and behaviors.tsv, read in blocks with polars. No row is lost silently.

The layout (tab separated, no header, no quoting) is described in
https://github.com/msnews/msnews.github.io/blob/master/assets/doc/introduction.md
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from training.data.catalogue import TEXTS, StoryIds
from training.data.faults import FileReport
from training.data.lines import read_lines
from training.errors import TrainingError

NEWS_COLUMNS = ("id", "category", "subcategory", "title", "abstract", "url", "entities", "mentions")
BEHAVIOR_COLUMNS = ("impression", "user", "time", "history", "shown")
TIME_FORMAT = "%m/%d/%Y %I:%M:%S %p"  # 11/13/2019 8:36:57 AM
NAMES_SHOWN = 5
"""How many files an error names that are there instead."""
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
    "rows": "a row a line, as in MIND",
    "unknown story": "an id of a news.tsv",
    "unknown story in history": "ids of a news.tsv",
    "wrong column count": "tab-separated columns: "
    f"{', '.join(NEWS_COLUMNS)} in news.tsv; {', '.join(BEHAVIOR_COLUMNS)} in behaviors.tsv",
}
"""What should stand where a row is faulty, by the fault's reason."""


@dataclass(frozen=True, slots=True)
class MindLog:
    """A folder in MIND's layout, one split of a data set. limit: only so many rows of behaviors.tsv
    are read, to look at them."""

    folder: Path
    split: str
    limit: int | None = None

    def read_stories(self, max_bad_share: float) -> tuple[pl.DataFrame, list[FileReport]]:
        """See read_news."""
        stories, report = read_news(self.folder, f"{self.split}/news.tsv", max_bad_share)
        return stories, [report]

    def read_impressions(
        self, ids: StoryIds, history: int, max_bad_share: float
    ) -> tuple[pl.DataFrame, list[FileReport]]:
        """See read_behaviors."""
        name = f"{self.split}/behaviors.tsv"
        rows, report = read_behaviors(self.folder, name, ids, history, max_bad_share, self.limit)
        return rows, [report]

    def no_labels(self, story: str) -> str:
        """What to do about a log that does not say what was clicked."""
        return (
            f"{self.folder}/behaviors.tsv has no labels: give it as --test; found {story}, expected"
            f" {story}-1 or {story}-0"
        )


def read_news(folder: Path, name: str, max_bad_share: float) -> tuple[pl.DataFrame, FileReport]:
    """The stories of `folder`/news.tsv: id, title, category, subcategory, abstract (null if empty).

    `name` names the file in the report. Raises TrainingError if too many rows are faulty.
    """
    report = FileReport(name, EXPECTED)
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
    return news.select("id", *(pl.col(name).replace("", None) for name in TEXTS)), report


def read_behaviors(
    folder: Path,
    name: str,
    ids: StoryIds,
    history: int,
    max_bad_share: float,
    limit: int | None = None,
) -> tuple[pl.DataFrame, FileReport]:
    """The impressions of `folder`/behaviors.tsv, in the file's order; only the first `limit` rows.

    Columns: impression, user, time, history (list[u32]: indices of the last `history` stories
    clicked, oldest first), shown (list[u32]: 2 · story index, + 1 if it was clicked), labelled
    (whether the file has labels; MIND's test files have none). Raises TrainingError if too many
    rows are faulty.
    """
    report = FileReport(name, EXPECTED)
    path = folder / "behaviors.tsv"
    parts: list[pl.DataFrame] = []
    labelled: bool | None = None
    for rows in read_rows(path, BEHAVIOR_COLUMNS, report, limit):
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


def read_rows(
    path: Path, columns: Sequence[str], report: FileReport, limit: int | None = None
) -> Iterator[pl.DataFrame]:
    """Blocks of rows: `line` (from 1) and the columns, all text. The report counts and hashes.
    limit: only the first lines."""
    text = pl.col("text")
    try:
        for rows in read_lines(path, report, limit):
            rows = report.set_aside(rows, text.is_null(), "not UTF-8", pl.lit(""))
            tabs = text.str.count_matches("\t", literal=True)
            found = pl.format("{} instead of {}", tabs + 1, len(columns))
            rows = report.set_aside(rows, tabs != len(columns) - 1, "wrong column count", found)
            fields = text.str.split_exact("\t", len(columns) - 1)
            fields = fields.struct.rename_fields(list(columns))
            yield rows.select("line", fields.alias("fields")).unnest("fields")
    except OSError as error:
        raise TrainingError(
            f"{path}: {error.strerror}; expected a folder with MIND's news.tsv and behaviors.tsv,"
            f" or with a log.yaml, found {describe_place(path.parent)}"
        ) from None


def describe_place(folder: Path) -> str:
    """What is there instead of a folder in MIND's layout."""
    if not folder.is_dir():
        return "a file" if folder.exists() else "no such folder"
    names = sorted(path.name for path in folder.iterdir())
    more = ", …" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more or "an empty folder"
