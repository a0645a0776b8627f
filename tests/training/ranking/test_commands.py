"""tower, score and rank on the invented data set: each reads what the one before has written."""

import json
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from app.likeness.tower import ReaderEncoder, read_tower
from app.ranker.features import NAMES, TEXT
from app.ranker.ranker import load_ranker
from app.scoring.profile import RANKER_FILES
from tests.support.models import MIND, ROOT, make_tiny_qwen3
from tests.support.tiny_encoder import make_tiny_encoder
from training.__main__ import main
from training.data.prepared import PreparedData
from training.ranking.log import Log
from training.ranking.rank import choose_impressions, evenly
from training.ranking.rows import read_scores, write_scores
from training.ranking.score import keys_of


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranking")


@pytest.fixture(scope="module")
def encoder(work: Path) -> Path:
    folder = work / "encoder"
    folder.mkdir()
    return make_tiny_encoder(folder)


@pytest.fixture(scope="module")
def tower_scores(work: Path, encoder: Path, prepared: Path) -> Path:
    arguments = ["--data", str(prepared), "--encoder", str(encoder)]
    assert main(["tower", *arguments, "--output", str(work / "tower")]) == 0
    file = work / "tower.parquet"
    arguments += ["--tower", str(work / "tower"), "--output", str(file)]
    assert main(["score", *arguments]) == 0
    return file


@pytest.fixture(scope="module")
def text_scores(work: Path, prepared: Path) -> Path:
    """Log-odds of a model that has looked: likelier for clicks, but not always."""
    random = np.random.default_rng(0)
    log = PreparedData(prepared).log().collect().drop_nulls("clicked")
    rows = zip(keys_of(log), log["clicked"].to_list(), strict=True)
    scores = {key: random.normal(np.array(clicked) * 2.0, 1).tolist() for key, clicked in rows}
    write_scores(work / "text.parquet", scores)
    return work / "text.parquet"


def rank(prepared: Path, output: Path, *arguments: str) -> int:
    return main(["rank", "--data", str(prepared), "--output", str(output), *arguments])


def test_every_impression_gets_a_score_a_candidate(tower_scores: Path, prepared: Path) -> None:
    log = PreparedData(prepared).log().collect()
    scores = read_scores(tower_scores)
    assert len(scores) == len(log)
    sizes = [len(scores[key]) for key in keys_of(log)]
    assert sizes == log["candidates"].list.len().to_list()
    tower = read_tower(tower_scores.parent / "tower")
    assert tower is not None
    assert tower.encoder == "encoder"
    assert ReaderEncoder(tower.tensors).width == 48


def test_a_language_model_scores_the_days_asked_for(work: Path, prepared: Path) -> None:
    model = work / "model"
    model.mkdir()
    make_tiny_qwen3(model)
    log = PreparedData(prepared).log().collect()
    start = log["time"].dt.date().max()
    arguments = ["--data", str(prepared), "--model", str(model), "--from", str(start)]
    assert main(["score", *arguments, "--output", str(work / "model.parquet")]) == 0
    scores = read_scores(work / "model.parquet")
    late = log.filter(pl.col("time").dt.date() >= start)
    assert 0 < len(scores) == len(late) < len(log)
    assert all(np.isfinite(row).all() for row in scores.values())


def test_a_ranker_is_fitted_measured_and_can_be_served(
    work: Path,
    prepared: Path,
    encoder: Path,
    tower_scores: Path,
    text_scores: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    start = PreparedData(prepared).log().collect()["time"].quantile(0.75)
    output = work / "ranker"
    arguments = ["--encoder", str(encoder), "--tower", str(tower_scores), "--refit"]
    arguments += ["--text", str(text_scores), "--test-from", f"{start:%Y-%m-%dT%H:%M}"]
    assert rank(prepared, output, *arguments, "--within", str(prepared)) == 0
    printed = capsys.readouterr().out
    for line in ("text alone", "click-through alone", "trees without text", "all - text alone"):
        assert line in printed
    ranker = load_ranker(output)
    assert ranker is not None
    assert ranker.description.encoder == "encoder"
    assert ranker.description.spreads["text"].missing == 0
    matrix = np.zeros((3, len(NAMES)))
    matrix[:, TEXT] = [-3, 0, 3]
    probability = ranker.probability(matrix)
    assert ((probability > 0) & (probability < 1)).all()
    assert {file.name for file in output.iterdir()} >= set(RANKER_FILES[:3])


def test_what_can_not_be_used_is_named(
    work: Path, prepared: Path, text_scores: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = [
        ([], "give --text FILE"),
        (["--text", str(prepared / "news.parquet")], "holds no scores"),
        (["--text", str(text_scores), "--dropout", "1"], "--dropout 1.0: must be"),
        (["--text", str(text_scores), "--test-from", "2000-01-01"], "can't calibrate it"),
    ]
    for arguments, message in cases:
        assert rank(prepared, work / "faulty", *arguments) == 1
        assert message in capsys.readouterr().err
    short = work / "short.parquet"
    write_scores(short, {keys_of(PreparedData(prepared).log().collect())[0]: [0.5]})
    assert rank(prepared, work / "faulty", "--text", str(short)) == 1
    assert "candidates, but 1 scores" in capsys.readouterr().err


def test_which_impressions_are_learned_from() -> None:
    start = datetime(2019, 11, 9)
    rows = pl.DataFrame(
        {
            "time": [start + timedelta(hours=hour) for hour in range(10)],
            "user": [f"u{hour}" for hour in range(10)],
            "candidates": [[1, 2]] * 10,
            "clicked": [[True, False]] * 4 + [None] + [[True, False]] * 5,
        }
    )
    log, hours = Log(rows.lazy()), np.arange(10)
    nothing = np.zeros(10, np.bool_)

    def chosen(judged: list[int], towered: list[int], most: int, test: int | None) -> list[int]:
        time = None if test is None else start + timedelta(hours=test)
        scored = np.isin(hours, judged), np.isin(hours, towered)
        kept = choose_impressions(log, *scored, most, time)
        return [int(place) for place in np.flatnonzero(kept)]

    assert chosen([2, 6], [], 100, None) == [0, 1, 2, 3, 5, 6, 7, 8, 9]  # 4 has no labels
    assert chosen([2, 6], [], 4, None) == [2, 6, 8, 9]  # the scored ones, then the newest
    assert chosen([1, 2, 3], [], 2, None) == [2, 3]
    assert chosen([2, 6], [4, 7, 8], 4, None) == [2, 6, 7, 8]
    assert chosen([2, 6], [1, 4], 4, None) == [1, 2, 6, 9]
    assert chosen([1, 2, 3], [], 2, 8) == [2, 3, 8, 9]
    assert evenly(nothing, 3).sum() == 0
    assert np.flatnonzero(evenly(hours >= 4, 3)).tolist() == [4, 6, 8]
    assert evenly(hours >= 4, 30).sum() == 6


def test_the_scale_benchmark_runs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "loadtests.training.rank", "--mind", str(MIND / "train")]
    command += ["--impressions", "460", "--stories", "100", "--learn", "300"]
    done = subprocess.run(
        [*command, "--work", str(tmp_path)], cwd=ROOT, check=True, capture_output=True, text=True
    )
    figures = json.loads(done.stdout.splitlines()[-1])
    for way in ("prepare", "all features, no vectors", "rank, 300 learned"):
        assert 0.01 < figures[way]["peak_gib"] < 4
    assert not list(tmp_path.iterdir())
