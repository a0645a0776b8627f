"""MIND's files against a plain reading of them, and every kind of faulty row by its line."""

import shutil
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from tests.support.models import BAD_MIND, MIND
from training.data import lines, mind
from training.data.catalogue import StoryIds, merge_stories
from training.data.faults import FileReport
from training.errors import TrainingError

BAD_NEWS = {
    3: ("wrong column count", "7 instead of 8", False),
    5: ("empty title", "N91", False),
    7: ("repeated story id", "N2", False),
    10: ("not UTF-8", "", False),
}
BAD_BEHAVIORS = {
    2: ("wrong column count", "6 instead of 5", False),
    3: ("unknown story", "N77", False),
    4: ("bad label", "N4-2", False),
    5: ("bad time", "2019-11-11 09:30", False),
    6: ("no candidates", "", False),
    7: ("empty user id", "", False),
    8: ("unknown story in history", "N88 N99", True),
    9: ("not UTF-8", "", False),
    11: ("wrong column count", "1 instead of 5", False),
    12: ("bad label", "N1", False),
}


def read(
    folder: Path, history: int = 50, share: float = 0.0
) -> tuple[pl.DataFrame, pl.DataFrame, list[FileReport]]:
    news, first = mind.read_news(folder, "news.tsv", share)
    ids = StoryIds(news["id"])
    rows, second = mind.read_behaviors(folder, "behaviors.tsv", ids, history, share)
    return news, rows, [first, second]


def read_plainly(folder: Path, history: int) -> list[tuple[object, ...]]:
    lines = (folder / "news.tsv").read_text(encoding="utf-8").splitlines()
    index = {line.split("\t")[0]: number for number, line in enumerate(lines)}
    rows: list[tuple[object, ...]] = []
    for line in (folder / "behaviors.tsv").read_text(encoding="utf-8").splitlines():
        impression, user, when, past, shown = line.split("\t")
        codes = []
        for entry in shown.split():
            story, _, label = entry.partition("-")
            codes.append(2 * index[story] + int(label or 0))
        moment = datetime.strptime(when, "%m/%d/%Y %I:%M:%S %p")
        known = [index[story] for story in past.split()][-history:]
        rows.append((impression, user, moment, known, codes, "-" in shown))
    return rows


def faults(report: FileReport) -> dict[int, tuple[str, str, bool]]:
    found = {fault.line: (fault.reason, fault.detail, fault.kept) for fault in report.faults}
    assert len(found) == len(report.faults)
    return found


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("history", [50, 3])
def test_rows_are_what_a_plain_reading_gives(split: str, history: int) -> None:
    news, rows, reports = read(MIND / split, history)
    assert rows.rows() == read_plainly(MIND / split, history)
    assert [report.rows for report in reports] == [len(news), len(rows)]
    assert not any(report.faults for report in reports)


def test_stories_keep_quotes_and_lose_nothing() -> None:
    news, _, _ = read(MIND / "train")
    lines = (MIND / "train" / "news.tsv").read_text(encoding="utf-8").splitlines()
    assert news["title"].to_list() == [line.split("\t")[3] for line in lines]
    assert any('"' in title for title in news["title"])
    assert news["abstract"].null_count() == sum(not line.split("\t")[4] for line in lines) > 0


def test_each_faulty_row_is_named_by_line_and_reason() -> None:
    news, rows, (of_news, of_behaviors) = read(BAD_MIND, share=1.0)
    assert faults(of_news) == BAD_NEWS
    assert faults(of_behaviors) == BAD_BEHAVIORS
    assert of_news.rows == len(news) + len(BAD_NEWS)
    assert rows["impression"].to_list() == ["1", "8", "10", "13"]
    assert rows["history"].to_list() == [[0, 1], [0, 1], [], [0, 1]]  # line 8 without N88 and N99


def test_a_double_space_is_a_fault_of_its_own(tmp_path: Path) -> None:
    shutil.copy(MIND / "train" / "news.tsv", tmp_path)
    row = "1\tU1\t11/11/2019 8:00:00 AM\tN1\tN2-1  N3-0\n"
    (tmp_path / "behaviors.tsv").write_text(row)
    assert faults(read(tmp_path, share=1.0)[2][1]) == {1: ("double space", "", False)}


