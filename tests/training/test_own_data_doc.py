"""docs/your-own-data.md as a reader follows it: every example row, every setting, all commands."""

import json
import re
from concurrent.futures import Future
from pathlib import Path

import polars as pl
import pytest
import yaml
from pydantic import BaseModel

from app.ranker.ranker import load_ranker
from tests.support.models import ROOT
from tests.support.own_data_page import (
    ARTICLE_COLUMNS,
    BEHAVIOR_COLUMNS,
    HISTORY_COLUMNS,
    PAGE,
    make_ebnerd,
)
from tests.support.training_page import blocks
from training.__main__ import main
from training.data.catalogue import StoryIds
from training.data.click_log import open_log
from training.data.logs.histories import clicks_of
from training.data.logs.mapping import CLICK, PARTS, VIEW, Drawn, Mapping
from training.data.logs.site import SiteLog
from training.data.prepared import PreparedData

MAPPINGS = [b.mark for b in blocks(PAGE) if b.language == "yaml" and b.mark]
READER_CLICKS = ("r7", ["s1", "s2"], ["s3", "s4", "s5"], ["s4"], "2026-11-01 08:30:00")


@pytest.fixture
def output(own_data_run: Future[str]) -> str:
    """What the commands print."""
    found = own_data_run.result()
    print(found)  # shown where a test fails
    return found


def write_examples(folder: Path) -> None:
    for block in blocks(PAGE):
        if block.mark:
            (folder / block.mark).write_text(block.text, encoding="utf-8")


@pytest.mark.parametrize("name", [*MAPPINGS, None])
def test_each_example_row_says_the_same(name: str | None, tmp_path: Path) -> None:
    """None: MIND's files without a mapping."""
    write_examples(tmp_path)
    log = open_log(tmp_path, "train", None if name is None else tmp_path / name)
    news, reports = log.read_stories(0.0)
    ids = StoryIds(news["id"])
    rows, found = log.read_impressions(ids, 50, 0.0)
    if isinstance(log, SiteLog) and log.builds_history:
        rows, more = log.add_history(rows, clicks_of(rows), ids, 50, 0.0)
        found += more
    assert not any(report.faults or report.unknown_history for report in reports + found)
    assert (len(rows), len(news)) == (1, 5)
    row = rows.row(0, named=True)
    names = news["id"].to_list()
    shown = [names[code // 2] for code in row["shown"]]
    clicked = [names[code // 2] for code in row["shown"] if code % 2]
    history = [names[story] for story in row["history"]]
    assert (row["user"], history, shown, clicked, str(row["time"])) == READER_CLICKS
    assert row["impression"] == "i1"


def test_the_description_is_what_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (shown,) = (block.text for block in blocks(PAGE) if block.language == "text")
    (tmp_path / "shop").mkdir()
    write_examples(tmp_path / "shop")
    (tmp_path / "shop/impressions-csv.yaml").rename(tmp_path / "shop/log.yaml")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    assert main(["prepare", "--train", "shop", "--describe", "--out", "out"]) == 0
    assert capsys.readouterr().out == shown
    assert sorted(tmp_path.rglob("*")) == before


def test_every_setting_is_in_the_table_and_no_other() -> None:
    section = PAGE.read_text("utf-8").split("## The mapping")[1].split("## Look")[0]
    named = set()
    for row in re.findall(r"^\| (.*?) \|", section, re.M):
        named |= set(re.findall(r"`(\w+)`", row))
    models: list[type[BaseModel]] = [Mapping, *PARTS.values()]
    assert named == {name for model in models for name in model.model_fields}
    labels = section.split("By default ")[1].split(".")[0]
    for words, default in zip(labels.split(" are clicks; "), (CLICK, VIEW), strict=True):
        found = re.split(r", | and ", words.removesuffix(" are not"))
        assert {"" if word == "an empty cell" else word for word in found} == set(default)
    assert f"({Drawn().others})" in section
    assert f"({Drawn().hours:g})" in section


def test_the_mapping_shown_is_the_one_that_is_used() -> None:
    (shown,) = (b.text for b in blocks(PAGE) if b.language == "yaml" and not b.mark)
    file = ROOT / "examples" / "logs" / "ebnerd.yaml"
    assert yaml.safe_load(shown) == yaml.safe_load(file.read_text("utf-8"))


def test_ebnerds_test_split_has_no_labels(tmp_path: Path) -> None:
    make_ebnerd(tmp_path / "ebnerd")
    log = ["--log", str(ROOT / "examples/logs/ebnerd.yaml")]
    words = [f"--{split}={tmp_path / 'ebnerd' / split}" for split in ("train", "test")]
    assert main(["prepare", *words, *log, "--out", str(tmp_path / "out")]) == 0
    data = PreparedData(tmp_path / "out")
    assert data.manifest.splits["test"].clicks is None
    assert data.manifest.splits["test"].mean_history > 5
    words = ["prepare", "--train", str(tmp_path / "ebnerd" / "test"), *log]
    assert main([*words, "--out", str(tmp_path / "other")]) == 1


def test_the_fixture_has_ebnerds_columns(tmp_path: Path) -> None:
    """As its pages list them."""
    make_ebnerd(tmp_path / "ebnerd")
    for name, columns in (
        ("articles.parquet", ARTICLE_COLUMNS),
        ("train/behaviors.parquet", BEHAVIOR_COLUMNS),
        ("train/history.parquet", HISTORY_COLUMNS),
    ):
        assert pl.read_parquet_schema(tmp_path / "ebnerd" / name) == columns


def test_the_served_adapters_answer(output: str) -> None:
    starts = [match.start() for match in re.finditer(r'\{"id":', output)]
    answers = [json.JSONDecoder().raw_decode(output, start)[0] for start in starts]
    assert [a["model"] for a in answers] == ["ebnerd-v1", "teasers-v1", "clicks-v1"]
    assert all(0 < answer["probability"] < 1 for answer in answers)
    assert [answer["ranker"] for answer in answers] == [True, False, False]


def test_what_the_commands_leave(output: str, own_data_folder: Path) -> None:
    data = {n: PreparedData(own_data_folder / "data" / n) for n in ("ebnerd", "teasers", "clicks")}
    assert {name: found.manifest.drawn for name, found in data.items()} == {
        "ebnerd": False,
        "teasers": False,
        "clicks": True,
    }
    assert not any(rows.reasons for found in data.values() for rows in found.manifest.rows.values())
    assert data["ebnerd"].count("train") == data["ebnerd"].count("val") == 40
    assert data["teasers"].manifest.splits["train"].read == 80 - data["teasers"].count("val")
    assert data["ebnerd"].manifest.splits["val"].mean_history > 5  # and clicks of the log
    assert load_ranker(own_data_folder / "models/ebnerd-v1") is not None
    assert output.count("nothing was written") == 3
