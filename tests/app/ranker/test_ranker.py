"""Features and the fitted trees that are served."""

from dataclasses import replace
from pathlib import Path

import lightgbm
import numpy as np
import pytest

from app.likeness.tower import TOWER_FILE, read_tower
from app.ranker.features import FEATURES, NAMES, VERSION, Floats, Known, count_matches, features
from app.ranker.ranker import (
    DESCRIPTION_FILE,
    FIRST_STAGE_FILE,
    RANKER_FILE,
    Description,
    RankerError,
    describe_trees,
    load_ranker,
    spreads,
)
from app.scoring.profile import RANKER_FILES
from app.signals.live import Figures, LiveFigures
from tests.support.models import ADAPTER


def random_matrix(count: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=(count, len(NAMES)))


def fit(matrix: Floats, clicked: Floats) -> lightgbm.Booster:
    data = lightgbm.Dataset(matrix, clicked, feature_name=list(NAMES))
    options = {"objective": "binary", "verbose": -1, "num_threads": 1, "min_data_in_leaf": 5}
    return lightgbm.train(options, data, num_boost_round=10)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a small ranker, fitted on invented clicks."""
    matrix = random_matrix(400)
    clicked = (matrix[:, 0] + matrix[:, -1] > 1).astype(np.float64)
    fit(matrix, clicked).save_model(tmp_path / RANKER_FILE)
    fit(matrix, 1 - clicked).save_model(tmp_path / FIRST_STAGE_FILE)
    described = Description(
        version=VERSION,
        features=NAMES,
        encoder="all-minilm-l6-v2",
        tower=True,
        objective="binary",
        half_life_s=None,
        recent_half_life_s=3600,
        ranker=describe_trees(tmp_path / RANKER_FILE, 0.9, -0.2),
        first_stage=describe_trees(tmp_path / FIRST_STAGE_FILE, 1.0, 0.0),
        spreads=spreads(matrix),
    )
    (tmp_path / DESCRIPTION_FILE).write_text(described.model_dump_json())
    return tmp_path


def unknown(count: int) -> Figures:
    names = [str(number) for number in range(count)]
    return LiveFigures().figures(names, [None] * count, 0.0)


def known(count: int) -> Known:
    zeros = np.zeros(count)
    return Known(unknown(count), None, None, zeros, 0, zeros, zeros, hour=12.5)


def test_features_of_a_candidate_that_nothing_is_known_of() -> None:
    row = dict(zip(NAMES, features(known(1))[0], strict=True))
    assert {name for name, value in row.items() if np.isnan(value)} == {
        *("cosine_mean", "cosine_max", "cosine_best", "cosine_latest", "tower", "text")
    }
    assert row["hour"] == 12.5
    assert all(row[n] == 0 for n, g in FEATURES.items() if g in ("live", "category"))


def test_features_of_known_candidates() -> None:
    figures = replace(
        unknown(2),
        clicks=np.array([8.0, 0.0]),
        exposure=np.array([90.0, 90.0]),
        shown=np.array([100.0, 90.0]),
        age_s=np.array([7200.0, 0.0]),
        site_rate=0.04,
    )
    found = features(
        replace(
            known(2),
            figures=figures,
            cosines=np.arange(8, dtype=np.float64).reshape(2, 4),
            category_count=np.array([3.0, 0.0]),
            history_length=6,
            text=np.array([-2.0, -4.0]),
        )
    )
    first, second = (dict(zip(NAMES, row, strict=True)) for row in found)
    assert first["rate"] == pytest.approx(np.log((8 + 0.4) / 100 / 0.04))
    assert second["rate"] == pytest.approx(np.log(0.4 / 100 / 0.04))
    assert (first["age_hours"], first["category_share"]) == (2, 0.5)
    assert (second["cosine_mean"], second["cosine_latest"], second["text"]) == (4, 7, -4)


def test_matches_are_counted_and_nothing_matches_nothing() -> None:
    assert count_matches(["a", "b", None], ["a", "a", None, "c"]).tolist() == [2, 0, 0]
    assert count_matches([], []).shape == (0,)


def test_a_folder_without_a_ranker_is_served_as_before(tmp_path: Path) -> None:
    assert load_ranker(tmp_path) is None
    (tmp_path / RANKER_FILE).write_text("tree")
    with pytest.raises(RankerError, match=r"without its ranker\.json"):
        load_ranker(tmp_path)


def test_the_shipped_adapter_carries_a_ranker() -> None:
    ranker, tower = load_ranker(ADAPTER), read_tower(ADAPTER)
    assert ranker is not None
    assert tower is not None
    assert ranker.description.encoder == tower.encoder == "all-minilm-l6-v2"
    likely = features(known(2))
    likely[:, NAMES.index("text")] = [-2, -6]
    likely[:, NAMES.index("rate")] = [1, -1]
    assert ranker.probability(likely)[0] > 1.5 * ranker.probability(likely)[1]
    assert ranker.first_probability(likely)[0] > ranker.first_probability(likely)[1]


def test_the_files_that_travel_are_the_rankers() -> None:
    assert set(RANKER_FILES) == {DESCRIPTION_FILE, RANKER_FILE, FIRST_STAGE_FILE, TOWER_FILE}


def test_contributions_add_up_to_the_log_odds(folder: Path) -> None:
    ranker = load_ranker(folder)
    assert ranker is not None
    matrix = random_matrix(20, seed=1)
    groups, base = ranker.full.contributions(matrix)
    total = base + sum(groups.values())
    assert total == pytest.approx(ranker.full.log_odds(matrix))
    probability = ranker.probability(matrix)
    assert probability == pytest.approx(1 / (1 + np.exp(-total)))
    assert not np.allclose(groups["live"], 0)
    assert ranker.first_probability(matrix[:0]).shape == (0,)
    assert not np.allclose(ranker.first_probability(matrix), probability)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (DESCRIPTION_FILE, '"version":1', '"version":0', "fit it again"),
        (DESCRIPTION_FILE, '"slope":0.9', '"slope":-1', r"ranker\.slope"),
        (DESCRIPTION_FILE, '"rate"', '"other"', "fit it again"),
        (RANKER_FILE, "feature_names=rate", "feature_names=other", r"ranker\.txt is not the file"),
        (FIRST_STAGE_FILE, "tree_sizes=", "tree_sizes=9", r"first_stage\.txt is not the file"),
    ],
)
def test_files_that_do_not_fit_are_refused(
    folder: Path, file: str, old: str, new: str, message: str
) -> None:
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1))
    with pytest.raises(RankerError, match=message):
        load_ranker(folder)


def test_trees_on_other_features_are_refused(folder: Path) -> None:
    data = lightgbm.Dataset(random_matrix(100)[:, :2], np.arange(100) % 2)
    lightgbm.train({"verbose": -1}, data, 2).save_model(folder / RANKER_FILE)
    described = Description.model_validate_json((folder / DESCRIPTION_FILE).read_bytes())
    own = describe_trees(folder / RANKER_FILE, 1.0, 0.0)
    described = described.model_copy(update={"ranker": own})
    (folder / DESCRIPTION_FILE).write_text(described.model_dump_json())
    with pytest.raises(RankerError, match="other features"):
        load_ranker(folder)


def test_a_missing_or_broken_file_is_named(folder: Path) -> None:
    (folder / FIRST_STAGE_FILE).unlink()
    with pytest.raises(RankerError, match=r"first_stage\.txt can't be read"):
        load_ranker(folder)
    (folder / DESCRIPTION_FILE).write_text("{")
    with pytest.raises(RankerError, match=r"ranker\.json: the whole file"):
        load_ranker(folder)
