"""Every faulty row of a site's log is named by its number and reason, and the error by column."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.site_logs import (
    WRITERS,
    mapping_of,
    write_csv,
    write_jsonl,
    write_mapping,
    write_parquet,
)
from training.data.catalogue import StoryIds
from training.data.click_log import open_log
from training.data.faults import FileReport
from training.errors import TrainingError

STORIES: list[dict[str, Any]] = [
    {"id": name, "title": f"Story {name}", "category": "", "subcategory": "", "abstract": ""}
    for name in "abcd"
]
GOOD: dict[str, Any] = {"number": "1", "user": "u", "when": "2026-11-01T09:00", "past": ["a"]} | {
    "shown": ["a", "b"],
    "clicked": ["b"],
}
LISTS = {"shown": "shown", "clicked": "clicked", "history": "past"}


def read(folder: Path, share: float = 1.0) -> tuple[list[Any], list[FileReport]]:
    log = open_log(folder, "train", None)
    news, reports = log.read_stories(share)
    rows, more = log.read_impressions(StoryIds(news["id"]), 50, share)
    return rows.rows(), reports + more


def faults(report: FileReport) -> list[tuple[int, str, str]]:
    assert report.unit == "row"
    return [(fault.line, fault.reason, fault.detail) for fault in report.faults]


@pytest.mark.parametrize("kind", WRITERS)
def test_stories(kind: str, tmp_path: Path) -> None:
    bad = [STORIES[0], STORIES[1] | {"id": None}, STORIES[2] | {"title": " "}, STORIES[0]]
    WRITERS[kind](tmp_path / f"stories.{kind}", bad)
    WRITERS[kind](tmp_path / f"events.{kind}", [GOOD | {"shown": ["a"], "clicked": []}])
    write_mapping(tmp_path, mapping_of(kind, **LISTS))
    rows, (of_stories, of_events) = read(tmp_path)
    assert faults(of_stories) == [
        (2, "missing story id", "Story b"),
        (3, "empty title", "c"),
        (4, "repeated story id", "a"),
    ]
    assert (len(rows), of_events.faults) == (1, [])
    with pytest.raises(TrainingError, match=r"3 of 4 rows .*missing story id 1 \(row 2\): found"):
        read(tmp_path, 0.5)


@pytest.mark.parametrize("kind", WRITERS)
def test_rows_of_impressions(kind: str, tmp_path: Path) -> None:
    bad = [
        GOOD,
        GOOD | {"when": "1.11.2026"},
        GOOD | {"when": None},
        GOOD | {"when": "0026-11-01T09:00"},
        GOOD | {"shown": []},
        GOOD | {"shown": ["a", "x", "y"]},
        GOOD | {"clicked": ["c"]},
        GOOD | {"clicked": ["x"]},
        GOOD,
    ]
    WRITERS[kind](tmp_path / f"stories.{kind}", STORIES)
    WRITERS[kind](tmp_path / f"events.{kind}", bad)
    write_mapping(tmp_path, mapping_of(kind, **LISTS))
    rows, (_, report) = read(tmp_path)
    assert faults(report) == [
        (2, "bad time", "1.11.2026"),
        (3, "bad time", ""),
        (4, "bad time", "0026-11-01T09:00"),
        (5, "no candidates", ""),
        (6, "unknown story", "x"),
        (7, "clicked but not shown", "c"),
        (8, "clicked but not shown", "x"),
    ]
    assert [row[4] for row in rows] == [[0, 3]] * 2
    with pytest.raises(TrainingError) as error:
        read(tmp_path, 0.5)
    for text in (
        f"train/events.{kind}: 7 of 9 rows are faulty",
        "bad time 3 (row 2, 3, 4): found '1.11.2026', expected in 'when' a time from 1990 to 2100"
        " (time_format iso): 2026-11-01T09:30:00",
        "unknown story 1 (row 6): found 'x', expected an id that a row of stories.",
        "in 'clicked' ids that 'shown' has too",
        "in 'shown' ids separated by ' ' (list_separator), or a list",
    ):
        assert text in str(error.value)


def test_labels(tmp_path: Path) -> None:
    write_csv(tmp_path / "stories.csv", STORIES)
    rows = [GOOD | {"labels": ["0", "1"]}, GOOD | {"labels": ["0"]}, GOOD | {"labels": ["0", "?"]}]
    write_jsonl(tmp_path / "events.jsonl", rows)
    mapping = mapping_of("csv", shown="shown", labels="labels")
    mapping["events"]["file"] = "events.jsonl"
    write_mapping(tmp_path, mapping)
    found, (_, report) = read(tmp_path)
    assert faults(report) == [(2, "labels do not match", "1 for 2"), (3, "unknown label", "?")]
    assert [row[4] for row in found] == [[0, 3]]
    del mapping["events"]["labels"]
    mapping["events"]["label_mark"] = ":"
    marked = [["a:0", "b:1"], ["a:0", "b"], ["a:0", "b:?"], ["a:b:1"], [":1"]]
    write_jsonl(tmp_path / "events.jsonl", [GOOD | {"shown": shown} for shown in marked])
    write_mapping(tmp_path, mapping)
    found, (_, report) = read(tmp_path)
    assert faults(report) == [
        (2, "unknown label", "no label"),
        (3, "unknown label", "?"),
        (4, "unknown story", "a:b"),
        (5, "unknown story", ""),
    ]
    assert [row[4] for row in found] == [[0, 3]]


@pytest.mark.parametrize("kind", WRITERS)
def test_rows_of_stories_shown(kind: str, tmp_path: Path) -> None:
    good: dict[str, Any] = {
        "number": "1",
        "user": "u",
        "when": "2026-11-01T09:00",
        "story": "a",
        "seen": "view",
    }
    bad = [
        dict(good),
        good | {"story": "x"},
        good | {"seen": "scroll"},
        good | {"when": "yesterday"},
        good | {"story": "b", "seen": "CLICK "},
        good | {"number": None, "user": None},
        good | {"number": "2"},
        good | {"number": "2", "user": "v", "story": "b"},
        good | {"story": "c", "seen": None},
        good | {"story": "d", "place": "top"},
    ]
    for place, row in enumerate(bad[:-1]):
        row["place"] = str(place)
    WRITERS[kind](tmp_path / f"stories.{kind}", STORIES)
    WRITERS[kind](tmp_path / f"events.{kind}", bad)
    write_mapping(tmp_path, mapping_of(kind, story="story", label="seen", position="place"))
    rows, (_, report) = read(tmp_path)
    assert sorted(faults(report)) == [
        (2, "unknown story", "x"),
        (3, "unknown label", "scroll"),
        (4, "bad time", "yesterday"),
        (6, "no impression", ""),
        (7, "several readers", "2"),
        (10, "bad position", "top"),
    ]
    assert [row[4] for row in rows] == [[0, 3, 4]]


def test_broken_bytes_and_lines(tmp_path: Path) -> None:
    write_csv(tmp_path / "stories.csv", STORIES)
    content = (tmp_path / "stories.csv").read_bytes()
    (tmp_path / "stories.csv").write_bytes(content.replace(b"Story b", b"Story \xff"))
    lines: list[object] = [json.dumps(GOOD | {"shown": ["a"], "clicked": None}).encode()]
    lines += [b'{"number": 1', b"[1]", b'"\xff"', b"", b'{"when": {"a": 1}}', lines[0]]
    (tmp_path / "events.jsonl").write_bytes(b"\n".join(lines))  # type: ignore[arg-type]
    mapping = mapping_of("csv", **LISTS)
    mapping["events"]["file"] = "events.jsonl"
    write_mapping(tmp_path, mapping)
    rows, (of_stories, of_events) = read(tmp_path)
    assert faults(of_stories) == [(2, "not UTF-8", "")]
    assert faults(of_events) == [
        (4, "not UTF-8", ""),
        (2, "bad JSON", '{"number": 1'),
        (3, "bad JSON", "[1]"),
        (6, "bad JSON", '{"when": {"a": 1}}'),
    ]
    assert len(rows) == 2


def test_a_row_with_too_many_cells_is_named(tmp_path: Path) -> None:
    write_csv(tmp_path / "stories.csv", STORIES)
    with (tmp_path / "stories.csv").open("a") as file:
        file.write("e,news,,A title, with a comma,\n")
    write_csv(tmp_path / "events.csv", [GOOD])
    write_mapping(tmp_path, mapping_of("csv", **LISTS))
    with pytest.raises(TrainingError, match="row 5 has 6 cells, but there are 5 columns: quote"):
        read(tmp_path)


@pytest.mark.parametrize("kind", WRITERS)
def test_empty_files(kind: str, tmp_path: Path) -> None:
    WRITERS[kind](tmp_path / f"stories.{kind}", STORIES)
    WRITERS[kind](tmp_path / f"events.{kind}", [GOOD])
    write_mapping(tmp_path, mapping_of(kind, **LISTS))
    file = tmp_path / f"events.{kind}"
    if kind == "csv":
        file.write_text(file.read_text().splitlines()[0] + "\n")
        with pytest.raises(TrainingError, match=r"train/events.csv: the file is empty"):
            read(tmp_path)
    file.write_bytes(b"")
    with pytest.raises(TrainingError, match=rf"train/events.{kind}: "):
        read(tmp_path)


@pytest.mark.parametrize("kind", WRITERS)
def test_unknown_stories_in_histories(kind: str, tmp_path: Path) -> None:
    WRITERS[kind](tmp_path / f"stories.{kind}", STORIES)
    rows = [GOOD, GOOD | {"past": ["x", "b", "y", "a"]}]
    WRITERS[kind](tmp_path / f"events.{kind}", rows)
    mapping = mapping_of(kind, **LISTS)
    write_mapping(tmp_path, mapping)
    found, (_, report) = read(tmp_path, 0.0)
    assert [row[3] for row in found] == [[0], [1, 0]]
    assert report.unknown_history == 2
    write_mapping(tmp_path, mapping | {"unknown_history": "error"})
    message = r"train/events.\w+: row 2: the history names 'x', which no row of stories"
    with pytest.raises(TrainingError, match=message):
        read(tmp_path, 1.0)


def test_a_log_without_rows_of_use_is_said(tmp_path: Path) -> None:
    write_parquet(tmp_path / "stories.parquet", STORIES)
    write_parquet(tmp_path / "events.parquet", [GOOD | {"when": "x"}])
    write_mapping(tmp_path, mapping_of("parquet", **LISTS))
    assert read(tmp_path)[0] == []


def test_columns_of_another_kind(tmp_path: Path) -> None:
    write_parquet(tmp_path / "stories.parquet", STORIES)
    write_parquet(tmp_path / "events.parquet", [GOOD | {"user": ["u"]}])
    write_mapping(tmp_path, mapping_of("parquet", **LISTS))
    message = "events.reader: the column 'user' of events.parquet holds List.*, not lists"
    with pytest.raises(TrainingError, match=message):
        read(tmp_path)
    write_parquet(tmp_path / "events.parquet", [GOOD | {"shown": [{"id": "a"}]}])
    message = "events.shown: the column 'shown' of events.parquet holds List.*, or lists of them"
    with pytest.raises(TrainingError, match=message):
        read(tmp_path)
