"""A mapping that can't be used is one line, which names the file, the setting and what is near."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from tests.support.site_logs import (
    impressions,
    mapping_of,
    stories,
    write_csv,
    write_jsonl,
    write_mapping,
    write_parquet,
)
from training.data.catalogue import StoryIds
from training.data.click_log import open_log
from training.data.logs.mapping import CLICK, read_mapping
from training.errors import TrainingError

LISTS = {"shown": "shown", "clicked": "clicked"}
GOOD = {**mapping_of("csv", **LISTS)}


def error_of(folder: Path, mapping: object) -> str:
    file = folder / "log.yaml"
    file.write_text(mapping if isinstance(mapping, str) else yaml.safe_dump(mapping))
    with pytest.raises(TrainingError) as error:
        read_mapping(file)
    assert str(error.value).startswith(str(file))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("stories", {"titel": "t"}, "unknown setting stories.titel; did you mean 'title'?"),
        ("stories", {"title": None}, "stories.title is missing"),
        ("stories", {"format": "excel"}, "stories.format: Input should be 'csv', 'jsonl' or"),
        ("stories", {"separator": "||"}, "stories.separator: String should have at most 1"),
        ("events", {"time": None}, "events.time is missing"),
        ("events", {"shown": None, "clicked": None}, "events: name `shown`"),
        ("events", {"story": "s"}, "events: name `shown`"),
        ("events", {"label": "l"}, "events: label does not go with shown"),
        ("events", {"labels": "l"}, "events: clicked and labels: name one of them"),
        ("events", {"click": ["0"]}, "events: '0' stands in click and in view"),
        ("history", {"file": "a.csv"}, "history: a history file needs file, reader and stories"),
        ("history", {"times": "t"}, "history: a history file needs file, reader and stories"),
        ("drawn", {"others": 3}, "drawn: the events say what was shown"),
        ("", {"zone": "Mars"}, "zone: 'Mars' is no time zone"),
        ("", {"time_format": "seconds"}, "time_format: 'seconds' is none of iso, unix_s"),
        ("", {"unknown_history": "keep"}, "unknown_history: Input should be 'drop' or 'error'"),
        ("", {"event": {}}, "unknown setting event; did you mean 'events'?"),
        ("", {"events": None}, "events is missing"),
    ],
)
def test_mistakes(part: str, change: dict[str, Any], message: str, tmp_path: Path) -> None:
    whole: dict[str, Any] = {name: dict(values) for name, values in GOOD.items()}
    place = whole.setdefault(part, {}) if part else whole
    place |= change
    for name in [name for name, value in place.items() if value is None]:
        del place[name]
    assert message in error_of(tmp_path, whole)


def test_mistakes_between_parts(tmp_path: Path) -> None:
    by_story = mapping_of("csv", story="s", label="l", reader=None, impression=None)
    assert "impression or reader must say which" in error_of(tmp_path, by_story)
    clicks = mapping_of("csv", story="s", position="p")
    assert "position has no meaning" in error_of(tmp_path, clicks)
    lists = mapping_of("csv", story="s", clicked="c")
    assert "clicked does not go with story" in error_of(tmp_path, lists)
    twice = mapping_of("csv", **LISTS, history="past") | {"history": {"clicks": True}}
    assert "history: the events have a column for it" in error_of(tmp_path, twice)


def test_what_is_no_mapping(tmp_path: Path) -> None:
    assert "must hold `stories:` and `events:`" in error_of(tmp_path, "[1, 2]")
    assert "is not YAML" in error_of(tmp_path, "a: {")
    with pytest.raises(TrainingError, match=r"nowhere\.yaml: No such file"):
        read_mapping(tmp_path / "nowhere.yaml")


def test_words_that_yaml_would_change_stay_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "log.yaml"
    text = yaml.safe_dump(mapping_of("csv", story="s", label="l"))
    file.write_text(text.replace("label: l", "label: l\n  click: [yes, 1.0]\n  view: NO"))
    events = read_mapping(file).events
    assert (events.click, events.view) == (("yes", "1.0"), ("no",))
    assert "yes" in CLICK


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_column_that_is_not_there(kind: str, tmp_path: Path) -> None:
    write = {"csv": write_csv, "jsonl": write_jsonl, "parquet": write_parquet}[kind]
    write(tmp_path / f"stories.{kind}", stories())
    write(tmp_path / f"events.{kind}", impressions())
    mapping = mapping_of(kind, **LISTS, history="pasts")
    message = (
        f"events.history: events.{kind} has no column 'pasts'; did you mean 'past'?; its columns:"
        " number, user, when, past, shown, clicked"
    )
    assert message in read_error(tmp_path, mapping)
    mapping["stories"]["title"] = "headline"
    message = f"stories.title: stories.{kind} has no column 'headline'; its columns: id, category"
    assert message in read_error(tmp_path, mapping)


def read(folder: Path) -> pl.DataFrame:
    log = open_log(folder, "train", None)
    ids = StoryIds(log.read_stories(0)[0]["id"])
    return log.read_impressions(ids, 50, 0)[0]


def read_error(folder: Path, mapping: dict[str, Any]) -> str:
    file = write_mapping(folder, mapping)
    with pytest.raises(TrainingError) as error:
        read(folder)
    assert str(error.value).startswith((str(file), "train/"))
    return str(error.value)


def test_files_that_are_not_there_or_do_not_tell_their_format(tmp_path: Path) -> None:
    write_csv(tmp_path / "stories.csv", stories())
    message = "events.file: no file events.csv in"
    assert message in read_error(tmp_path, GOOD)
    assert "which has log.yaml, stories.csv" in read_error(tmp_path, GOOD)
    write_csv(tmp_path / "events.txt", impressions())
    mapping = mapping_of("csv", **LISTS)
    mapping["events"]["file"] = "events.txt"
    assert "set events.format to csv, jsonl or parquet" in read_error(tmp_path, mapping)
    mapping["events"]["format"] = "parquet"
    assert "train/events.txt: " in read_error(tmp_path, mapping)
    mapping["events"]["format"] = "csv"
    write_mapping(tmp_path, mapping)
    assert len(read(tmp_path)) == 50
