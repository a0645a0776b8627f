"""What a reader clicked strictly earlier, against a plain reading of the log; and drawn stories."""

from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.support.site_logs import (
    WRITERS,
    impressions,
    mapping_of,
    stories,
    write_mapping,
    write_parquet,
)
from training.__main__ import main
from training.data.prepared import PreparedData

LISTS = {"shown": "shown", "clicked": "clicked"}


def prepare(folder: Path, *arguments: object) -> PreparedData:
    out = folder / "out"
    words = ["prepare", "--train", str(folder), "--out", str(out), *map(str, arguments)]
    assert main(words) == 0
    return PreparedData(out)


def history_of(data: PreparedData) -> dict[str, list[str]]:
    """Ids by impression."""
    rows = data.log().collect().select("impression", "history").iter_rows()
    return {name: [data.story_ids[story] for story in history] for name, history in rows}


def plain_history(row: dict[str, Any], clicks: list[tuple[str, datetime, str]]) -> list[str]:
    mine = sorted((when, n, story) for n, (user, when, story) in enumerate(clicks)
                  if user == row["user"] and when < row["when"])  # fmt: skip
    return list(dict.fromkeys(story for _, _, story in mine))


def log_clicks() -> list[tuple[str, datetime, str]]:
    return [
        (row["user"], row["when"], story)
        for row in impressions()
        for story in row["shown"]
        if story in row["clicked"]
    ]


@pytest.mark.parametrize("keep", [50, 2])
def test_the_logs_own_clicks(keep: int, tmp_path: Path) -> None:
    write_parquet(tmp_path / "stories.parquet", stories())
    write_parquet(tmp_path / "events.parquet", impressions())
    write_mapping(tmp_path, mapping_of("parquet", **LISTS))
    found = history_of(prepare(tmp_path, "--history", keep))
    clicks = log_clicks()
    expected = {str(r["number"]): plain_history(r, clicks)[-keep:] for r in impressions()}
    assert found == expected
    assert max(map(len, found.values())) > 1


def test_no_history(tmp_path: Path) -> None:
    write_parquet(tmp_path / "stories.parquet", stories())
    write_parquet(tmp_path / "events.parquet", impressions())
    write_mapping(tmp_path, mapping_of("parquet", **LISTS) | {"history": {"clicks": False}})
    assert not any(history_of(prepare(tmp_path)).values())


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize(("clicks", "keep"), [(True, 50), (False, 50), (False, 2)])
def test_a_file_with_times(kind: str, clicks: bool, keep: int, tmp_path: Path) -> None:
    """Also with clicks that are later than the impression, which must not be known to it."""
    rows = impressions()
    WRITERS[kind](tmp_path / f"stories.{kind}", stories())
    WRITERS[kind](tmp_path / f"events.{kind}", rows)
    past: dict[str, dict[str, Any]] = {}
    known: list[tuple[str, datetime, str]] = []
    for number, row in enumerate(rows):
        mine = past.setdefault(row["user"], {"who": row["user"], "what": [], "at": []})
        when = row["when"] - timedelta(hours=number % 5 - 2)
        mine["what"] += [stories()[number % 40]["id"], "unknown"]
        mine["at"] += [when.isoformat()] * 2
        known.append((row["user"], when, stories()[number % 40]["id"]))
    WRITERS[kind](tmp_path / f"past.{kind}", list(past.values()))
    table = {"file": f"past.{kind}", "reader": "who", "stories": "what", "times": "at"}
    mapping = mapping_of(kind, **LISTS) | {"history": table | {"clicks": clicks}}
    write_mapping(tmp_path, mapping)
    data = prepare(tmp_path, "--history", keep)
    known += log_clicks() if clicks else []
    expected = {str(row["number"]): plain_history(row, known)[-keep:] for row in rows}
    assert history_of(data) == expected
    assert data.manifest.rows[f"train/past.{kind}"].unknown_history == len(rows)


def test_a_file_without_times_comes_before_all(tmp_path: Path) -> None:
    write_parquet(tmp_path / "stories.parquet", stories())
    write_parquet(tmp_path / "events.parquet", impressions())
    past = [{"who": "U1", "what": ["N5", "N3", "N4"]}, {"who": "nobody", "what": ["N6"]}]
    write_parquet(tmp_path / "past.parquet", past)
    table = {"file": "past.parquet", "reader": "who", "stories": "what"}
    write_mapping(tmp_path, mapping_of("parquet", **LISTS) | {"history": table})
    found = history_of(prepare(tmp_path))
    clicks = [("U1", datetime(2000, 1, 1), story) for story in ("N5", "N3", "N4")]
    clicks += log_clicks()
    assert found == {str(row["number"]): plain_history(row, clicks) for row in impressions()}


