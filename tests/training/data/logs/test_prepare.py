"""The command on other logs: the same bytes as from MIND's files, cuts by time, descriptions."""

from pathlib import Path

import pytest

from tests.support.models import BAD_MIND, MIND
from tests.support.site_logs import (
    WRITERS,
    impressions,
    mapping_of,
    stories,
    write_csv,
    write_mapping,
)
from training.__main__ import main
from training.data.prepared import PreparedData

COLUMNS = {"shown": "shown", "clicked": "clicked", "history": "past"}


def make(folder: Path, kind: str, split: str = "train") -> Path:
    folder.mkdir()
    WRITERS[kind](folder / f"stories.{kind}", stories(split))
    WRITERS[kind](folder / f"events.{kind}", impressions(split))
    return folder


def prepare(out: Path, *arguments: object) -> int:
    return main(["prepare", *map(str, arguments), "--out", str(out)])


@pytest.mark.parametrize("kind", WRITERS)
def test_the_same_log_gives_the_same_bytes(kind: str, tmp_path: Path) -> None:
    """So whatever comes after prepare is the same, too."""
    named = [(f"--{split}", MIND / split) for split in ("train", "val")]
    assert prepare(tmp_path / "mind", *(word for pair in named for word in pair)) == 0
    folders = [(f"--{s}", make(tmp_path / s, kind, s)) for s in ("train", "val")]
    file = write_mapping(tmp_path, mapping_of(kind, **COLUMNS))
    words = [word for pair in folders for word in pair]
    assert prepare(tmp_path / "other", *words, "--log", file) == 0
    mine, theirs = (PreparedData(tmp_path / name) for name in ("other", "mind"))
    assert {n: f.sha256 for n, f in mine.manifest.files.items()} == {
        name: f.sha256 for name, f in theirs.manifest.files.items()
    }
    assert mine.data_hash == theirs.data_hash
    assert "log.parquet" in mine.manifest.files


def test_a_log_and_minds_files_go_together(tmp_path: Path) -> None:
    """A folder with log.yaml is read by it, and one without as MIND's."""
    train = make(tmp_path / "train", "csv")
    write_mapping(train, mapping_of("csv", **COLUMNS))
    assert prepare(tmp_path / "out", "--train", train, "--val", MIND / "val") == 0
    assert prepare(tmp_path / "mind", "--train", MIND / "train", "--val", MIND / "val") == 0
    hashes = [PreparedData(tmp_path / name).data_hash for name in ("out", "mind")]
    assert hashes[0] == hashes[1]


def test_parts_of_one_log_by_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = make(tmp_path / "train", "jsonl")
    write_mapping(train, mapping_of("jsonl", **COLUMNS))
    times = sorted(row["when"] for row in impressions())
    words = ["--train", train, "--test-from", times[40].isoformat()]
    words += ["--val-from", times[30].isoformat()]
    assert prepare(tmp_path / "out", *words) == 0
    data = PreparedData(tmp_path / "out")
    read = {name: counts.read for name, counts in data.manifest.splits.items()}
    assert read == {"train": 30, "val": 10, "test": 10}
    assert data.manifest.splits["test"].clicks is not None
    assert prepare(tmp_path / "late", "--train", train, "--test-from", "2030-01-01") == 1
    message = "the test would begin at 2030-01-01 00:00:00, but impressions are from"
    assert message in (error := capsys.readouterr().err)
    assert "set --test-from" in error
    assert prepare(tmp_path / "late", "--train", train, "--test-from", "Monday") == 1
    assert "--test-from Monday: write 2019-11-14" in capsys.readouterr().err


def test_a_log_without_labels_is_for_tests_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = make(tmp_path / "train", "parquet")
    write_mapping(train, mapping_of("parquet", shown="shown"))
    assert prepare(tmp_path / "out", "--train", train) == 1
    message = "nothing says which of the stories shown, such as N23, were clicked: name clicked"
    assert message in capsys.readouterr().err
    assert prepare(tmp_path / "out", "--train", MIND / "train", "--test", train) == 0
    assert PreparedData(tmp_path / "out").manifest.splits["test"].clicks is None


def test_a_description_tells_faults_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = make(tmp_path / "train", "csv")
    rows = impressions()
    rows[0] |= {"when": "noon"}
    rows[1] |= {"past": ["N1", "gone"], "user": ""}
    write_csv(train / "events.csv", rows)
    write_mapping(train, mapping_of("csv", **COLUMNS))
    before = sorted(tmp_path.rglob("*"))
    assert prepare(tmp_path / "out", "--train", train, "--describe", 10) == 0
    assert sorted(tmp_path.rglob("*")) == before
    text = capsys.readouterr().out
    for line in (
        f"train: {train}, read by {train / 'log.yaml'}",
        "events of train/events.csv: time = when, reader = user, impression = number",
        "the first row's time, noon, is no time",
        "the first 10 rows of events give 9 impressions",
        "(1 impressions are anonymous)",
        "train/events.csv: 1 entries of histories are unknown",
        "train/events.csv: 1 of 10 rows are faulty: bad time 1 (row 1): found 'noon', expected in",
    ):
        assert line in text
    assert text.count("  impression ") == 3


def test_a_description_of_minds_files_and_of_a_test(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["prepare", "--train", str(BAD_MIND), "--test", str(MIND / "test"), "--describe", "3"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert f"train: {BAD_MIND}, read by MIND's layout" in text
    assert "the first 3 rows of events give 1 impressions" in text
    assert "train/behaviors.tsv: 2 of 3 rows are faulty: unknown story 1 (line 3)" in text
    assert "shown, without labels: " in text
    assert main([*words[:-1], "0"]) == 1
    assert "--describe 0: must be 1 or more" in capsys.readouterr().err


def test_a_mapping_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--train", MIND / "train", "--log", tmp_path / "log.yaml"]
    assert prepare(tmp_path / "out", *words) == 1
    assert "log.yaml: No such file or directory" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
