"""evaluate with a ranker in the model's folder, on the invented data: the figures, by the command
and otherwise; and the impressions that it must not be measured on."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from app.likeness.tower import read_tower
from app.ranker.features import NAMES, TEXT
from app.ranker.ranker import DESCRIPTION_FILE, FIRST_STAGE_FILE, RANKER_FILE, load_ranker
from app.signals.counters import HalfLives
from tests.support.evaluate_runs import PROFILE
from tests.support.models import make_lora, make_tiny_qwen3
from tests.support.one_by_one import OneByOne
from tests.support.tiny_encoder import make_tiny_encoder
from training.__main__ import main
from training.data.prepared import PreparedData
from training.evaluation.backends.transformers import TransformersBackend
from training.ranking import fit
from training.ranking.moments import Catalogue
from training.ranking.rows import read_scores, write_scores
from training.ranking.score import keys_of
from training.ranking.vectors import story_vectors
from training.tuning.sources import find_source

QUICK = ["--bootstrap", "50", "--dtype", "float32", "--speed-seconds", "0", "--text-pairs", "0"]
NAMED = ["text alone", "click-through alone", "trees without text", "all"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evaluate-ranker")


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Path:
    (folder / "encoder").mkdir()
    return make_tiny_encoder(folder / "encoder")


@pytest.fixture(scope="module")
def model(folder: Path, encoder: Path, prepared: Path) -> Path:
    """An adapter with a tower, and a ranker that learned from all impressions before val."""
    base = make_tiny_qwen3(folder / "base")
    make_lora(base, folder / "model", seed=1, **PROFILE.model_dump(mode="json"))
    arguments = ["--data", str(prepared), "--encoder", str(encoder)]
    assert main(["tower", *arguments, "--output", str(folder / "model")]) == 0
    data = PreparedData(prepared)
    log = data.log().collect().drop_nulls("clicked")
    random = np.random.default_rng(0)
    labels = zip(keys_of(log), log["clicked"].to_list(), strict=True)
    scores = {key: random.normal(np.array(flags) * 2.0, 1).tolist() for key, flags in labels}
    write_scores(folder / "text.parquet", scores)
    towered = ["--tower", str(folder / "model"), "--output", str(folder / "tower.parquet")]
    assert main(["score", *arguments, *towered]) == 0
    arguments += ["--text", str(folder / "text.parquet"), "--output", str(folder / "model")]
    arguments += ["--tower", str(folder / "tower.parquet")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(fit.COMMON, "min_data_in_leaf", 5)  # of so few candidates, no tree would grow
        assert main(["rank", *arguments, "--test-from", times_of(prepared, "val")[0]]) == 0
    return folder / "model"


def times_of(prepared: Path, split: str) -> list[str]:
    """Of a split's impressions, in order, in ISO 8601."""
    times = pl.read_parquet(prepared / f"{split}.parquet")["time"].sort()
    return times.dt.strftime("%Y-%m-%dT%H:%M:%S").to_list()


def evaluate(model: Path, data: Path, output: Path, *more: str) -> dict[str, Any]:
    arguments = ["evaluate", "--data", str(data), "--model", f"news={model}", *QUICK, *more]
    assert main([*arguments, "--output", str(output)]) == 0
    found = json.loads((output / "evaluation.json").read_bytes())
    ranker: dict[str, Any] = found["models"][0].get("ranker")
    return ranker


@pytest.fixture(scope="module")
def measured(model: Path, prepared: Path, folder: Path, encoder: Path) -> dict[str, Any]:
    return evaluate(model, prepared, folder / "run", "--encoder", str(encoder))


def test_figures_are_those_of_trees_asked_one_impression_after_the_other(
    measured: dict[str, Any], model: Path, prepared: Path, folder: Path, encoder: Path
) -> None:
    """Live figures and features by the code that serves, the tower's scores by `score`."""
    towered = read_scores(folder / "tower.parquet")
    data, ranker = PreparedData(prepared), load_ranker(model)
    assert ranker is not None
    titles = [story.title for story in data.stories]
    vectors = story_vectors(prepared, encoder, titles, range(len(titles)))
    log = data.log().collect()
    catalogue = Catalogue([story.category for story in data.stories], vectors)
    moments = OneByOne(catalogue, HalfLives()).moments(log)
    known = log.drop_nulls("clicked")
    features = dict(zip(keys_of(known), moments, strict=True))
    rows = list(data.impressions("val"))
    backend = TransformersBackend(find_source(model, None), 4096, "float32")
    answers = backend.score(rows)
    found: dict[str, list[float]] = {name: [] for name in NAMED}
    for key, row, answer in zip(
        keys_of(pl.read_parquet(prepared / "val.parquet")), rows, answers, strict=True
    ):
        matrix = features[key].features
        matrix[:, NAMES.index("tower")] = towered[key]
        matrix[:, TEXT] = np.log(answer.probability / (1 - answer.probability))
        if len(set(row.clicked or [])) == 2:
            without = matrix.copy()
            without[:, TEXT] = np.nan
            given = (
                matrix[:, TEXT],
                matrix[:, NAMES.index("rate")],
                ranker.first_probability(without),
                ranker.probability(matrix),
            )
            for name, scores in zip(NAMED, given, strict=True):
                found[name].append(float(roc_auc_score(row.clicked, scores)))
    assert measured["refused"] is None
    assert [line["name"] for line in measured["lines"]] == NAMED
    for line in measured["lines"]:
        auc = line["figures"]["auc"]
        assert auc["value"] == pytest.approx(np.mean(found[line["name"]]), abs=2e-3), line["name"]
        assert auc["low"] <= auc["value"] <= auc["high"]
    assert len({line["figures"]["auc"]["value"] for line in measured["lines"]}) == len(NAMED)


