"""The command from files to files, and its folders read back."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from app.scoring.encoder import Encoder
from app.scoring.profile import CATEGORIES, COMPACT, ORIGINAL, Layout, Profile
from app.scoring.prompt import PromptBuilder
from tests.support.models import BAD_MIND, MIND, ROOT
from training.__main__ import main
from training.data.manifest import Manifest
from training.data.prepared import PreparedData
from training.data.texts import write_texts
from training.errors import TrainingError
from training.evaluation.backends.service import ServiceBackend

ALL = ["--train", MIND / "train", "--val", MIND / "val", "--test", MIND / "test"]
FILES = {"news.parquet", "train.parquet", "val.parquet", "train.jsonl", "val.jsonl"} | {
    "dataset_info.json",
    "dropped.jsonl",
    "manifest.json",
}


def prepare(out: Path, *arguments: object) -> int:
    return main(["prepare", *map(str, arguments), "--out", str(out)])


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_whole_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "mind"
    assert prepare(out, *ALL) == 0
    assert {file.name for file in out.iterdir()} == FILES | {"test.parquet", "log.parquet"}
    assert [path.name for path in out.parent.iterdir()] == ["mind"]
    printed = capsys.readouterr().out
    assert "60 stories" in printed
    assert "18 impressions" in printed
    assert "next: python -m training finetune" in printed
    info = json.loads((out / "manifest.json").read_bytes())
    assert info["recipe"] == "temporal"
    assert info["options"]["negatives"] == 4
    assert info["rows"]["train/behaviors.tsv"]["rows"] == 50
    for name, file in info["files"].items():
        assert file["sha256"] == hashlib.sha256((out / name).read_bytes()).hexdigest()
    for split, counts in info["splits"].items():
        rows = pl.read_parquet(out / f"{split}.parquet")
        assert counts["impressions"] == len(rows)
        assert counts["candidates"] == rows["candidates"].explode().len()
        assert counts["mean_history"] == pytest.approx(rows["history"].list.len().mean(), abs=1e-3)
        if split != "test":
            flags = rows["clicked"].explode()
            assert counts["clicks"] == flags.sum()
            assert counts["positive_share"] == pytest.approx(flags.mean(), abs=1e-5)
            assert counts["texts"] == len(flags) == len(lines(out / f"{split}.jsonl"))
    assert info["splits"]["train"]["read"] == 50
    assert info["splits"]["train"]["impressions"] == 49  # one has no click
    assert info["splits"]["test"]["positive_share"] is None


@pytest.mark.parametrize(
    ("arguments", "layout", "history"),
    [
        (["--recipe", "original"], ORIGINAL, 3),
        (["--recipe", "temporal"], COMPACT, 20),
        (["--layout", "original", "--text-history", "2"], ORIGINAL, 2),
        (["--layout", "categories"], CATEGORIES, 20),
    ],
)
def test_text_is_what_serving_builds(
    tmp_path: Path, qwen3: Encoder, arguments: list[str], layout: Layout, history: int
) -> None:
    """As LLaMA-Factory puts them together by dataset_info.json and its template `qwen`."""
    assert prepare(tmp_path / "out", *ALL, *arguments) == 0
    info = json.loads((tmp_path / "out" / "dataset_info.json").read_bytes())
    builder = PromptBuilder(qwen3, Profile(layout=layout, history=history))
    data = PreparedData(tmp_path / "out")
    for split, name in (("train", "mind"), ("val", "mind_val")):
        columns = info[name]["columns"]
        samples = lines(data.folder / info[name]["file_name"])
        pairs = [
            (impression.reader, story, clicked)
            for impression in data.impressions(split)
            for story, clicked in zip(impression.candidates, impression.clicked or [], strict=True)
        ]
        assert len(samples) == len(pairs) > 0
        for sample, (reader, story, clicked) in zip(samples, pairs, strict=True):
            text = (
                f"<|im_start|>system\n{sample[columns['system']]}<|im_end|>\n"
                f"<|im_start|>user\n{sample[columns['prompt']]}<|im_end|>\n<|im_start|>assistant\n"
            )
            assert text == builder.text(reader, story)
            assert sample[columns["response"]] == ("Yes." if clicked else "No.")


def test_a_layout_that_is_no_chat_is_refused(tmp_path: Path) -> None:
    plain = Profile(layout=Layout(name="plain", head="", sections=(), before_target="", tail=""))
    with pytest.raises(TrainingError, match="layout plain is not a chat"):
        write_texts(tmp_path / "train.jsonl", [], plain)
    with pytest.raises(TrainingError, match="layout plain is not a chat"):
        ServiceBackend("news", "http://127.0.0.1:1", plain, 1)


@pytest.mark.parametrize("recipe", ["temporal", "original"])
def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, recipe: str) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        assert prepare(tmp_path / name, *ALL, "--recipe", recipe, "--seed", seed) == 0
    first, same, other = (contents(tmp_path / name) for name in "abc")
    assert first == same
    assert first["train.parquet"] != other["train.parquet"]
    assert first["news.parquet"] == other["news.parquet"]
    assert PreparedData(tmp_path / "a").data_hash != PreparedData(tmp_path / "c").data_hash


def test_the_last_day_validates_without_a_folder(tmp_path: Path) -> None:
    assert prepare(tmp_path / "day", "--train", MIND / "train") == 0
    early, late = (
        pl.read_parquet(tmp_path / "day" / f"{split}.parquet")["time"] for split in ("train", "val")
    )
    assert str(late.min()).startswith("2019-11-14 00")
    assert early.max() < late.min()  # type: ignore[operator]
    arguments = ["--train", MIND / "train", "--val-from", "2019-11-13T12:00"]
    assert prepare(tmp_path / "from", *arguments) == 0
    assert PreparedData(tmp_path / "from").count("val") > len(late)


def test_reading_a_folder_back(tmp_path: Path) -> None:
    assert prepare(tmp_path / "out", *ALL) == 0
    data = PreparedData(tmp_path / "out")
    assert [data.count(split) for split in ("train", "val", "test")] == [49, 18, 12]
    titles = {}
    for split in ("train", "val", "test"):
        for line in (MIND / split / "news.tsv").read_text(encoding="utf-8").splitlines():
            story, category, _, title, *_ = line.split("\t")
            titles[story] = (title, category)
    rows = (MIND / "val" / "behaviors.tsv").read_text(encoding="utf-8").splitlines()
    for impression, row in zip(data.impressions("val"), rows, strict=True):
        name, user, _, history, shown = row.split("\t")
        assert (impression.id, impression.user) == (name, user)
        past = [(story.title, story.category) for story in impression.reader.history]
        assert past == [titles[story] for story in history.split()]
        entries = [entry.split("-") for entry in shown.split()]
        assert impression.candidate_ids == [story for story, _ in entries]
        assert [story.title for story in impression.candidates] == [
            titles[story][0] for story in impression.candidate_ids
        ]
        assert impression.clicked == [label == "1" for _, label in entries]
    assert all(impression.clicked is None for impression in data.impressions("test"))
    everything = list(data.impressions("train"))
    assert list(data.impressions("train", limit=7)) == everything[:7]
    assert len(list(data.impressions("train", limit=1000))) == 49


def test_text_can_be_bounded(tmp_path: Path) -> None:
    assert prepare(tmp_path / "some", *ALL, "--text-samples", 50) == 0
    assert 40 < len(lines(tmp_path / "some" / "train.jsonl")) <= 50
    assert prepare(tmp_path / "none", *ALL, "--text-samples", 0) == 0
    assert lines(tmp_path / "none" / "train.jsonl") == []
    assert PreparedData(tmp_path / "none").count("train") == 49


def test_faulty_rows_stop_or_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare(tmp_path / "out", "--train", BAD_MIND) == 1
    assert "3 of 10 rows are faulty" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert prepare(tmp_path / "out", "--train", BAD_MIND, "--max-bad-share", 0.8) == 0
    dropped = lines(tmp_path / "out" / "dropped.jsonl")
    assert len(dropped) == 14
    assert {"file": "train/behaviors.tsv", "line": 4, "reason": "bad label"}.items() <= dropped[
        6
    ].items()
    rows = PreparedData(tmp_path / "out").manifest.rows
    assert rows["train/behaviors.tsv"].dropped == 9
    assert rows["train/behaviors.tsv"].kept_in_part == 1
    assert rows["train/news.tsv"].reasons["not UTF-8"] == 1
    assert "each faulty row is named in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "original", "--history", "9"], "--history belongs to --recipe temporal"),
        (["--history", "-1"], "--history -1: must be 0 or more"),
        (["--negatives", "0"], "--negatives 0: must be 1 or more"),
        (["--val-days", "0"], "--val-days 0: must be 1 or more"),
        (["--max-bad-share", "2"], "--max-bad-share 2.0: must be a share from 0 to 1"),
        (["--val-from", "Friday"], "--val-from Friday: write 2019-11-14"),
        (["--val-from", "2019-11-13T12:00Z"], "write 2019-11-14"),
        (["--val-from", "2018-01-01"], "set --val-from"),
        (["--val", str(MIND / "test")], "has no labels: give it as --test; found N"),
        (
            ["--test", "nowhere"],
            "nowhere/news.tsv: No such file or directory; expected a folder with",
        ),
        (["--train", str(MIND / "train" / "news.tsv")], "Not a directory"),
    ],
)
def test_mistakes_are_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert prepare(tmp_path / "out", "--train", MIND / "train", *arguments) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last
    assert not list(tmp_path.iterdir())


def test_nothing_to_balance_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "mind"
    source.mkdir()
    (source / "news.tsv").write_bytes((MIND / "train" / "news.tsv").read_bytes())
    row = "\tU1\t11/{day}/2019 8:00:00 AM\tN1\tN2-1 N3-0\n"
    (source / "behaviors.tsv").write_text(row.format(day=11) + row.format(day=12))
    assert prepare(tmp_path / "out", "--train", source, "--recipe", "original") == 1
    assert "none of the 1 impressions of train can be used: to balance" in capsys.readouterr().err


def test_a_folder_of_something_else_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "precious"
    out.mkdir()
    (out / "letters.txt").write_text("do not lose")
    assert prepare(out, *ALL) == 1
    assert "holds something else" in capsys.readouterr().err
    assert contents(out) == {"letters.txt": b"do not lose"}


def test_an_interrupted_run_leaves_the_old_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert prepare(out, *ALL) == 0
    before = contents(out)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "write", interrupt)
        assert prepare(out, *ALL, "--seed", 1) == 130
    assert contents(out) == before
    assert list(tmp_path.iterdir()) == [out]
    assert prepare(out, *ALL, "--seed", 1) == 0
    assert contents(out) != before


def test_a_terminated_run_leaves_nothing(tmp_path: Path) -> None:
    """As `docker stop` ends it, while it reads."""
    source, out = tmp_path / "mind", tmp_path / "out"
    source.mkdir()
    shutil.copy(MIND / "train" / "behaviors.tsv", source)
    os.mkfifo(source / "news.tsv")
    command = [sys.executable, "-m", "training", "prepare", "--train"]
    command += [str(source), "--out", str(out)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    with (source / "news.tsv").open("w"):  # waits for the reader
        process.terminate()
        assert process.wait(60) == 143
    assert list(tmp_path.iterdir()) == [source]


def test_the_benchmark_of_other_formats_runs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "loadtests.training.site_log", "--impressions", "200"]
    command += ["--stories", "300", "--formats", "MIND,history,stories shown"]
    done = subprocess.run(
        [*command, "--work", str(tmp_path)], cwd=ROOT, check=True, capture_output=True, text=True
    )
    figures = json.loads(done.stdout.splitlines()[-1])
    for way in ("MIND", "history", "stories shown"):
        assert 0.01 < figures[way]["peak_gib"] < 4
    assert not list(tmp_path.iterdir())


def test_the_scale_benchmark_runs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "loadtests.training.prepare", "--mind", str(MIND / "train")]
    command += ["--impressions", "230", "--stories", "100", "--baseline-share", "0.5"]
    done = subprocess.run(
        [*command, "--work", str(tmp_path)], cwd=ROOT, check=True, capture_output=True, text=True
    )
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["impressions"] == 230
    assert figures["stories"] >= 100
    for way in ("original", "temporal", "original, row by row"):
        assert figures[way]["seconds"] > 0
        assert 0.01 < figures[way]["peak_gib"] < 4
    assert not list(tmp_path.iterdir())