def test_lists_of_other_lengths_are_faults(tmp_path: Path) -> None:
    write_parquet(tmp_path / "stories.parquet", stories())
    write_parquet(tmp_path / "events.parquet", impressions())
    at = [datetime(2019, 11, 1)]
    past = [{"who": "U1", "what": ["N5", "N3"], "at": at}, {"who": "U2", "what": ["N6"], "at": at}]
    write_parquet(tmp_path / "past.parquet", past)
    table = {"file": "past.parquet", "reader": "who", "stories": "what", "times": "at"}
    write_mapping(tmp_path, mapping_of("parquet", **LISTS) | {"history": table})
    words = ["prepare", "--train", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main(words) == 1
    data = prepare(tmp_path, "--max-bad-share", 0.5)
    assert data.manifest.rows["train/past.parquet"].reasons == {"lists do not match": 1}
    assert any(history[:1] == ["N6"] for history in history_of(data).values())


def test_a_later_folder_knows_the_clicks_of_an_earlier_one(tmp_path: Path) -> None:
    rows = sorted(impressions(), key=lambda row: row["when"])
    mapping = mapping_of("parquet", **LISTS)
    for name, part in (("early", rows[:30]), ("late", rows[30:])):
        (tmp_path / name).mkdir()
        write_parquet(tmp_path / name / "stories.parquet", stories())
        write_parquet(tmp_path / name / "events.parquet", part)
    file = write_mapping(tmp_path, mapping)
    words = ["--val", tmp_path / "late", "--log", file]
    out = tmp_path / "out"
    command = ["prepare", "--train", tmp_path / "early", *words, "--out", out]
    assert main(list(map(str, command))) == 0
    expected = {str(row["number"]): plain_history(row, log_clicks()) for row in rows}
    assert history_of(PreparedData(out)) == expected


CLICKS = 400


def click_table(folder: Path) -> list[dict[str, Any]]:
    """One click a row: 12 readers, and stories of which the first are clicked more often."""
    ids = [story["id"] for story in stories()]
    rows = [
        {
            "user": f"U{number % 12}",
            "when": datetime(2026, 11, 1) + timedelta(minutes=10 * number),
            "story": ids[number * number % 7 if number % 3 else number % 40],
        }
        for number in range(CLICKS)
    ]
    write_parquet(folder / "stories.parquet", stories())
    write_parquet(folder / "events.parquet", rows)
    mapping = mapping_of("parquet", story="story", impression=None)
    write_mapping(folder, mapping | {"drawn": {"others": 6, "hours": 12}})
    return rows


def test_clicks_without_impressions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside each click are stories that others clicked in the hours before, and nothing else."""
    rows = click_table(tmp_path)
    data = prepare(tmp_path, "--negatives", 6)
    assert "the stories beside each click were drawn" in capsys.readouterr().out
    assert data.manifest.drawn
    found = [*data.impressions("train"), *data.impressions("val")]
    assert CLICKS - 5 < len(found) < CLICKS  # of the first, nothing is known
    by_id = {str(number): row for number, row in enumerate(rows, 1)}
    mine = {(row["user"], row["story"]) for row in rows}
    places: Counter[int] = Counter()
    for one in found:
        row = by_id[one.id]
        assert one.clicked is not None
        clicked = [
            s for s, is_click in zip(one.candidate_ids, one.clicked, strict=True) if is_click
        ]
        others = set(one.candidate_ids) - set(clicked)
        assert clicked == [row["story"]]
        start = row["when"] - timedelta(hours=12)
        live = {r["story"] for r in rows if start <= r["when"] < row["when"]}
        assert others <= live - {story for user, story in mine if user == row["user"]}
        assert 1 <= len(others) <= 6
        assert not one.reader.disliked
        places[one.clicked.index(True)] += 1
    assert len(places) > 4  # the place does not tell
    assert not (data.folder / "log.parquet").exists()


def test_what_needs_real_impressions_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    click_table(tmp_path)
    data = prepare(tmp_path)
    words = ["--output", str(tmp_path / "ranker")]
    assert main(["rank", "--data", str(data.folder), *words]) == 1
    assert "Live figures need impressions, so no ranker can be fitted" in capsys.readouterr().err
    words = ["prepare", "--train", str(tmp_path), "--recipe", "original"]
    assert main([*words, "--out", str(tmp_path / "original")]) == 1
    assert "--recipe original needs what was shown" in capsys.readouterr().err


def test_the_same_seed_draws_the_same(tmp_path: Path) -> None:
    click_table(tmp_path)
    hashes = [prepare(tmp_path, "--seed", seed).data_hash for seed in (1, 1, 2)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_clicks_of_one_reader_have_nothing_beside_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row | {"user": "U1"} for row in click_table(tmp_path)]
    write_parquet(tmp_path / "events.parquet", rows)
    assert main(["prepare", "--train", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    message = "of 400 clicks none has another reader's click in the 12 hours before it"
    assert message in capsys.readouterr().err
    assert pl.read_parquet(tmp_path / "events.parquet").height == CLICKS