def test_what_is_known_of_stories_and_what_text_adds(
    measured: dict[str, Any], prepared: Path
) -> None:
    text, _, without, every = measured["lines"]
    clicks = pl.read_parquet(prepared / "val.parquet")["clicked"].explode().sum()
    assert sum(measured["clicks"].values()) == clicks
    assert {f"auc {known}" for known in measured["clicks"]} <= set(every["figures"])
    for other, change in ((text, every["differences"]), (without, measured["text_adds"])):
        difference = every["figures"]["auc"]["value"] - other["figures"]["auc"]["value"]
        assert change["auc"]["value"] == pytest.approx(difference)
    assert every["ece"] >= 0
    assert text["ece"] is None
    assert text["differences"] == {}


def test_the_page_shows_the_ranker(measured: dict[str, Any], folder: Path) -> None:
    assert main(["report", str(folder / "run")]) == 0
    page = (folder / "run" / "report.html").read_text(encoding="utf-8")
    for text in ("With the ranker", *NAMED, "AUC, shown 11-100", "What the language model adds"):
        assert text in page


def describe(model: Path, **changes: Any) -> None:
    """Change what ranker.json says."""
    file = model / DESCRIPTION_FILE
    file.write_text(json.dumps(json.loads(file.read_bytes()) | changes))


def test_impressions_that_it_learned_from_are_refused(
    model: Path, prepared: Path, folder: Path, encoder: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(model, tmp_path / "copy"))
    cases: list[tuple[dict[str, Any], list[str], str]] = [
        ({"learned_until": None}, [], "does not say until when it learned"),
        ({"learned_until": times_of(prepared, "val")[-1]}, [], "measured here are not later"),
        ({}, ["--split", "train"], "holds a sample of what was shown"),
        ({}, ["--encoder", str(tmp_path)], "needs the sentence encoder encoder: give --encoder"),
    ]
    for changes, more, message in cases:
        shutil.copy(model / DESCRIPTION_FILE, copy)
        describe(copy, **changes)
        arguments = ["--limit", "4", "--encoder", str(encoder), *more]
        found = evaluate(copy, prepared, tmp_path / "run", *arguments)
        assert message in found["refused"]
        assert found["lines"] == []
    assert main(["report", str(tmp_path / "run")]) == 0
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Not measured:" in page


def test_a_tower_that_learned_later_counts_too(
    model: Path, prepared: Path, encoder: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(model, tmp_path / "copy"))
    tower = read_tower(copy)
    assert tower is not None
    assert tower.learned_until == times_of(prepared, "train")[-1]
    replace(tower, learned_until="2030-01-01T00:00:00").write(copy)
    arguments = ["--limit", "4", "--encoder", str(encoder)]
    found = evaluate(copy, prepared, tmp_path / "run", *arguments)
    assert "until 2030-01-01 00:00:00, and 4 of the 4" in found["refused"]


def test_a_model_without_a_ranker_has_none(models: Path, prepared: Path, tmp_path: Path) -> None:
    assert evaluate(models / "base", prepared, tmp_path / "run", "--limit", "4") is None


def test_orders_are_compared_as_they_are_served(
    model: Path, prepared: Path, encoder: Path, tmp_path: Path
) -> None:
    """By the language model alone, by the ranker, and by the ranker again: pair by pair, so that a
    model has no difference from itself."""
    plain = Path(shutil.copytree(model, tmp_path / "plain"))
    for name in (DESCRIPTION_FILE, RANKER_FILE, FIRST_STAGE_FILE):
        (plain / name).unlink()
    named = [f"--model=again={model}", "--encoder", str(encoder)]
    evaluate(model, prepared, tmp_path / "one", *named)
    named = [f"--model=ranked={model}", "--encoder", str(encoder)]
    evaluate(plain, prepared, tmp_path / "other", *named)
    one, other = (
        [model.get("order") for model in json.loads(file.read_bytes())["models"]]
        for file in (tmp_path / name / "evaluation.json" for name in ("one", "other"))
    )
    assert [order["by_ranker"] for order in one] == [True, True]
    assert one[0]["differences"] == {}
    for name, change in one[1]["differences"].items():
        assert change == {"value": 0, "low": 0, "high": 0}, name
    assert other[0] is None
    assert other[1]["by_ranker"]
    change = other[1]["differences"]["auc"]
    run = json.loads((tmp_path / "other/evaluation.json").read_bytes())["models"][1]
    text, _, _, every = run["ranker"]["lines"]
    assert change["value"] == pytest.approx(every["differences"]["auc"]["value"])
    assert change["low"] == pytest.approx(every["differences"]["auc"]["low"], abs=0.1)
    assert run["order"]["figures"]["auc"]["value"] == every["figures"]["auc"]["value"]
    assert run["order"]["ece"] == every["ece"]
    assert text["figures"]["auc"]["value"] == pytest.approx(run["figures"]["auc"]["value"])
