"""tower, score and rank on the invented data set: each reads what the one before has written."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from app.likeness.tower import ReaderEncoder, read_tower
from app.ranker.features import NAMES, TEXT
from app.ranker.ranker import load_ranker
from app.scoring.profile import RANKER_FILES
from tests.support.models import make_tiny_qwen3
from tests.support.tiny_encoder import make_tiny_encoder
from training.__main__ import main
from training.data.prepared import PreparedData
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
    log = PreparedData(prepared).log().filter(pl.col("clicked").is_not_null())
    rows = zip(keys_of(log), log["clicked"].to_list(), strict=True)
    scores = {key: random.normal(np.array(clicked) * 2.0, 1).tolist() for key, clicked in rows}
    write_scores(work / "text.parquet", scores)
    return work / "text.parquet"


def rank(prepared: Path, output: Path, *arguments: str) -> int:
    return main(["rank", "--data", str(prepared), "--output", str(output), *arguments])


def test_every_impression_gets_a_score_a_candidate(tower_scores: Path, prepared: Path) -> None:
    log = PreparedData(prepared).log()
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
    log = PreparedData(prepared).log()
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
    start = PreparedData(prepared).log()["time"].quantile(0.75)
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
    write_scores(short, {keys_of(PreparedData(prepared).log())[0]: [0.5]})
    assert rank(prepared, work / "faulty", "--text", str(short)) == 1
    assert "candidates, but 1 scores" in capsys.readouterr().err
