"""Whatever its format and its rows, a log gives what MIND's own files give."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.support.models import MIND
from tests.support.site_logs import (
    WRITERS,
    impressions,
    mapping_of,
    stories,
    write_csv,
    write_jsonl,
    write_mapping,
    write_parquet,
)
from training.data.catalogue import StoryIds
from training.data.click_log import ClickLog, open_log
from training.data.faults import FileReport
from training.data.logs.site import SiteLog
from training.data.mind import MindLog

Row = dict[str, Any]


def read(log: ClickLog, share: float = 0.0) -> tuple[pl.DataFrame, pl.DataFrame, list[FileReport]]:
    news, first = log.read_stories(share)
    rows, second = log.read_impressions(StoryIds(news["id"]), 50, share)
    return news, rows, first + second


def read_folder(
    folder: Path, share: float = 0.0
) -> tuple[pl.DataFrame, pl.DataFrame, list[FileReport]]:
    return read(open_log(folder, "train", None), share)


@pytest.fixture
def mind() -> tuple[pl.DataFrame, pl.DataFrame]:
    news, rows, _ = read(MindLog(MIND / "train", "train"))
    return news, rows


def make(
    folder: Path, kind: str, change: Callable[[Row], Row] = dict, **events: Any
) -> dict[str, Any]:
    """Stories and events of the example data set; change: what a row of events is."""
    WRITERS[kind](folder / f"stories.{kind}", stories())
    WRITERS[kind](folder / f"events.{kind}", [change(row) for row in impressions()])
    mapping = mapping_of(
        kind, **{"shown": "shown", "clicked": "clicked", "history": "past"} | events
    )
    write_mapping(folder, mapping)
    return mapping


@pytest.mark.parametrize("kind", WRITERS)
def test_rows_of_impressions(
    kind: str, tmp_path: Path, mind: tuple[pl.DataFrame, pl.DataFrame]
) -> None:
    make(tmp_path, kind)
    news, rows, reports = read_folder(tmp_path)
    assert news.equals(mind[0])
    assert rows.equals(mind[1])
    assert [report.name for report in reports] == [f"train/stories.{kind}", f"train/events.{kind}"]
    assert [report.rows for report in reports] == [len(news), len(rows)]
    assert all(len(report.sha256) == 64 for report in reports)


def test_minds_own_files(tmp_path: Path, mind: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    """Without a header or quotes, with labels in the items and times by a pattern."""
    names = ["id", "category", "subcategory", "title", "abstract", "url", "entities", "mentions"]
    table = {"quote": "", "separator": "\t"}
    mapping: dict[str, Any] = {
        "stories": table | {"file": str(MIND / "train/news.tsv"), "columns": names},
        "events": table | {"file": str(MIND / "train/behaviors.tsv")},
        "time_format": "%m/%d/%Y %I:%M:%S %p",
    }
    mapping["stories"] |= {name: name for name in names[:5]}
    mapping["events"] |= {"columns": ["imp", "user", "when", "past", "shown"], "time": "when"}
    mapping["events"] |= {"impression": "imp", "reader": "user", "history": "past"}
    mapping["events"] |= {"shown": "shown", "label_mark": "-"}
    write_mapping(tmp_path, mapping)
    news, rows, _ = read_folder(tmp_path)
    assert news.equals(mind[0])
    assert rows.equals(mind[1])


def with_labels(row: Row) -> Row:
    return row | {"marks": ["Click" if s in row["clicked"] else "no" for s in row["shown"]]}


@pytest.mark.parametrize("kind", WRITERS)
def test_labels_beside_what_was_shown(
    kind: str, tmp_path: Path, mind: tuple[pl.DataFrame, pl.DataFrame]
) -> None:
    make(tmp_path, kind, with_labels, clicked=None, labels="marks")
    assert read_folder(tmp_path)[1].equals(mind[1])


def by_story(row: Row) -> list[Row]:
    """A row a story, with its place and a flag, as a database exports it."""
    facts = {name: row[name] for name in ("number", "user", "when")}
    return [
        facts | {"story": story, "place": place, "clicked": "t" if story in row["clicked"] else "f"}
        for place, story in enumerate(row["shown"])
    ]


def by_event(row: Row) -> list[Row]:
    """A row a view, and one more for each click, later."""
    facts = {name: row[name] for name in ("number", "user", "when")}
    views = [facts | {"story": story, "what": "view"} for story in row["shown"]]
    later = {"when": row["when"].replace(second=59)}
    return views + [facts | later | {"story": s, "what": "click"} for s in row["clicked"]]


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("shuffled", [False, True])
def test_rows_of_stories_shown(
    kind: str,
    shuffled: bool,
    tmp_path: Path,
    mind: tuple[pl.DataFrame, pl.DataFrame],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In blocks of a few rows, so that an impression goes on in the next. By position, rows may
    come in any order."""
    monkeypatch.setattr("training.data.logs.site.EVENT_ROWS", 7)
    WRITERS[kind](tmp_path / f"stories.{kind}", stories())
    events = [one for row in impressions() for one in by_story(row)]
    if shuffled:
        events = pl.DataFrame(events).sample(fraction=1, shuffle=True, seed=1).to_dicts()
    WRITERS[kind](tmp_path / f"events.{kind}", events)
    mapping = mapping_of(kind, story="story", label="clicked", position="place")
    write_mapping(tmp_path, mapping)
    rows = read_folder(tmp_path)[1]
    expected = mind[1].drop("history")
    assert rows.drop("history").sort(pl.col("impression").cast(int)).equals(expected)
    assert rows["history"].list.len().sum() == 0