def test_too_large_a_share_stops_with_the_lines() -> None:
    with pytest.raises(TrainingError, match=r"news.tsv: 3 of 10 rows are faulty \(30.0%.*line 5"):
        read(BAD_MIND, share=0.2)
    with pytest.raises(TrainingError, match=r"news.tsv: 4 of 10.*repeated story id 1 \(line 7\)"):
        read(BAD_MIND, share=0.3)
    with pytest.raises(TrainingError, match=r"behaviors.tsv: 10 of 13 rows .*lines? 4, 12"):
        read(BAD_MIND, share=0.5)


def test_an_error_names_what_was_found_and_what_was_expected(tmp_path: Path) -> None:
    good = (MIND / "train" / "news.tsv").read_text(encoding="utf-8").splitlines()[:2]
    news, behaviors = tmp_path / "news.tsv", tmp_path / "behaviors.tsv"
    news.write_text("\n".join(line.replace("\t", ",") for line in good) + "\n")
    with pytest.raises(TrainingError, match=r"found '1 instead of 8', expected tab-separated .*id"):
        read(tmp_path, share=0.5)
    news.write_text("\n".join(good) + "\n")
    ids = [line.split("\t")[0] for line in good]
    rows = {
        "2019-11-15 08:55\tN1-1": "found '2019-11-15 08:55', expected 11/13/2019 8:36:57 AM",
        f"11/15/2019 8:55:22 AM\t{ids[0]}-yes {ids[1]}-0": "expected N1-1 or N1-0",
        "11/15/2019 8:55:22 AM\tn77777-1": "found 'n77777', expected an id of a news.tsv",
    }
    for row, message in rows.items():
        time, shown = row.split("\t")
        behaviors.write_text(f"1\tU1\t{time}\t{ids[0]}\t{shown}\n" * 2)
        with pytest.raises(TrainingError) as error:
            read(tmp_path, share=0.5)
        assert message in str(error.value)
    behaviors.unlink()
    (tmp_path / "behaviors.csv").touch()
    with pytest.raises(
        TrainingError, match=r"expected a folder with .*, found behaviors.csv, news"
    ):
        read(tmp_path)


def test_blocks_of_any_size_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    folders = (MIND / "train", BAD_MIND)
    whole = [read(folder, share=1.0) for folder in folders]
    for size in (7, 100, 1001):
        monkeypatch.setattr(lines, "BLOCK_BYTES", size)
        for folder, (news, rows, reports) in zip(folders, whole, strict=True):
            again = read(folder, share=1.0)
            assert again[0].equals(news)
            assert again[1].equals(rows)
            for found, expected in zip(again[2], reports, strict=True):
                assert faults(found) == faults(expected)
                assert (found.rows, found.sha256) == (expected.rows, expected.sha256)


def test_windows_line_ends_and_byte_order_mark(tmp_path: Path) -> None:
    for name in ("news.tsv", "behaviors.tsv"):
        content = (MIND / "train" / name).read_bytes().replace(b"\n", b"\r\n")
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + content)
    news, rows, _ = read(tmp_path)
    expected_news, expected_rows, _ = read(MIND / "train")
    assert news.equals(expected_news)
    assert rows.equals(expected_rows)


def test_a_missing_and_an_empty_file_say_so(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"news.tsv: No such file"):
        read(tmp_path)
    (tmp_path / "news.tsv").touch()
    with pytest.raises(TrainingError, match=r"news.tsv: the file is empty"):
        read(tmp_path)


def test_the_first_row_of_a_story_counts() -> None:
    train, val = (mind.read_news(MIND / name, name, 0)[0] for name in ("train", "val"))
    changed = val.with_columns(title=pl.lit("another title"))
    merged = merge_stories([train, changed])
    assert merged["id"].is_unique().all()
    assert merged[: len(train)].equals(train)
    assert set(merged["id"]) == set(train["id"]) | set(val["id"])