def test_rows_of_views_and_clicks(
    tmp_path: Path, mind: tuple[pl.DataFrame, pl.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.data.logs.site.EVENT_ROWS", 5)
    write_jsonl(tmp_path / "stories.jsonl", stories())
    events = [one for row in impressions() for one in by_event(row)]
    events += [events[0] | {"what": "scroll"}]
    write_csv(tmp_path / "events.csv", events)
    mapping = mapping_of("jsonl", story="story", label="what", ignore="scroll")
    mapping["events"]["file"] = "events.csv"
    write_mapping(tmp_path, mapping)
    assert read_folder(tmp_path)[1].drop("history").equals(mind[1].drop("history"))


def test_without_impression_ids_a_readers_moment_is_one(tmp_path: Path) -> None:
    write_parquet(tmp_path / "stories.parquet", stories())
    events = [one for row in impressions() for one in by_story(row)]
    write_parquet(tmp_path / "events.parquet", events)
    write_mapping(tmp_path, mapping_of("parquet", story="story", label="clicked", impression=None))
    rows = read_folder(tmp_path)[1]
    assert len(rows) == len({(row["user"], row["when"]) for row in impressions()})
    assert rows["shown"].list.len().sum() == len(events)


def test_several_files_are_one_log(tmp_path: Path) -> None:
    make(tmp_path, "csv")
    _, whole, _ = read_folder(tmp_path)
    (tmp_path / "events.csv").unlink()
    rows = impressions()
    write_csv(tmp_path / "day-1.csv", rows[:20])
    write_csv(tmp_path / "day-2.csv", rows[20:])
    write_mapping(
        tmp_path, mapping_of("csv", shown="shown", clicked="clicked", history="past") | {}
    )
    mapping = mapping_of("csv", shown="shown", clicked="clicked", history="past")
    mapping["events"]["file"] = "day-*.csv"
    write_mapping(tmp_path, mapping)
    _, parts, reports = read_folder(tmp_path)
    assert parts.equals(whole)
    assert [report.name for report in reports[1:]] == ["train/day-1.csv", "train/day-2.csv"]


@pytest.mark.parametrize("kind", WRITERS)
def test_blocks_of_any_size_give_the_same(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, kind)
    _, whole, _ = read_folder(tmp_path)
    monkeypatch.setattr("training.data.lines.BLOCK_BYTES", 300)
    log = open_log(tmp_path, "train", None)
    assert isinstance(log, SiteLog)
    log.events = replace(log.events, rows=3)
    assert read(log)[1].equals(whole)


@pytest.mark.parametrize(
    ("form", "write"),
    [
        ("unix_s", lambda when: int(when.timestamp())),
        ("unix_ms", lambda when: int(when.timestamp() * 1000)),
        ("unix_us", lambda when: int(when.timestamp() * 1_000_000)),
        ("iso", lambda when: when.isoformat()),
        ("iso", lambda when: f"{when:%Y-%m-%d %H:%M:%S}.5+00"),
        ("iso", lambda when: f"{when:%Y-%m-%dT%H:%M}:{when:%S}Z"),
        ("%d.%m.%Y %H:%M:%S", lambda when: when.strftime("%d.%m.%Y %H:%M:%S")),
    ],
)
@pytest.mark.parametrize("kind", WRITERS)
def test_times(
    form: str,
    write: Callable[[datetime], object],
    kind: str,
    tmp_path: Path,
    mind: tuple[pl.DataFrame, pl.DataFrame],
) -> None:
    mapping = make(
        tmp_path, kind, lambda row: row | {"when": write(row["when"].replace(tzinfo=UTC))}
    )
    write_mapping(tmp_path, mapping | {"time_format": form})
    times = read_folder(tmp_path)[1]["time"]
    assert times.dt.truncate("1s").equals(mind[1]["time"])


def test_times_without_a_zone_are_the_mappings(tmp_path: Path) -> None:
    mapping = make(tmp_path, "parquet")
    write_mapping(tmp_path, mapping | {"zone": "Europe/Copenhagen"})
    hour = pl.duration(hours=1)
    expected = pl.DataFrame({"time": [row["when"] for row in impressions()]}).select(
        (pl.col("time") - hour).cast(pl.Datetime("ms"))
    )
    assert read_folder(tmp_path)[1]["time"].equals(expected["time"])


def test_an_hour_that_is_twice_or_never(tmp_path: Path) -> None:
    whens = ["2026-10-25 02:30", "2026-10-25T02:30:00+01:00", "2026-03-29 02:30"]
    rows = [impressions()[0] | {"when": when} for when in whens]
    mapping = make(tmp_path, "csv")
    write_csv(tmp_path / "events.csv", rows)
    write_mapping(tmp_path, mapping | {"zone": "Europe/Copenhagen"})
    _, found, reports = read_folder(tmp_path, 1.0)
    assert found["time"].to_list() == [datetime(2026, 10, 25, 0, 30), datetime(2026, 10, 25, 1, 30)]
    assert [(f.line, f.reason) for f in reports[1].faults] == [(3, "bad time")]


@pytest.mark.parametrize("kind", WRITERS)
def test_anonymous_readers_are_nobody_else(kind: str, tmp_path: Path) -> None:
    def change(row: Row) -> Row:
        return row | {"user": {"U1": None, "U2": "-"}.get(row["user"], row["user"])}

    mapping = make(tmp_path, kind, change)
    mapping["events"]["anonymous"] = "-"
    write_mapping(tmp_path, mapping)
    users = read_folder(tmp_path)[1]["user"]
    nobody = [row["user"] in ("U1", "U2") for row in impressions()]
    assert users.str.starts_with("anonymous ").to_list() == nobody
    assert users.filter(pl.Series(nobody)).is_unique().all()
    del mapping["events"]["reader"], mapping["events"]["anonymous"]
    write_mapping(tmp_path, mapping)
    assert read_folder(tmp_path)[1]["user"].is_unique().all()


@pytest.mark.parametrize(
    ("join", "separator"),
    [(",".join, ","), (lambda i: "{" + ",".join(i) + "}", ","), (repr, ","), ("; ".join, ";")],
)
def test_lists_as_text(
    join: Callable[[list[str]], str],
    separator: str,
    tmp_path: Path,
    mind: tuple[pl.DataFrame, pl.DataFrame],
) -> None:
    """As spreadsheets, PostgreSQL and Python write them."""
    lists = ("past", "shown", "clicked")
    mapping = make(tmp_path, "csv", lambda row: row | {name: join(row[name]) for name in lists})
    write_mapping(tmp_path, mapping | {"list_separator": separator})
    assert read_folder(tmp_path)[1].equals(mind[1])


def test_ids_that_are_numbers(tmp_path: Path, mind: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    """Also those that became floats, since some are missing."""
    for row in (numbered := stories()):
        row["id"] = int(row["id"][1:])
    write_parquet(tmp_path / "stories.parquet", numbered)
    rows: list[Row] = impressions()
    for row in rows:
        for name in ("past", "shown", "clicked"):
            row[name] = [int(story[1:]) for story in row[name]]
        row["user"] = float(row["user"][1:]) if row["user"] != "U1" else None
    write_parquet(tmp_path / "events.parquet", rows)
    columns = {"shown": "shown", "clicked": "clicked", "history": "past"}
    write_mapping(tmp_path, mapping_of("parquet", **columns))
    _, found, _ = read_folder(tmp_path)
    assert found["shown"].equals(mind[1]["shown"])
    assert found["history"].equals(mind[1]["history"])
    users = [row["user"][1:] for row in impressions() if row["user"] != "U1"]
    assert found["user"].filter(~found["user"].str.contains("anon")).to_list() == users


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_files_from_windows(
    kind: str, tmp_path: Path, mind: tuple[pl.DataFrame, pl.DataFrame]
) -> None:
    """With a byte order mark, other line ends and, as a spreadsheet writes it, semicolons."""
    mapping = make(tmp_path, kind)
    for name in ("stories", "events"):
        file = tmp_path / f"{name}.{kind}"
        text = file.read_text(encoding="utf-8")
        file.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    if kind == "csv":
        rows = pl.read_csv(tmp_path / "events.csv", infer_schema=False)
        rows.write_csv(
            tmp_path / "events.csv", separator=";", include_bom=True, line_terminator="\r\n"
        )
        mapping["events"]["separator"] = ";"
        write_mapping(tmp_path, mapping)
    news, found, _ = read_folder(tmp_path)
    assert news.equals(mind[0])
    assert found.equals(mind[1])
